"""The program that becomes a guest: namespaces as an unprivileged container has them, then systemd.

It stands on its own (standard library only, started by path under `python -I -S`). The descriptor
that it is given brings what is needed as JSON, takes the process id of the guest's first process,
and brings the word to boot, "g"; when it is closed at the other end, or its parent dies, the guest
ends with all that runs in it.

The root is an overlay over a Debian root that is mapped to the guest's ids, so that root inside is
100000 outside, as LXC has it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC = 1, 32, 4096, 16384
_MS_PRIVATE, _MS_SHARED = 1 << 18, 1 << 20
_NEWUSER, _NEWCGROUP = 0x10000000, 0x02000000
# NS PID NET UTS IPC CGROUP
_OTHERS = 0x00020000 | 0x20000000 | 0x40000000 | 0x04000000 | 0x08000000 | _NEWCGROUP
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442  # the same on every architecture
_MOUNT_ATTR_IDMAP, _AT_EMPTY_PATH, _OPEN_TREE_CLONE = 0x100000, 0x1000, 1
_PR_SET_PDEATHSIG = 1
_FIRST, _COUNT = 100000, 65536
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns")]


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    done = _LIBC.mount(source.encode(), target.encode(), kind.encode(), flags, data.encode())
    _checked(done, f"mount {source} on {target}")


def _mapped(source: str, target: str, userns: int) -> None:
    """Show the folder `source` at `target` with its owners shifted to the guest's ids."""
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC
    tree = _checked(_LIBC.syscall(_OPEN_TREE, -100, source.encode(), flags), "open_tree")
    attributes = _Attributes(_MOUNT_ATTR_IDMAP, 0, 0, userns)
    size = ctypes.sizeof(attributes)
    done = _LIBC.syscall(
        _MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, ctypes.byref(attributes), ctypes.c_size_t(size)
    )
    _checked(done, "mount_setattr")
    done = _LIBC.syscall(_MOVE_MOUNT, tree, b"", -100, target.encode(), 4)
    _checked(done, "move_mount")


