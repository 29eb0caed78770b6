"""A guest that really runs: an unprivileged container's namespaces, Debian's systemd as its first
process, and our files bound as the host binds them. It boots in half a second.

On the outside is the guest's folder with its generations and `current`, as the host program keeps
it; inside it is seen at /opt/phoenix, and a second time where systemd looks for units.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from builder.kinds import KINDS
from builder.kinds.artifact import GuestFiles
from builder.network import Network
from builder.tree import File, Tree
from tests.judges import programs, rootfs
from tests.judges.namespace import TIMEOUT, Result
from tests.judges.refusal import Broken
from tests.kinds.units import debian

_ROOT_INSIDE = 100000
# The host program's part: systemd searches these folders (systemd.unit(5), systemd-system.conf(5)).
_SEAM = {"system": "current/units", "system.conf.d": "current/system.conf.d"}


def tree(network: Network, guest: str) -> Tree:
    """All files of a guest's overlay, without the pinned programs."""
    every = (a for kind in KINDS.values() for a in kind.artifacts(network))
    own = [a for a in every if isinstance(a, GuestFiles) and a.guest == guest]
    return Tree.of(entry for a in own for entry in a.tree)


class Machine:
    """A running guest; use `booted`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.first = 0

    def generation(self, number: int, files: Tree, used: Iterable[str]) -> None:
        """Put a generation beside the others."""
        own = self.folder / "guest" / str(number)
        for entry in files:
            path = own / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(entry, File):
                path.write_bytes(entry.data)
                path.chmod(entry.mode)
            else:
                path.symlink_to(entry.target)
        for name in used:
            to = own / "programs" / name
            to.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", "--link", programs.folder(name), to], check=True)

    def flip(self, number: int) -> None:
        """Make a generation the running one, as the host does: by the rename of a link."""
        new = self.folder / "guest" / ".current"
        new.symlink_to(str(number))
        new.rename(self.folder / "guest" / "current")

    def secrets(self, values: Mapping[str, bytes]) -> None:
        """Secrets as they are delivered: of the guest's root, and for it alone."""
        for name, value in values.items():
            path = self.folder / "secrets" / "1" / name
            path.write_bytes(value)
            path.chmod(0o400)
            os.chown(path, _ROOT_INSIDE, _ROOT_INSIDE)

    def run(self, *argv: str, given: str = "", timeout: float = 60.0) -> Result:
        """Run a program in the guest, as its root and outside of any unit."""
        enter = ["nsenter", "--target", str(self.first), "--all", "--wdns=/"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "SYSTEMD_COLORS=0"]
        done = subprocess.run(
            [*enter, *clean, *argv], input=given.encode(), capture_output=True, timeout=timeout
        )
        out, err = (text.decode(errors="replace") for text in (done.stdout, done.stderr))
        return Result(done.returncode, out, err)

    def must(self, *argv: str, given: str = "") -> str:
        """Its standard output; fails where it fails."""
        done = self.run(*argv, given=given)
        assert done.code == 0, f"{argv}: {done.code}\n{done.out}{done.err}{self.journal()}"
        return done.out

    def shell(self, script: str) -> str:
        return self.must("sh", "-euc", script)

    def read(self, path: str) -> str:
        return self.must("cat", path)

    def write(self, path: str, content: str) -> None:
        self.must("sh", "-euc", 'mkdir -p "$(dirname "$1")"; cat >"$1"', "sh", path, given=content)

    def property(self, unit: str, name: str) -> str:
        return self.must("systemctl", "show", "--property", name, "--value", unit).strip()

    def active(self, unit: str) -> str:
        return self.run("systemctl", "is-active", unit).out.strip()

    def journal(self, unit: str = "") -> str:
        select = ["--unit", unit] if unit else []
        return self.run("journalctl", "--no-pager", "-o", "cat", "-n", "25", *select).out

    def until(self, true: Callable[[], object], patience: float = TIMEOUT) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + patience
        while not true():
            assert time.monotonic() < deadline, self.journal()
            time.sleep(0.05)


@contextlib.contextmanager
def prepared(files: Tree, used: Iterable[str] = ()) -> Iterator[Machine]:
    """A guest with its first generation, not yet booted."""
    rootfs.cache().mkdir(parents=True, exist_ok=True)
    # Beside the programs, which are linked.
    with tempfile.TemporaryDirectory(prefix="guest-", dir=rootfs.cache()) as name:
        folder = Path(name)
        folder.chmod(0o755)
        machine = Machine(folder)
        machine.generation(1, files, used)
        machine.flip(1)
        for link, target in _SEAM.items():
            (folder / "guest" / link).symlink_to(target)
        (folder / "secrets" / "1").mkdir(parents=True)
        (folder / "secrets" / "current").symlink_to("1")
        yield machine


@contextlib.contextmanager
def running(
    machine: Machine,
    suite: str = "bookworm",
    begun: Callable[[Machine], None] | None = None,
    binds: Mapping[str, Path] | None = None,
) -> Iterator[Machine]:
    """Boot a prepared guest; it ends with the block. `begun` is called before, for its network.

    `binds` are folders by where they are seen, in place of those that a guest has. A second boot
    has a new root file system.
    """
    if binds is None:
        binds = {
            "/opt/phoenix": machine.folder / "guest",
            "/usr/local/lib/systemd": machine.folder / "guest",
            "/opt/phoenix-secrets": machine.folder / "secrets",
        }
    (machine.folder / "console").touch()
    needs = {
        "root": str(debian.ensure(suite)),
        "binds": {target: str(source) for target, source in binds.items()},
        "log": str(machine.folder / "console"),
    }
    ours, theirs = socket.socketpair()
    program = Path(__file__).with_name("inside.py")
    command = [sys.executable, "-I", "-S", str(program), str(theirs.fileno())]
    process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
    theirs.close()
    try:
        ours.settimeout(TIMEOUT)
        ours.send(json.dumps(needs).encode())
        answer = ours.recv(1000)
        if not answer:
            raise Broken("the guest did not begin")
        machine.first = json.loads(answer)["first"]
        if begun:
            begun(machine)
        ours.send(b"g")
        _await(machine)
        yield machine
    finally:
        ours.close()
        process.wait(TIMEOUT)


def _await(machine: Machine) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        state = machine.run("systemctl", "is-system-running").out.strip()
        if state in {"running", "degraded"}:
            return
        if time.monotonic() > deadline:
            jobs = machine.run("systemctl", "list-jobs").out
            raise Broken(f"the guest does not come up: {state}\n{jobs}{machine.journal()}")
        time.sleep(0.02)


@contextlib.contextmanager
def booted(
    files: Tree,
    used: Sequence[str] = (),
    *,
    suite: str = "bookworm",
    secrets: Mapping[str, bytes] | None = None,
    begun: Callable[[Machine], None] | None = None,
) -> Iterator[Machine]:
    """A guest that runs these files with these pinned programs."""
    with prepared(files, used) as machine:
        machine.secrets(secrets or {})
        with running(machine, suite, begun):
            yield machine


def copy(machine: Machine, number: int, to: int) -> Path:
    """A generation like another one; the folder, to be changed before it is flipped to."""
    own = machine.folder / "guest" / str(to)
    subprocess.run(["cp", "-a", "--link", own.with_name(str(number)), own], check=True)
    return own


def put(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file of a copied generation, whose files are shared with the first."""
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def forget(machine: Machine, number: int) -> None:
    """Remove a generation."""
    shutil.rmtree(machine.folder / "guest" / str(number))
