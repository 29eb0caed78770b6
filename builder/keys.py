"""The operator's SSH key, which signs releases (`ssh-keygen -Y`).

The key is the file that PHOENIX_SIGNING_KEY names (a public key will do, when an agent holds its
other half), else the one that `key.init` makes; without either, releases stay unsigned. What is
signed names its purpose, so that no signature made for another one counts here.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import disk
from .problems import UserError

NAMESPACE = "phoenix-release"
VARIABLE = "PHOENIX_SIGNING_KEY"
_MAGIC = b"SSHSIG\0\0\0\1"
# The first thing in a key is the length of its type's name, in four bytes.
_PUBLIC = re.compile(r"[a-z0-9@.-]+ AAAA[A-Za-z0-9+/]+={0,2}( .*)?")


@dataclass(frozen=True, slots=True)
class Key:
    """A signing key: its file, and its public half as one line, `ssh-ed25519 AAAA… comment`."""

    path: Path
    public: str

    def sign(self, files: Sequence[Path]) -> None:
        """Write FILE.sig beside each file, all by one ssh-keygen, which may ask for a passphrase.

        Raises UserError with what ssh-keygen says.
        """
        for file in files:
            file.with_name(f"{file.name}.sig").unlink(missing_ok=True)
        done = _keygen("-Y", "sign", "-n", NAMESPACE, "-f", self.path, *files)
        missing = [file for file in files if not file.with_name(f"{file.name}.sig").is_file()]
        if done.returncode != 0 or missing:
            hint = f"unlock it (ssh-add), or name another one in {VARIABLE}"
            raise UserError(f"{self.path} does not sign: {_said(done)}", hint)

    def made(self, signature: bytes) -> bool:
        """Whether the signature says that this key made it; it is not checked against a file."""
        try:
            body = b"".join(signature.strip().splitlines()[1:-1])
            raw = base64.b64decode(body, validate=True)
            mine = base64.b64decode(self.public.split()[1], validate=True)
        except (binascii.Error, IndexError):
            return False
        # After the magic: the public key with its length in four bytes.
        return raw.startswith(_MAGIC + len(mine).to_bytes(4, "big") + mine)

    def allowed(self, identity: str) -> str:
        """The key's line in a file of allowed signers."""
        return allowed(self.public, identity)


def allowed(public: str, identity: str) -> str:
    """The line of an allowed-signers file that lets `public` sign releases as `identity`."""
    assert not set(identity) & set(' "\t\n,*?!'), identity
    return f'{identity} namespaces="{NAMESPACE}" {" ".join(public.split()[:2])}\n'


def default(environment: Mapping[str, str]) -> Path:
    """Where `key.init` puts the key."""
    return folder(environment, "XDG_CONFIG_HOME", ".config") / "signing_key"


def folder(environment: Mapping[str, str], variable: str, fallback: str) -> Path:
    """Our folder below one of the XDG base folders; relative values of `variable` are ignored, as
    the XDG base directory specification wants it."""
    base = Path(environment.get(variable, ""))
    if not base.is_absolute():
        home = environment.get("HOME")
        base = (Path(home) if home else Path.home()) / fallback
    return base / "phoenix"


def find(environment: Mapping[str, str] = os.environ) -> Key | None:
    """The key to sign with, or None; UserError where the one that is named cannot be used."""
    named = environment.get(VARIABLE)
    path = Path(named).expanduser().absolute() if named else default(environment)
    if not named and not path.exists():
        return None
    try:
        return Key(path, _public(path))
    except OSError as error:
        hint = f"{VARIABLE} names it" if named else "run: invoke key.init"
        raise UserError(f"no signing key at {path}: {error.strerror}", hint) from error


def _public(path: Path) -> str:
    """The public half of the key at `path`, without asking for a passphrase."""
    beside = path if path.suffix == ".pub" else path.with_name(f"{path.name}.pub")
    if beside == path or beside.exists():
        held = beside.read_text(encoding="utf-8", errors="replace").strip()
        if not _PUBLIC.fullmatch(held):
            raise UserError(f"{beside} is no public key", "ssh-keygen -y -f KEY prints one")
        return held
    path.stat()
    done = _keygen("-y", "-P", "", "-f", path)
    if done.returncode != 0:
        raise UserError(f"{path} has no readable public half: {_said(done)}", f"put it in {beside}")
    return done.stdout.strip()


def init(path: Path, *, passphrase: bool = True) -> Key:
    """Make an ed25519 key at `path`, 0600 in a folder of 0700.

    ssh-keygen itself asks for the passphrase, so that none is ever in an argument list. Raises
    UserError where a key is there already, where it cannot ask, and where ssh-keygen fails.
    """
    if os.path.lexists(path):
        raise UserError(f"there is a key already at {path}", "keep it, or move it away first")
    if passphrase and not sys.stdin.isatty():
        raise UserError("no terminal to ask for a passphrase on", "add --no-passphrase")
    with disk.telling(path.parent):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.chmod(0o700)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".new-") as made:
            new = Path(made) / path.name
            quiet = [] if passphrase else ["-N", ""]
            done = _keygen("-q", "-t", "ed25519", "-C", "phoenix", "-f", new, *quiet, ask=True)
            if done.returncode != 0:
                raise UserError(f"ssh-keygen made no key: {_said(done)}")
            # A link never replaces: of two at once, one wins, and only that one writes the rest.
            os.link(new, path)
            public = new.with_name(f"{new.name}.pub")
            os.replace(public, path.with_name(public.name))
            with disk.opened(path.parent) as held:
                disk.flush(held)
    return Key(path, _public(path))


def verify(manifest: Path, signature: Path, signers: Path, identity: str) -> None:
    """Check that `signature` is one of `identity`'s over the file; UserError where it is not.

    `signers` is an allowed-signers file (ssh-keygen(1), ALLOWED SIGNERS).
    """
    named = ("-n", NAMESPACE, "-I", identity, "-f", signers, "-s", signature)
    with disk.telling(manifest.parent):
        data = manifest.read_bytes()
    done = _keygen("-Y", "verify", *named, data=data)
    if done.returncode != 0:
        raise UserError(f"{manifest} is not signed by an allowed signer: {_said(done)}")


def _keygen(
    *arguments: str | Path, data: bytes = b"", ask: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run ssh-keygen. Passphrases it asks for on the terminal, or by SSH_ASKPASS."""
    program = shutil.which("ssh-keygen")
    if program is None:
        raise UserError("ssh-keygen is missing", "install it: apt-get install openssh-client")
    given = None if ask else subprocess.PIPE
    with subprocess.Popen(
        [program, *arguments],
        stdin=given,
        stdout=None if ask else subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    ) as process:
        out, error = process.communicate(None if ask else data)
    return subprocess.CompletedProcess(
        process.args, process.returncode, (out or b"").decode(), error.decode(errors="replace")
    )


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of what a program said."""
    lines = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {done.returncode}"