def _namespace() -> tuple[int, int]:
    """A child in a user namespace of its own that waits: (its id, a descriptor to wake it)."""
    wait, wake = os.pipe()
    ready, say = os.pipe()
    child = os.fork()
    if child:
        os.close(wait)
        os.close(say)
        assert os.read(ready, 1) == b"1"
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"0 {_FIRST} {_COUNT}")
        return child, wake
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.close(wake)
    _checked(_LIBC.unshare(_NEWUSER), "unshare")
    os.write(say, b"1")
    if os.read(wait, 1) != b"1":
        os._exit(1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    os.setgroups([])
    # Changing ids clears it.
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return 0, 0


def _cgroup(name: str) -> Path:
    """A new control group with this process in it."""
    place = "/mnt"
    mount("none", place, "cgroup2")
    for old in Path(place).glob("phoenix-guest-*"):
        # Of one that was killed; a neighbour's may still be empty.
        if not Path("/proc", old.name.rpartition("-")[2]).exists():
            _dissolve(old)
    own = Path(place, name)
    own.mkdir()
    (own / "cgroup.procs").write_text("0")
    for path in (own, *(own / each for each in ("cgroup.procs", "cgroup.subtree_control"))):
        os.chown(path, _FIRST, _FIRST)
    return own


def _dissolve(group: Path) -> None:
    """Remove an empty group with all below."""
    for below, _, _ in os.walk(group, topdown=False):
        try:
            os.rmdir(below)
        except OSError:
            return


def _root(needs: dict[str, Any], userns: int) -> str:
    """The guest's root file system, mounted."""
    place = "/tmp"
    binds: dict[str, str] = needs["binds"]
    sources = {target: os.open(source, os.O_PATH) for target, source in binds.items()}
    lower = os.open(needs["root"], os.O_PATH)
    mount("tmpfs", place, "tmpfs", data="mode=755")
    for name in ("lower", "upper", "work", "root"):
        os.mkdir(f"{place}/{name}")
        if name != "lower":
            os.chown(f"{place}/{name}", _FIRST, _FIRST)
    root = f"{place}/root"
    _mapped(f"/proc/self/fd/{lower}", f"{place}/lower", userns)
    layers = f"lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work"
    mount("overlay", root, "overlay", data=layers)
    for target, number in sources.items():
        os.makedirs(f"{root}/{target}", exist_ok=True)
        mount(f"/proc/self/fd/{number}", f"{root}/{target}", flags=_MS_BIND)
        mount("none", f"{root}/{target}", flags=_MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    mount("tmpfs", f"{root}/dev", "tmpfs", data=f"mode=755,uid={_FIRST},gid={_FIRST}")
    for name in _DEVICES:
        Path(f"{root}/dev/{name}").touch()
        mount(f"/dev/{name}", f"{root}/dev/{name}", flags=_MS_BIND)
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1")):
        os.symlink(target, f"{root}/dev/{name}")
    os.symlink("fd/2", f"{root}/dev/stderr")
    return root


def _become(root: str, out: int, go: int) -> None:
    """In the new namespaces, as first process: mount what a guest has, and be systemd as soon as
    `go` says that it has a network.
    """
    # A mount of our own: one that came along is locked in its place.
    mount(root, root, flags=_MS_BIND | _MS_REC)
    for name in ("pts", "shm"):
        os.mkdir(f"{root}/dev/{name}")
    mount("proc", f"{root}/proc", "proc")
    mount("sysfs", f"{root}/sys", "sysfs")
    mount("cgroup2", f"{root}/sys/fs/cgroup", "cgroup2")
    mount("devpts", f"{root}/dev/pts", "devpts", data="newinstance,ptmxmode=0666,mode=620")
    os.symlink("pts/ptmx", f"{root}/dev/ptmx")
    mount("tmpfs", f"{root}/run", "tmpfs", data="mode=755")
    os.chdir(root)
    _checked(_LIBC.syscall(155, b".", b"."), "pivot_root")
    _checked(_LIBC.umount2(b".", 2), "umount")
    os.chdir("/")
    # As LXC does since 5.0.2; without it, systemd's credentials are not seen by who should.
    mount("none", "/", flags=_MS_REC | _MS_SHARED)
    for number in (0, 1, 2):
        os.dup2(out if number else os.open("/dev/null", os.O_RDONLY), number)
    _LIBC.sethostname(b"guest", 5)
    if os.read(go, 1) != b"1":
        os._exit(1)
    os.closerange(3, 64)
    arguments = ["/sbin/init", "--log-target=console", "--log-level=info", "--show-status=no"]
    os.execve(arguments[0], arguments, {"container": "lxc", "PATH": "/usr/sbin:/usr/bin"})


def main() -> None:
    """Make the guest, tell its process id, and stay until the other end is closed."""
    control = socket.socket(fileno=int(sys.argv[1]))
    needs = json.loads(control.recv(1 << 20))
    out = os.open(needs["log"], os.O_WRONLY | os.O_APPEND)
    os.umask(0o022)
    os.setsid()
    _checked(_LIBC.unshare(0x00020000), "unshare")
    mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    group = _cgroup(f"phoenix-guest-{os.getpid()}")
    go, say = os.pipe()
    child, wake = _namespace()
    if not child:
        os.close(say)
        _inner(out, go)
    os.close(go)
    userns = os.open(f"/proc/{child}/ns/user", os.O_RDONLY)
    _root(needs, userns)
    pid = os.open(f"/proc/{child}", os.O_RDONLY)
    os.write(wake, b"1")
    deadline = time.monotonic() + 10
    first = ""
    while not first and time.monotonic() < deadline:
        first = Path(f"/proc/self/fd/{pid}/task/{child}/children").read_text().strip()
        time.sleep(0.01)
    control.send(json.dumps({"first": int(first)}).encode())
    if control.recv(1) == b"g":
        os.write(say, b"1")
        control.recv(1)
    os.kill(int(first), signal.SIGKILL)
    os.waitpid(child, 0)
    deadline = time.monotonic() + 5
    while group.exists() and time.monotonic() < deadline:
        Path("/mnt/cgroup.procs").write_text("0")
        _dissolve(group)
        time.sleep(0.02)


def _inner(out: int, go: int) -> None:
    _checked(_LIBC.unshare(_OTHERS), "unshare")
    first = os.fork()
    if first:
        os.waitpid(first, 0)
        os._exit(0)
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    _become("/tmp/root", out, go)


if __name__ == "__main__":
    main()
