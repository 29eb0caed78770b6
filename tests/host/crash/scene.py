"""What is done to a host in the proofs, and how what is left of it is judged."""

from __future__ import annotations

import errno
import gzip
import hashlib
import io
import itertools
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.host import back, files, generations, transaction
from builder.host.host import UndoneError
from builder.host.paths import Paths
from builder.host.release import release
from builder.host.schema import RefusedError
from builder.host.serve import Session
from builder.host.state import load_journal
from builder.host.store import Store
from builder.host.stream import Parts
from builder.host.transaction import Limits
from tests.host.crash.machine import Machine
from tests.host.crash.releases import SECRET, made

HOME = "var/lib/phoenix"
_COUNT = itertools.count()
_FOUND: Mapping[str, str] = {
    "etc/network/interfaces": "# by hand\nauto lo\niface lo inet loopback\n",
    "etc/pve/.vmlist": '{"ids": {}}',
    "etc/pve/lxc/100.conf": "arch: amd64\nonboot: 1\nrootfs: local:100\n",
    "etc/pve/firewall/100.fw": "[OPTIONS]\nenable: 1\n",
    "etc/sysctl.d/10-own.conf": "kernel.panic = 10\n",
    "run/guests/100": '{"conf": "", "process": 1, "live": "a", "slots": {}, "units": null}',
    "run/network/interfaces": "# by hand\nauto lo\niface lo inet loopback\n",
    "run/sysctl/10-own.conf": "kernel.panic = 10\n",
    "var/lib/vz/template/debian.tar": "",
    "var/lib/pve-cluster/config.db": "",
}
_FOLDERS = (
    "etc/systemd/system/multi-user.target.wants",
    "etc/systemd/system/sysinit.target.wants",
    "etc/phoenix",
    "run/lock/lxc",
    "run/guests",
    f"{HOME}/store",
)


@dataclass(frozen=True, slots=True)
class Scene:
    """A run of the host program: from the host at `before`, and what it does there."""

    name: str
    before: str
    does: Callable[[Machine], None]


def went(number: int, confirm: int | None = None, settle: bool = False) -> Callable[..., None]:
    def go(machine: Machine) -> None:
        host = machine.host()
        transaction.activate(host, number, "test", Limits(confirm=confirm), settle=settle)
        if confirm:
            transaction.confirm(host, number, "test")

    return go


def _undone(machine: Machine) -> None:
    """The second release, but what closes its transaction fails when the journal has gone."""
    sync, home = files.sync_folder, machine.paths.home

    def fails(path: Path) -> None:
        if path == home and not machine.paths.journal.exists():
            files.sync_folder = sync
            raise OSError(errno.EIO, "failed")
        sync(path)

    files.sync_folder = fails
    try:
        with suppress(UndoneError):
            went(2)(machine)
    finally:
        files.sync_folder = sync


SCENES = (
    Scene("install", "1", went(2)),
    Scene("rollback", "2", went(1, settle=True)),
    Scene("first", "0", went(1)),
    Scene("confirmed", "1", went(2, confirm=60)),
    Scene("leave", "1", went(0, settle=True)),
    Scene("undone", "1", _undone),
)


def staged(machine: Machine, manifest: bytes) -> Session:
    """A deployer's connection with a release that is staged; its signature is taken for good."""
    session = Session(machine.host(), lambda *_: iter(()))
    session.wanted = (manifest, b"-", release(manifest))
    return session


def _deployed(machine: Machine, name: str = "parcel") -> None:
    """A release as a deployer brings it; without a name, the second one."""
    parcel = machine.root.parent / name
    session = staged(machine, (parcel / "manifest").read_bytes())
    for _ in range(5):
        if not (lacking := next(session._lacking({}))["lacking"]):
            break
        data = b"".join((parcel / name).read_bytes()[begun:] for name, _, begun in lacking)
        part = gzip.compress(data)
        session.parts = Parts(io.BytesIO(len(part).to_bytes(4, "big") + part + bytes(4)))
        asked = {"codec": "gzip", "objects": [[name, begun] for name, _, begun in lacking]}
        with suppress(RefusedError):  # What a power cut has torn is sent again.
            next(session._put(asked))
    _secret(session)
    number = next(session._keep({"who": "test"}))["generation"]
    if transaction.activate(session.host, number, "test", Limits(confirm=60)):
        transaction.confirm(session.host, number, "test")


