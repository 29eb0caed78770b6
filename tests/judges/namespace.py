"""Spaces: a throw-away machine for each thing that is judged, in about ten milliseconds.

One agent (agent.py) per test process lives in namespaces of its own and forks a `Space` on
request: own root (an overlay over the judges' root), own processes, own network with nothing but
loopback. A space ends with its `with` block, or with the test process however that ends.

Sockets made by `Space.socket` belong to the space's network and are used by the test itself, so
that tests are clients, and servers, in there with the whole standard library.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import socket as sockets
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import Pipe, reduction
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from tests.judges import rootfs
from tests.judges.refusal import Broken, Refused

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# How long anything may take that takes a moment: on a machine with a hundred times its load too.
TIMEOUT = 60.0
# Daemons may bind addresses that are not there, and low ports without a capability.
SYSCTLS = {
    "net.ipv4.ip_nonlocal_bind": "1",
    "net.ipv6.ip_nonlocal_bind": "1",
    "net.ipv4.ip_unprivileged_port_start": "0",
}
_GRACE = 15.0


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended: exit code (-1 after a timeout), what it wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program that runs in a space, by its process id there; its output is the file `log`."""

    program: str
    pid: int
    log: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A file to be put in a space (`content` bytes), or a link (`content` its target)."""

    path: str
    content: bytes | str
    mode: int = 0o644
    owner: int = 0


class _Agent:
    """The agent of this process."""

    def __init__(self) -> None:
        if os.geteuid() != 0:
            raise Broken("the judges need root, for namespaces")
        if shutil.which("unshare") is None:
            raise Broken("unshare is not installed: apt-get install util-linux")
        self.owner = os.getpid()
        self.root = rootfs.ensure()
        self.control, theirs = Pipe()
        program = Path(__file__).with_name("agent.py")
        self.process = subprocess.Popen(
            [
                "unshare", "--mount", "--pid", "--fork", "--kill-child",
                sys.executable, "-I", "-S", str(program), str(theirs.fileno()),
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
            env={"PATH": PATH, "LC_ALL": "C.UTF-8"},
            # ^C is not for it: it ends when this process has cleaned up and gone.
            start_new_session=True,
        )  # fmt: skip
        theirs.close()
        self.one = threading.Lock()

    def connect(self, needs: Mapping[str, object]) -> Connection:
        """The end of a new space that is ours; what it needs and its end are sent as one."""
        ours, theirs = Pipe()
        try:
            with self.one:
                self.control.send(needs)
                reduction.send_handle(self.control, theirs.fileno(), self.process.pid)
        except OSError as error:
            raise Broken(f"the judges' agent has ended: {self.process.poll()}") from error
        finally:
            theirs.close()
        return ours

    def close(self) -> None:
        """End it and all its spaces, at the latest after `_GRACE`; not where it was forked to."""
        if os.getpid() != self.owner:
            return
        self.control.close()
        try:
            self.process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@functools.cache
def _agent_of(process: int) -> _Agent:
    agent = _Agent()
    atexit.register(agent.close)
    return agent


class Space:
    """A throw-away Debian machine in namespaces; use it in a `with` statement.

    `binds` are folders or files of the host, by the path at which they are seen, read-only.
    Methods raise Broken where the space itself fails, never for what a program in it does.
    """

    def __init__(
        self,
        *,
        binds: Mapping[str, Path] | None = None,
        sysctls: Mapping[str, str] = SYSCTLS,
    ) -> None:
        agent = _agent_of(os.getpid())
        seen = {str(source): target for target, source in (binds or {}).items()}
        # A space does one thing after the other; threads that share it wait for each other.
        self._one = threading.Lock()
        self._logs = itertools.count()
        self._host = agent.connect(
            {"root": str(agent.root), "binds": seen, "sysctls": dict(sysctls)}
        )
        try:
            self._answer("begin", _GRACE)
        except BaseException:
            self._host.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it with all that runs in it; the kernel cleans up behind."""
        self._host.close()

    def _answer(self, asked: str, timeout: float) -> Any:
        try:
            if not self._host.poll(timeout + _GRACE):
                self._host.close()
                load = f"a load of {os.getloadavg()[0]:.0f}"
                raise Broken(f"no answer to {asked} in {timeout + _GRACE} s, at {load}")
            good, result = self._host.recv()
        except (EOFError, ConnectionResetError) as error:
            raise Broken("the space has ended") from error
        if not good:
            raise Broken(result)
        return result

    def _ask(self, name: str, *arguments: object, timeout: float = 0.0) -> Any:
        with self._one:
            return self._exchange(name, arguments, timeout)

    def _exchange(self, name: str, arguments: tuple[object, ...], timeout: float) -> Any:
        try:
            self._host.send((name, arguments))
        except OSError as error:
            raise Broken(f"the space has ended: {error}") from error
        asked = f"run {arguments[0]}" if name == "run" else name
        return self._answer(asked, timeout)

    def run(
        self,
        argv: Sequence[str],
        *,
        given: str = "",
        environment: Mapping[str, str] | None = None,
        user: int = 0,
        timeout: float = TIMEOUT,
    ) -> Result:
        """Run a program to its end; `given` is its standard input."""
        code, out, err = self._ask(
            "run", list(argv), given.encode(), _environment(environment), user, timeout,
            timeout=timeout,
        )  # fmt: skip
        return Result(code, out.decode(errors="replace"), err.decode(errors="replace"))

    def must(self, argv: Sequence[str], *, given: str = "", timeout: float = TIMEOUT) -> str:
        """Like `run`; its standard output, Refused where it fails."""
        result = self.run(argv, given=given, timeout=timeout)
        if result.code != 0:
            raise Refused(argv[0], result.out + result.err)
        return result.out

    def start(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str] | None = None,
        user: int = 0,
    ) -> Daemon:
        """Start a program that stays; it ends with the space at the latest."""
        name = Path(argv[0]).name
        log = f"/tmp/{next(self._logs)}-{name}.log"
        pid = self._ask("start", list(argv), _environment(environment), user, log)
        return Daemon(name, cast(int, pid), log)

    def signal(self, daemon: Daemon, number: int) -> None:
        """Send it a signal."""
        self._ask("signal", daemon.pid, number)

    def wait(self, daemon: Daemon, timeout: float = TIMEOUT) -> int | None:
        """Its exit code, None where it still runs after `timeout` seconds."""
        return cast("int | None", self._ask("wait", daemon.pid, timeout, timeout=timeout))

    def log(self, daemon: Daemon) -> str:
        """All that it wrote so far."""
        return (self.read(daemon.log) or b"").decode(errors="replace")

    def await_ports(self, daemon: Daemon, ports: Iterable[int], timeout: float = TIMEOUT) -> None:
        """Wait until all these TCP ports are listened on; Refused where that does not come."""
        closed = self._ask("listening", sorted(ports), daemon.pid, timeout, timeout=timeout)
        if closed:
            raise Refused(daemon.program, f"not listening on {closed}\n{self.log(daemon)}")

    def write(self, entries: Iterable[Entry]) -> None:
        """Put files and links."""
        self._ask("write", [(e.path, e.content, e.mode, e.owner) for e in entries])

    def folders(self, paths: Iterable[str], owner: int = 0) -> None:
        """Make folders."""
        self._ask("folders", [(path, owner) for path in paths])

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, None where it is not there."""
        return cast("bytes | None", self._ask("read", path))

    def socket(
        self,
        family: sockets.AddressFamily = sockets.AF_INET,
        kind: sockets.SocketKind = sockets.SOCK_STREAM,
    ) -> sockets.socket:
        """A socket in the space's network, to be connected, bound or listened on from here."""
        with self._one:
            self._exchange("socket", (int(family), int(kind)), 0.0)
            made = sockets.socket(fileno=reduction.recv_handle(self._host))
        made.settimeout(TIMEOUT)
        return made

    def connect(self, address: str, port: int) -> sockets.socket:
        """A TCP connection from within the space's network."""
        family = sockets.AF_INET6 if ":" in address else sockets.AF_INET
        made = self.socket(family)
        try:
            made.connect((address, port))
        except BaseException:
            made.close()
            raise
        return made

    def own_all_addresses(self) -> None:
        """Make every IPv4 and IPv6 address lead to the space itself, over loopback."""
        lines = "route add local 0.0.0.0/0 dev lo\nroute add local ::/0 dev lo\n"
        self.must(["ip", "-batch", "-"], given=lines)


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/tmp", **(extra or {})}
