"""The site's CA on disk: `ca.init`, and what a build reads of it.

    configs/ca/root.crt                 the root's certificate: configuration, public
    configs/ca/<host>.crt               a host's intermediate certificate
    <out>/root.key                      the root's encrypted key, and its certificate once more:
                                        to be kept offline
    <data>/<site>/<host>/               intermediate.key (encrypted), .password and .crt:
                                        what is delivered to the host's CA as secrets

`out` is <data>/<site> unless another folder is named; <data> is ours below XDG_DATA_HOME. No
private key is ever written inside of the project. Nothing that is there is replaced. Each step is
one rename, keys before certificates, so the next run takes up what an interrupted one has left.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from . import authority, disk
from .authority import Issuer
from .problems import UserError

ROOT = "root.crt"
INTERMEDIATE = "intermediate"
# Shorter passphrases fall to a search, once the encrypted key is lost.
SHORTEST = 10
_NEW = ".phoenix-new-"

# Gives the root key's passphrase; asked twice where it is a new one.
Ask = Callable[[bool], bytes]


@dataclass(frozen=True, slots=True)
class Plan:
    """What `init` is to make, and where.

    `hosts` are all of the site's; with `only` just that one's intermediate is made. No key goes
    into one of the folders in `forbidden` (the project, configs/, dist/), or below.
    """

    site: str
    hosts: tuple[str, ...]
    configs: Path
    forbidden: tuple[Path, ...]
    data: Path
    out: Path | None = None
    only: str | None = None
    root_lifetime: timedelta = timedelta(days=3650)
    intermediate_lifetime: timedelta = timedelta(days=1825)

    def keys(self) -> Path:
        """The folder of the hosts' intermediate keys, one folder for each."""
        return self.data / self.site

    def root(self) -> Path:
        """The folder of the root's key."""
        return self.keys() if self.out is None else self.out

    def published(self, name: str) -> Path:
        """A certificate's place in the configuration."""
        return self.configs / "ca" / name


@dataclass(frozen=True, slots=True)
class Done:
    """The root's key if it was made now, and of each host the folder of its intermediate."""

    root_key: Path | None
    hosts: tuple[tuple[str, Path], ...]

    def told(self) -> str:
        """What to tell the operator, one line each."""
        lines = [f"{host}: {folder}" for host, folder in self.hosts]
        if self.root_key is not None:
            lines.append(f"root key: {self.root_key}: move it to a safe place that is offline")
        return "\n".join(lines)


def certificates(configs: Path, host: str) -> tuple[bytes | None, bytes | None]:
    """The root's and the host's intermediate certificate, PEM, as far as they are there.

    UserError where a private key lies in their place: it would end in an artifact.
    """
    found = []
    for name in (ROOT, f"{host}.crt"):
        path = configs / "ca" / name
        with disk.telling(path.parent):
            data = disk.content(path)
        if b"PRIVATE KEY" in data:
            raise UserError(f"{path} holds a private key", "move the key out of the project")
        found.append(data or None)
    return found[0], found[1]


def asking(file: Path | None) -> Ask:
    """How to get the root key's passphrase: from a file's first line, else on the terminal."""

    def read(new: bool) -> bytes:
        if file is not None:
            with disk.telling(file):
                return _long_enough(file.read_bytes().partition(b"\n")[0], new)
        if not sys.stdin.isatty():
            raise UserError("no terminal to ask for a passphrase on", "add --password-file FILE")
        word = getpass.getpass("Passphrase of the root key: ").encode()
        if new and getpass.getpass("The same again: ").encode() != word:
            raise UserError("the two passphrases differ")
        return _long_enough(word, new)

    return read


def _long_enough(word: bytes, new: bool) -> bytes:
    if new and len(word) < SHORTEST:
        raise UserError(f"the passphrase is too short: at least {SHORTEST} bytes are needed")
    return word


def init(plan: Plan, ask: Ask, now: datetime | None = None) -> Done:
    """Make the root where there is none, and the intermediates that are missing; publish both.

    Raises UserError for a place that no key may go to, for what would be replaced, for a root key
    that is not there or does not open, and for what the file system refuses.
    """
    for folder in (plan.root(), plan.keys()):
        _outside(folder, plan.forbidden)
    hosts = _missing(plan)
    with disk.telling(plan.data):
        _folder(plan.data)
        _folder(plan.keys())
        with disk.locked(plan.data / ".lock"):
            for folder in (plan.root(), plan.keys(), plan.configs / "ca"):
                _sweep(folder)
            return _make(plan, hosts, ask, now or datetime.now(UTC))


def _missing(plan: Plan) -> list[str]:
    """The hosts that get an intermediate."""
    if "root" in plan.hosts:
        raise UserError(f"a host named 'root' has no room beside {ROOT}", "rename the host")
    if plan.only is not None and plan.only not in plan.hosts:
        raise UserError(f"no host is named {plan.only!r}", f"known: {', '.join(plan.hosts)}")
    there = [host for host in plan.hosts if os.path.lexists(plan.published(f"{host}.crt"))]
    if plan.only in there:
        hint = "keep it, or move it and the folder of its key away first"
        raise UserError(f"{plan.only} has its CA already", hint)
    if there and not plan.published(ROOT).exists():
        path = plan.published(f"{there[0]}.crt")
        raise UserError(f"{path} is there without {ROOT}", f"bring {ROOT} back, or move it away")
    hosts = [host for host in plan.hosts if host not in there and plan.only in (None, host)]
    if not hosts:
        raise UserError("the site has its CA already, and each host its intermediate")
    return hosts