def _secret(session: Session) -> None:
    """The secrets that the release needs, where they are not here."""
    for guest, here in next(session._bundles({}))["here"].items():
        if not here:
            session.secret = SECRET
            next(session._secrets({"guest": guest, "files": {"token": len(SECRET)}}))


def guarded(machine: Machine) -> None:
    """Recovery on the running host: the guard's."""
    back.take_back(machine.host(), "guard")


CUT = (
    Scene("deploy", "bare", _deployed),
    Scene("back", "2", went(1, settle=True)),
    Scene("taken back", "open", lambda machine: machine.boot()),
    Scene("line", "2", lambda machine: _deployed(machine, "line")),
    Scene("plain", "plain", went(1)),
    Scene("plain, taken back", "plain open", lambda machine: machine.boot()),
)
"""Where the power is cut."""
FAILING = (SCENES[3], SCENES[2], CUT[0])
"""Where calls fail."""


def settle() -> None:
    """Stay on one processor, as a tracer and its child wait for each other; each of pytest's
    workers on its own."""
    every = sorted(os.sched_getaffinity(0))
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    os.sched_setaffinity(0, {every[worker % len(every)]})


def furnish(place: Path) -> None:
    """The hosts that scenes begin from: as found, with the first and with the second release."""
    root = place / "0"
    _furnish_found(root)
    machine = Machine(root)
    for number in (1, 2):
        manifest = made(machine.store, number)
        session = staged(machine, manifest)
        _secret(session)
        assert generations.keep(machine.paths, manifest, b"-", session.bundles) == number
    for number in (1, 2):
        copy(place / str(number - 1), place / str(number))
        went(number)(Machine(place / str(number)))
    _furnish_bare(place)
    _furnish_line(place)
    _furnish_plain(place)
    copy(place / "1", place / "open")
    transaction.activate(Machine(place / "open").host(), 2, "test", Limits(confirm=60))


def _furnish_found(root: Path) -> None:
    for name in _FOLDERS:
        (root / name).mkdir(parents=True)
    for name, text in _FOUND.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "etc/pve/local").symlink_to("nodes/pve1")


def _furnish_plain(place: Path) -> None:
    """A host on plain LXC as found, with a release for it, and with that to be confirmed."""
    root = place / "plain"
    _furnish_found(root)
    shutil.rmtree(root / "etc/pve")
    (root / "run/guests/100").unlink()
    (root / HOME / "templates").mkdir()
    (root / HOME / "templates/debian.tar").write_text("")
    machine = Machine(root)
    assert generations.keep(machine.paths, made(machine.store, 1, plain=True), b"-") == 1
    copy(root, place / "plain open")
    transaction.activate(Machine(place / "plain open").host(), 1, "test", Limits(confirm=60))


def _furnish_bare(place: Path) -> None:
    """The host with the first release that has nothing of the second; that lies beside it."""
    copy(place / "1", place / "bare")
    machine, parcel = Machine(place / "bare"), place / "parcel"
    kept = generations.kept(machine.paths, 1).release
    needed = {each.digest for each in machine.store.needed(kept)}
    parcel.mkdir()
    (machine.paths.generation(2) / "manifest.json").rename(parcel / "manifest")
    shutil.rmtree(machine.paths.generation(2))
    shutil.rmtree(machine.paths.home / "secrets")
    for path in machine.paths.store.iterdir():
        if path.name.removesuffix(".x") not in needed:
            path.rename(parcel / path.name)


def _furnish_line(place: Path) -> None:
    """Beside the hosts, the third release and what the one with the second has not got of it."""
    copy(place / "2", place / "whole")
    store, line = Store(Paths(place / "whole")), place / "line"
    before = {*os.listdir(store.paths.store)}
    line.mkdir()
    (line / "manifest").write_bytes(made(store, 3))
    for name in {*os.listdir(store.paths.store)} - before:
        (store.paths.store / name).rename(line / name)
    remove(place / "whole")


def copy(source: Path, target: Path) -> None:
    """A host once more; what is never written to is linked."""
    for folder, _, names in os.walk(source):
        made = str(target) + folder[len(str(source)) :]
        os.mkdir(made)
        fixed = "/store" in folder or "/generations/" in folder
        for name in names:
            path, new = f"{folder}/{name}", f"{made}/{name}"
            if os.path.islink(path):
                os.symlink(os.readlink(path), new)
            elif fixed:
                os.link(path, new)
            else:
                _copied(path, new)
        for name in os.listdir(folder):
            if os.path.islink(f"{folder}/{name}") and not os.path.lexists(f"{made}/{name}"):
                os.symlink(os.readlink(f"{folder}/{name}"), f"{made}/{name}")


