"""A stand-in for pmxcfs, Proxmox's cluster file system: what HOST-FACTS says of /etc/pve, and no
more. `sentences.py` lists each sentence with the test that holds this program to it.

    pmxcfs.py MOUNTPOINT NODE DATABASE CONTROL

Every change is one transaction of an SQLite database (WAL, synchronous=NORMAL), as pmxcfs's own is.
Where a file DATABASE.alone is, it starts without quorum, as a node does until it sees the others.
CONTROL is a socket that takes one JSON object a connection; each key is a switch:

    quorum      true or false
    lose        quorum goes after so many more changes
    short       a write takes so many bytes at most; 0 for all
    states      any: answers how many states there were
    rewind      be as that state was: what a power cut does to unsynced changes
    nodes       more nodes of the cluster, by name
"""

from __future__ import annotations

import contextlib
import ctypes.util
import errno
import grp
import json
import os
import re
import socket
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

os.environ.setdefault("FUSE_LIBRARY_PATH", ctypes.util.find_library("fuse3") or "")
import mfusepy  # type: ignore[import-untyped]

LARGEST = 1 << 20
_CONF = re.compile(r"/nodes/([^/]+)/(lxc|qemu-server)/([1-9]\d*)\.conf")
_KINDS = {"lxc": "lxc", "qemu-server": "qemu"}


@dataclass(frozen=True)
class Entry:
    """A folder (`data` None) or a file."""

    data: bytes | None
    changed: int


Tree = dict[str, Entry]


def refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def guests(tree: Tree) -> dict[int, tuple[str, str]]:
    """Node and kind of every guest of the cluster by its number."""
    found = (_CONF.fullmatch(path) for path in tree)
    return {int(m[3]): (m[1], _KINDS[m[2]]) for m in found if m}


class Database:
    """The tree, its transactions, and every state that it ever had."""

    def __init__(self, path: str, node: str) -> None:
        self.lock = threading.RLock()
        self.quorum, self.lose = not os.path.exists(f"{path}.alone"), -1
        self.base = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.base.execute("PRAGMA journal_mode=WAL")
        self.base.execute("PRAGMA synchronous=NORMAL")
        self.base.execute("CREATE TABLE IF NOT EXISTS tree (path PRIMARY KEY, data, changed)")
        rows = self.base.execute("SELECT path, data, changed FROM tree")
        self.tree: Tree = {path: Entry(data, changed) for path, data, changed in rows}
        self.states: list[Tree] = []
        if not self.tree:
            self.swap(dict(fresh(node)))
        else:
            self.states.append(self.tree)

    def swap(self, tree: Tree) -> None:
        """One transaction: what differs."""
        self.base.execute("BEGIN")
        for path in self.tree.keys() - tree.keys():
            self.base.execute("DELETE FROM tree WHERE path = ?", (path,))
        for path, entry in tree.items():
            if self.tree.get(path) is not entry:
                row = (path, entry.data, entry.changed)
                self.base.execute("REPLACE INTO tree VALUES (?, ?, ?)", row)
        self.base.execute("COMMIT")
        self.tree = tree
        self.states.append(tree)

    @contextlib.contextmanager
    def change(self) -> Iterator[Tree]:
        """A tree to be changed; raises where there is no quorum."""
        with self.lock:
            if self.lose == 0:
                self.quorum, self.lose = False, -1
            if not self.quorum:
                raise refuse(errno.EACCES)
            tree = dict(self.tree)
            yield tree
            self.swap(tree)
            self.lose = max(self.lose - 1, -1)


def fresh(node: str) -> Iterator[tuple[str, Entry]]:
    """A new node's tree."""
    now = time.time_ns()
    folders = ["", "/nodes", "/firewall", "/priv", "/priv/lock", f"/nodes/{node}"]
    folders += [f"/nodes/{node}/{name}" for name in ("lxc", "qemu-server", "priv")]
    return ((path or "/", Entry(None, now)) for path in folders)