def _make(plan: Plan, hosts: list[str], ask: Ask, now: datetime) -> Done:
    root, word = _kept(plan), b""
    new = root is None
    if root is None:
        word = ask(True)
        root = authority.make_root(plan.site, word, plan.root_lifetime, now)
        _folder(plan.root())
        _save(_root_key(plan), root.key + root.certificate)
    made = [(host, plan.keys() / host) for host in hosts]
    lacking = [host for host, folder in made if not _whole(folder, host, root.certificate)]
    if lacking:
        if not root.key:
            hint = "name the folder that it was moved to: --out FOLDER"
            raise UserError(f"the root's key is not at {_root_key(plan)}", hint)
        opened = authority.opened(root, word or ask(False))
        for host in lacking:
            _make_intermediate(plan, host, opened, now)
    for name, data in _public(made, root.certificate):
        if not os.path.lexists(plan.published(name)):
            plan.published(name).parent.mkdir(parents=True, exist_ok=True)
            _save(plan.published(name), data, 0o644)
    return Done(_root_key(plan) if new else None, tuple(made))


def _root_key(plan: Plan) -> Path:
    return plan.root() / "root.key"


def _kept(plan: Plan) -> Issuer | None:
    """The root that is there: published, or left by a run that was cut off before that. Its key
    is empty where it is kept elsewhere."""
    begin = b"-----BEGIN CERTIFICATE"
    key, _, certificate = disk.content(_root_key(plan)).partition(begin)
    published = disk.content(plan.published(ROOT))
    if published:
        return Issuer(published, key)
    if certificate:
        return Issuer(begin + certificate, key)
    if os.path.lexists(_root_key(plan)):
        hint = "move it away, or bring back its certificate"
        raise UserError(f"there is another key already: {_root_key(plan)}", hint)
    return None


def _whole(folder: Path, host: str, root: bytes) -> bool:
    """Whether the host's keys are there already, by a run that was cut off before it published."""
    if not os.path.lexists(folder):
        return False
    names = {f"{INTERMEDIATE}.{end}" for end in ("crt", "key", "password")}
    held = disk.content(folder / f"{INTERMEDIATE}.crt")
    if not names <= set(disk.names(folder)) or authority.check(root, held, host):
        raise UserError(f"{folder} holds another CA", "move it away first")
    return True


def _make_intermediate(plan: Plan, host: str, root: authority.Opened, now: datetime) -> None:
    word = secrets.token_urlsafe(32).encode()
    lifetime = plan.intermediate_lifetime
    made = authority.make_intermediate(plan.site, host, root, word, lifetime, now)
    with tempfile.TemporaryDirectory(dir=plan.keys(), prefix=_NEW) as staging:
        new = Path(staging) / host
        new.mkdir(mode=0o700)
        parts = {"key": made.key, "password": word, "crt": made.certificate}
        for end, data in parts.items():
            _save(new / f"{INTERMEDIATE}.{end}", data)
        new.rename(plan.keys() / host)
    _fsync(plan.keys())


def _public(made: list[tuple[str, Path]], root: bytes) -> Iterable[tuple[str, bytes]]:
    yield ROOT, root
    for host, folder in made:
        yield f"{host}.crt", disk.content(folder / f"{INTERMEDIATE}.crt")


def _outside(folder: Path, forbidden: Iterable[Path]) -> None:
    """Refuse a folder that is, or lies below, a forbidden one, by whatever links it is reached."""
    real = Path(os.path.realpath(folder))
    for step in (real, *real.parents):
        for one in forbidden:
            if step == Path(os.path.realpath(one)) or _same(step, one):
                hint = "name a folder outside of the project: --out FOLDER"
                raise UserError(f"a private key must not lie in {folder}: that is in {one}", hint)


def _same(one: Path, other: Path) -> bool:
    """Whether both are one folder, as under a bind mount."""
    return one.exists() and other.exists() and one.samefile(other)


def _folder(path: Path) -> None:
    """Make a folder that only its owner can enter; one that is there stays as it is."""
    if not path.is_dir():
        path.mkdir(mode=0o700, parents=True)


def _sweep(folder: Path) -> None:
    for name in disk.names(folder):
        if name.startswith(_NEW):
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _save(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file, whole or not at all. Made with 0600, which also vfat, as on a stick, takes."""
    file, new = tempfile.mkstemp(dir=path.parent, prefix=_NEW)
    try:
        with os.fdopen(file, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        if mode != 0o600:
            os.chmod(new, mode)
        os.rename(new, path)
    except BaseException:
        # An interrupt may come right after the rename.
        with suppress(FileNotFoundError):
            os.unlink(new)
        raise
    _fsync(path.parent)


def _fsync(folder: Path) -> None:
    with disk.opened(folder) as held:
        os.fsync(held)
