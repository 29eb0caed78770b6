"""The program inside: makes spaces on request, and does in each what the tests ask for.

Runs as the first process of a pid namespace, one agent per test process. It stands on its own
(standard library only, started by path under `python -I -S`) since it forks, unshares and changes
its root, which must not happen in a test process with threads and open files.

agent   on the descriptor that is its argument: for each space what it needs, then one end of a
        socket pair.
space   a child in mount, net, pid, uts and ipc namespaces of its own, with a throw-away overlay
        over the judges' root as its root. It answers requests (name, arguments) until the socket
        ends, which also is how it ends: as first process of its pid namespace it takes everything
        with it, and the kernel drops mounts and network with the last process. So nothing can be
        left behind, not even by a test run that was killed. As first process it also inherits,
        and takes in, whatever outlives its own parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from multiprocessing import reduction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

_NEW = 0x00020000 | 0x40000000 | 0x20000000 | 0x04000000 | 0x08000000  # NS NET PID UTS IPC
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
_PR_SET_PDEATHSIG = 1
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_FILES = 65536
# A program that writes or forks without end meets these limits and not the machine's, which would
# stand still for all: of a space's files, kept in memory; and of processes and threads of a
# daemon's user, in all spaces together.
_SPACE = "512m"
_TASKS = 1024
# How long the pipes of a killed program are read on; who left its session may hold them open.
_REST = 1.0
_CERTIFICATES_GROUP = 6100


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    _checked(
        _LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode()),
        f"mount {source} on {target}",
    )


def _bind(source: str, target: str) -> None:
    """Bind file or folder `source` on `target`, read-only; makes `target`."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(target).touch()
    _mount(source, target, flags=_MS_BIND)
    _mount("none", target, flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY)


def _enter(needs: dict[str, Any]) -> None:
    """Build the root of a space and change into it."""
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    # Any folder does as a place: the mount is seen in this namespace alone.
    place = "/tmp"
    binds = [(os.open(source, os.O_PATH), target) for source, target in needs["binds"].items()]
    lower = os.open(needs["root"], os.O_PATH)
    _mount("tmpfs", place, "tmpfs", data=f"mode=755,size={_SPACE}")
    for name in ("upper", "work", "root"):
        os.mkdir(f"{place}/{name}")
    root = f"{place}/root"
    layers = f"lowerdir=/proc/self/fd/{lower},upperdir={place}/upper,workdir={place}/work"
    _mount("overlay", root, "overlay", data=layers)
    for number, target in binds:
        _bind(f"/proc/self/fd/{number}", f"{root}/{target}")
        os.close(number)
    os.close(lower)
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        device = f"{root}/dev/{name}"
        Path(device).unlink(missing_ok=True)
        Path(device).touch()
        _mount(f"/dev/{name}", device, flags=_MS_BIND)
    _mount("proc", f"{root}/proc", "proc")
    _mount("sysfs", f"{root}/sys", "sysfs")
    os.chroot(root)
    os.chdir("/")


def _network(sysctls: dict[str, str]) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(control, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | _IFF_UP))
    for name, value in sysctls.items():
        Path("/proc/sys", *name.split(".")).write_text(value)