class Pmxcfs(mfusepy.Operations):  # type: ignore[misc]
    """The operations; those that are not here the kernel is told there are none (ENOSYS)."""

    use_ns = True

    def __init__(self, base: Database, node: str) -> None:
        self.base, self.node = base, node
        self.short = 0
        self.group = grp.getgrnam("www-data").gr_gid
        self.links = {
            "/local": f"nodes/{node}",
            "/lxc": f"nodes/{node}/lxc",
            "/qemu-server": f"nodes/{node}/qemu-server",
        }

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        with self.base.lock:
            if path in self.links:
                kind, size, changed = stat.S_IFLNK, len(self.links[path]), time.time_ns()
            elif (shown := self._shown(path)) is not None:
                kind, size, changed = stat.S_IFREG, len(shown), time.time_ns()
            else:
                entry = self._entry(path)
                kind = stat.S_IFDIR if entry.data is None else stat.S_IFREG
                size, changed = len(entry.data or b""), entry.changed
            bits = 0o700 if self._private(path) else 0o640 if kind == stat.S_IFREG else 0o755
            if self._private(path) and kind == stat.S_IFREG:
                bits = 0o600
            if not self.base.quorum:
                bits &= 0o555
            return {
                "st_mode": kind | bits, "st_nlink": 2 if kind == stat.S_IFDIR else 1,
                "st_size": size, "st_uid": 0, "st_gid": self.group,
                "st_mtime": changed, "st_ctime": changed, "st_atime": changed,
            }  # fmt: skip

    def readdir(self, path: str, fh: int) -> list[str]:
        with self.base.lock:
            if self._entry(path).data is not None:
                raise refuse(errno.ENOTDIR)
            inside = [
                p for p in self.base.tree if p != "/" and str(PurePosixPath(p).parent) == path
            ]
            names = [PurePosixPath(each).name for each in inside]
            if path == "/":
                names += [link[1:] for link in self.links] + [".vmlist", ".version"]
            return [".", "..", *names]

    def readlink(self, path: str) -> str:
        if path not in self.links:
            raise refuse(errno.EINVAL)
        return self.links[path]

    def open(self, path: str, flags: int) -> int:
        # Also without quorum, and for writing.
        self.getattr(path)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        with self.base.lock:
            shown = self._shown(path)
            data = shown if shown is not None else self._file(path)
            return data[offset : offset + size]

    def create(self, path: str, mode: int, flags: int | None = None) -> int:
        with self.base.change() as tree:
            self._place(path)
            self._unique(path)
            tree[path] = Entry(b"", time.time_ns())
        return 0

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        with self.base.change() as tree:
            taken = data[: self.short or len(data)]
            if offset + len(taken) > LARGEST:
                raise refuse(errno.EFBIG)
            old = self._file(path).ljust(offset, b"\0")
            new = old[:offset] + taken + old[offset + len(taken) :]
            tree[path] = Entry(new, time.time_ns())
        return len(taken)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        with self.base.change() as tree:
            if length > LARGEST:
                raise refuse(errno.EFBIG)
            tree[path] = Entry(self._file(path)[:length].ljust(length, b"\0"), time.time_ns())
        return 0

    def rename(self, old: str, new: str) -> int:
        with self.base.change() as tree:
            entry = self._entry(old)
            there = tree.get(new)
            self._place(new)
            was, becomes = _CONF.fullmatch(old), _CONF.fullmatch(new)
            if becomes and not (was and was[3] == becomes[3]):
                self._unique(new)
            if there is not None and (there.data is None or entry.data is None):
                raise refuse(errno.EPERM)
            for path in [p for p in tree if p == old or p.startswith(f"{old}/")]:
                tree[new + path.removeprefix(old)] = replace(tree.pop(path))
        return 0

    def unlink(self, path: str) -> int:
        with self.base.change() as tree:
            self._file(path)
            del tree[path]
        return 0

    def mkdir(self, path: str, mode: int) -> int:
        with self.base.change() as tree:
            self._place(path)
            tree[path] = Entry(None, time.time_ns())
        return 0

    def rmdir(self, path: str) -> int:
        with self.base.change() as tree:
            if self._entry(path).data is not None:
                raise refuse(errno.ENOTDIR)
            if any(each.startswith(f"{path}/") for each in tree):
                raise refuse(errno.ENOTEMPTY)
            del tree[path]
        return 0

    def link(self, target: str, source: str) -> int:
        raise refuse(errno.EPERM)

    def chmod(self, path: str, mode: int) -> int:
        if stat.S_IMODE(mode) != (0o600 if self._private(path) else 0o640):
            raise refuse(errno.EPERM)
        return 0

    def chown(self, path: str, uid: int, gid: int) -> int:
        nobody = (-1, 0xFFFFFFFF)
        if uid not in (0, *nobody) or gid not in (self.group, *nobody):
            raise refuse(errno.EPERM)
        return 0

    def utimens(self, path: str, times: tuple[float, float] | None = None) -> int:
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        return {"f_bsize": 4096, "f_blocks": 32768, "f_bfree": 32000, "f_bavail": 32000}

    def _entry(self, path: str) -> Entry:
        try:
            return self.base.tree[path]
        except KeyError:
            raise refuse(errno.ENOENT) from None

    def _file(self, path: str) -> bytes:
        if self._shown(path) is not None:
            raise refuse(errno.EACCES)
        data = self._entry(path).data
        if data is None:
            raise refuse(errno.EISDIR)
        return data

    def _place(self, path: str) -> None:
        """Whether something may stand at a path: its folder is one, and it is none of our own."""
        if path in self.links or self._shown(path) is not None:
            raise refuse(errno.EACCES)
        if self._entry(str(PurePosixPath(path).parent)).data is not None:
            raise refuse(errno.ENOTDIR)

    def _unique(self, path: str) -> None:
        """A number is given once in the cluster, to a container or a VM."""
        if match := _CONF.fullmatch(path):
            here = (match[1], _KINDS[match[2]])
            if guests(self.base.tree).get(int(match[3]), here) != here:
                raise refuse(errno.EEXIST)

    def _shown(self, path: str) -> bytes | None:
        """What the file system itself tells."""
        version = len(self.base.states)
        if path == "/.version":
            return json.dumps({"version": version}).encode()
        if path == "/.vmlist":
            ids = {
                str(number): {"node": node, "type": kind, "version": version}
                for number, (node, kind) in sorted(guests(self.base.tree).items())
            }
            return json.dumps({"version": version, "ids": ids}).encode()
        return None

    @staticmethod
    def _private(path: str) -> bool:
        return bool(re.match(r"/(nodes/[^/]+/)?priv(/|$)", path))