def _copied(path: str, new: str) -> None:
    with open(path, "rb", 0) as old:
        found = os.fstat(old.fileno())
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, found.st_mode & 0o7777)
        os.write(handle, old.read())
        if found.st_uid != os.geteuid():
            os.fchown(handle, found.st_uid, -1)
        os.close(handle)


def remove(place: Path) -> None:
    """Take a host away."""
    shutil.rmtree(place)


@contextmanager
def scratch(source: Path) -> Iterator[Path]:
    """A copy of a host that goes again."""
    place = source.parent / f"scratch{os.getpid()}.{next(_COUNT)}"
    copy(source, place)
    try:
        yield place
    finally:
        shutil.rmtree(place)


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder in memory, where there is one."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(
        prefix="phoenix-", dir=memory if memory.is_dir() else None
    ) as f:
        yield Path(f)


def below(folder: str, name: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is below a folder, by its path from there."""
    with os.scandir(folder) as found:
        for each in found:
            yield name + each.name, each
            if each.is_dir(follow_symlinks=False):
                yield from below(each.path, f"{name}{each.name}/")


def content(path: str) -> tuple[int, bytes]:
    """A file's mode and owner in one number, and its bytes."""
    with open(path, "rb", 0) as stream:
        found = os.fstat(stream.fileno())
        return found.st_mode & 0o7777 | found.st_uid << 12, stream.read()


_VARIES = re.compile(rb'("deadline"|"process"): ?\d+')
_NAME_ONLY = re.compile(rf"{HOME}/(store/|lock$|events$)")


def raw(root: Path) -> str:
    """A digest of all that there is; of times, only that there are some."""
    parts = []
    for name, each in below(str(root)):
        held: object = ""
        if each.is_symlink():
            held = os.readlink(each.path)
        elif each.is_file() and not _NAME_ONLY.match(name):
            mode, data = content(each.path)
            held = (mode, _VARIES.sub(b"", data))
        parts.append(f"{name}={held!r}")
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


_BESIDE = re.compile(
    # Kept releases and their files, the newest program, locks, what recovery itself starts by.
    rf"{HOME}/(store|generations|incoming|events|lock|(guests|secrets)/\d+/\.?[0-9a-f]{{16}})(/|$)"
    rf"|{HOME}/\.phoenix-new\.|usr/local/sbin/(\.phoenix-new\.)?phoenix$"
    r"|run/|.*/(\.phoenix-new\.)?phoenix-(early|late)\.service$"
    # Another program's own.
    r"|etc/network/\.pve-interfaces\.lock|.*\.tmp\.1$"
)
_CURRENT = re.compile(rf"{HOME}/(guests|secrets)/\d+/current")


def state(root: Path) -> dict[str, Any]:
    """All that is to be wholly old or wholly new: names, content, modes; the overlay and the
    secrets that each guest's links lead to; what runs."""
    found: dict[str, Any] = {}
    for name, each in below(str(root)):
        if _BESIDE.match(name):
            continue
        if each.is_symlink():
            found[name] = os.readlink(each.path)
            if _CURRENT.fullmatch(name):
                found[f"{name}/"] = _held(each.path)
        elif each.is_file():
            found[name] = content(each.path)
    return found | Machine(root).served()


def _held(folder: str) -> dict[str, tuple[int, bytes]] | None:
    if not os.path.isdir(folder):
        return None
    return {name: content(each.path) for name, each in below(folder) if each.is_file()}


def half(root: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The names that are neither as before nor as afterwards, though nobody has recovered yet: the
    host runs on, or boots. A guest's configuration goes through states of PVE's own."""
    now = state(root)
    return [
        key
        for key in sorted({*old, *new})
        if key.startswith(("etc/", HOME)) and not key.startswith("etc/pve/lxc/")
        and not key.endswith("/") and now.get(key) not in (old.get(key), new.get(key))
    ]  # fmt: skip


def differs(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The names that are not the same."""
    return sorted(key for key in {*one, *other} if one.get(key) != other.get(key))


def stage(root: Path) -> str:
    """The open transaction's stage; "" where none is open."""
    path = root / HOME / "journal"
    return load_journal(path.read_bytes()).stage if path.exists() else ""