class Space:
    """The requests; each public method is one."""

    def __init__(self, host: Connection) -> None:
        self.host = host
        self.started: dict[int, subprocess.Popen[bytes]] = {}

    def run(
        self, argv: list[str], given: bytes, environment: dict[str, str], user: int, timeout: float
    ) -> tuple[int, bytes, bytes]:
        """Run to the end; (exit code, stdout, stderr). The code is -1 after a timeout."""
        child = self._popen(argv, environment, user, subprocess.PIPE, subprocess.PIPE)
        try:
            out, err = child.communicate(given, timeout)
            return child.returncode, out, err
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
        try:
            out, err = child.communicate(timeout=_REST)
        except subprocess.TimeoutExpired as so_far:
            out, err = so_far.stdout or b"", so_far.stderr or b""
        load = os.getloadavg()[0]
        return -1, out, err + f"\nnot done after {timeout} s, at a load of {load:.0f}".encode()

    def start(self, argv: list[str], environment: dict[str, str], user: int, log: str) -> int:
        """Start a daemon whose output goes to the file `log`; its process id."""
        with open(log, "wb") as stream:
            child = self._popen(argv, environment, user, stream.fileno(), subprocess.STDOUT)
        self.started[child.pid] = child
        return child.pid

    def _popen(
        self, argv: list[str], environment: dict[str, str], user: int, out: int, err: int
    ) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE if out == subprocess.PIPE else subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
            start_new_session=True,
            cwd="/",
            user=user or None,
            group=user or None,
            extra_groups=[_CERTIFICATES_GROUP] if user else None,
        )

    def wait(self, pid: int, timeout: float) -> int | None:
        """The exit code of what was started, None where it still runs after `timeout`."""
        try:
            return self.started[pid].wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def signal(self, pid: int, number: int) -> None:
        """Signal what was started; nothing happens where it has ended."""
        self.started[pid].send_signal(number)

    def write(self, files: list[tuple[str, bytes | str, int, int]]) -> None:
        """Put files (path, bytes, mode, owner) and links (path, target, …); makes folders."""
        for path, content, mode, owner in files:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if isinstance(content, str):
                os.symlink(content, path)
                continue
            with open(path, "wb") as stream:
                stream.write(content)
            os.chmod(path, mode)
            os.chown(path, owner, _CERTIFICATES_GROUP if owner else 0)

    def folders(self, paths: list[tuple[str, int]]) -> None:
        """Make folders (path, owner)."""
        for path, owner in paths:
            os.makedirs(path, exist_ok=True)
            os.chown(path, owner, _CERTIFICATES_GROUP if owner else 0)

    def read(self, path: str) -> bytes | None:
        """The bytes of a file, None where it is not there."""
        try:
            return Path(path).read_bytes()
        except FileNotFoundError:
            return None

    def listening(self, ports: list[int], pid: int, timeout: float) -> list[int]:
        """Wait until all TCP `ports` are listened on or `pid` has ended; those still closed."""
        deadline = time.monotonic() + timeout
        while closed := sorted(set(ports) - _open_ports()):
            ended = self.started[pid].poll() is not None
            if ended or time.monotonic() > deadline:
                break
            select.select([], [], [], 0.005)
        return closed

    def socket(self, family: int, kind: int) -> None:
        """Hand over a socket of this network namespace; it stays in it wherever it is used."""
        with socket.socket(family, kind) as made:
            self.host.send((True, None))
            reduction.send_handle(self.host, made.fileno(), os.getppid())

    def serve(self) -> None:
        """Answer until the other end is closed."""
        while True:
            try:
                name, arguments = self.host.recv()
            except (EOFError, ConnectionResetError):
                return
            self._take_in()
            try:
                method: Callable[..., object] = getattr(self, name)
                result = method(*arguments)
                if name != "socket":
                    self.host.send((True, result))
            except Exception:
                self.host.send((False, traceback.format_exc()))

    def _take_in(self) -> None:
        """Reap what has ended; the exit code of what was started is kept for `wait`."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                if ended[0] in self.started:
                    self.started[ended[0]].returncode = os.waitstatus_to_exitcode(ended[1])


def _open_ports() -> set[int]:
    ports = set[int]()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                ports.add(int(fields[1].rpartition(":")[2], 16))
    return ports


def _space(host: Connection, needs: dict[str, Any]) -> None:
    """In a fresh fork of the agent: become a space. Never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        _checked(_LIBC.unshare(_NEW), "unshare")
        first = os.fork()
        if first:
            host.close()
            os.waitpid(first, 0)
            os._exit(0)
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _enter(needs)
        _network(needs["sysctls"])
        _LIBC.sethostname(b"judge", 5)
        host.send((True, None))
        Space(host).serve()
    except Exception:
        host.send((False, traceback.format_exc()))
    os._exit(0)


def main() -> None:
    """Fork a space for each request, until the test process is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for kind, wanted in ((resource.RLIMIT_NOFILE, _FILES), (resource.RLIMIT_NPROC, _TASKS)):
        _, most = resource.getrlimit(kind)
        limit = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(kind, (limit, limit))
    os.umask(0o022)
    control = Connection(int(sys.argv[1]))
    while True:
        try:
            needs = control.recv()
            host = Connection(reduction.recv_handle(control))
        except (EOFError, ConnectionResetError):
            return
        try:
            child = os.fork()
        except OSError:  # no room for another process: this space's fault, not the next one's
            host.send((False, traceback.format_exc()))
        else:
            if child == 0:
                control.close()
                _space(host, needs)
        host.close()


if __name__ == "__main__":
    main()