class Fuse(mfusepy.FUSE):  # type: ignore[misc]
    """The binding, but a rename with flags is what pmxcfs does not know."""

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> int:
        return -errno.EINVAL if flags else int(super().rename_fuse_3(old, new, flags))


def switch(base: Database, files: Pmxcfs, asked: dict[str, Any]) -> object:
    """Do what a connection to the control socket says."""
    with base.lock:
        if "quorum" in asked:
            base.quorum, base.lose = asked["quorum"], -1
        base.lose = asked.get("lose", base.lose)
        files.short = asked.get("short", files.short)
        if "rewind" in asked:
            base.swap(base.states[asked["rewind"]])
        for node in asked.get("nodes", ()):
            base.swap({**dict(fresh(node)), **base.tree})
        return len(base.states)


def control(base: Database, files: Pmxcfs, path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(path)
        server.listen()
        while True:
            with server.accept()[0] as one, one.makefile("rw") as stream:
                answer = switch(base, files, json.loads(stream.readline()))
                stream.write(json.dumps(answer) + "\n")


def main(mountpoint: str, node: str, database: str, at: str) -> None:
    base = Database(database, node)
    files = Pmxcfs(base, node)
    threading.Thread(target=control, args=(base, files, at), daemon=True).start()
    Fuse(
        files, mountpoint, foreground=True, nothreads=True, allow_other=True, fsname="/dev/fuse",
        default_permissions=True, hard_remove=True,
        entry_timeout=0, attr_timeout=0, negative_timeout=0,
    )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
