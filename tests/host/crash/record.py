"""What a run does to files, call by call, as the kernel was asked for it.

Decoded at the system calls themselves, so that nothing is missed, whichever library asks: each call
that can change a file is in `trace.NAMES`, and one that is not decoded here ends the proof.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.host.crash.scene import content
from tests.host.crash.trace import CHANGING, NAMES, Call, Child

_AT = 0xFFFFFF9C
_BY_PATH: dict[str, tuple[str, tuple[int, ...]]] = {
    "rename": ("rename", (0, 1)), "mkdir": ("mkdir", (0,)), "rmdir": ("rmdir", (0,)),
    "link": ("link", (0, 1)), "unlink": ("unlink", (0,)), "symlink": ("symlink", (1,)),
    "chmod": ("mode", (0,)), "chown": ("mode", (0,)), "lchown": ("mode", (0,)),
}  # fmt: skip
_AT_FOLDER: dict[str, tuple[str, tuple[int, ...]]] = {
    "renameat": ("rename", (1, 3)), "renameat2": ("rename", (1, 3)), "mkdirat": ("mkdir", (1,)),
    "linkat": ("link", (1, 3)), "unlinkat": ("unlink", (1,)), "symlinkat": ("symlink", (2,)),
    "fchmodat": ("mode", (1,)), "fchmodat2": ("mode", (1,)), "fchownat": ("mode", (1,)),
}  # fmt: skip
_BY_HANDLE = {"write": 0, "pwrite64": 0, "writev": 0, "ftruncate": 0, "sendfile": 0,
              "copy_file_range": 2, "pwritev": 0, "pwritev2": 0}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """One operation: `what` is create, data, mkdir, rmdir, link, unlink, symlink, rename, sync or
    sync all. `path` and `other` are relative to the host; `data` and `mode` (with the
    owner, see scene.content) are the file's afterwards, `other` is where a link leads."""

    what: str
    path: str
    other: str = ""
    data: bytes = b""
    mode: int = 0

    def __str__(self) -> str:
        return f"{self.what} {self.path}{self.other and ' → '}{self.other}"


class Recorder:
    """The steps of a run below `root`."""

    def __init__(self, root: Path) -> None:
        self.root, self.prefix = root, f"{root}/"
        self.steps: list[Step] = []

    def record(self, body: Callable[[], None]) -> list[Step]:
        """Run it; what it did. It has to end well."""
        child = Child(body)
        try:
            while child.next():
                call = child.call()
                name = NAMES.get(call.number, "")
                if call.number in CHANGING or name in ("fsync", "fdatasync", "syncfs", "sync"):
                    self._one(child, call, name)
        finally:
            child.kill()
        assert child.code == 0, child.code
        return self.steps

    def _one(self, child: Child, call: Call, name: str) -> None:
        paths, before = self._paths(child, call, name), set[str]()
        if name in ("openat", "open", "creat") and paths:
            before = {paths[0]} if os.path.lexists(self.prefix + paths[0]) else set()
        if not child.done():
            return
        result = child.call().result
        assert result is not None
        if result < 0 or not paths:
            return
        what, path = self._what(name, call), paths[0]
        if what == "create":
            if path in before or not os.path.lexists(self.prefix + path):
                # An open that creates nothing; one that truncates changes data.
                if call.args[2 if name == "openat" else 1] & os.O_TRUNC:
                    self._data("data", path)
                return
            self._data("create", path)
        elif what in ("data", "mode"):
            self._data("data", path)
        elif what == "symlink":
            self.steps.append(Step(what, path, os.readlink(self.prefix + path)))
        else:
            other = paths[1] if len(paths) > 1 else ""
            self.steps.append(Step(what, path, other))

    def _data(self, what: str, path: str) -> None:
        full = self.prefix + path
        if not os.path.isfile(full):
            return  # A folder's mode, or a file without a name.
        mode, data = content(full)
        self.steps.append(Step(what, path, "", data, mode))

    def _what(self, name: str, call: Call) -> str:
        if name == "unlinkat" and call.args[2] & 0x200:
            return "rmdir"
        if name in ("open", "openat", "creat"):
            return "create"
        if name in _BY_HANDLE:
            return "data"
        known = {
            "fchmod": "mode",
            "fchown": "mode",
            "fsync": "sync",
            "fdatasync": "sync",
            "syncfs": "sync all",
        }
        return known.get(name) or (_BY_PATH.get(name) or _AT_FOLDER[name])[0]

    def _paths(self, child: Child, call: Call, name: str) -> list[str]:
        """The paths that a call names, of those below the host."""
        args = call.args
        if name in ("openat", "open", "creat"):
            flags = args[2] if name == "openat" else args[1]
            if not flags & (os.O_CREAT | os.O_TRUNC) and name != "creat":
                return []
            at = args[0] if name == "openat" else _AT
            found = [self._text(child, at, args[1 if name == "openat" else 0])]
        elif name in _BY_HANDLE:
            found = [self._handle(child, args[_BY_HANDLE[name]])]
        elif name in ("fsync", "fdatasync", "syncfs", "fchmod", "fchown"):
            found = [self._handle(child, args[0])]
        elif name in _BY_PATH:
            found = [self._text(child, _AT, args[i]) for i in _BY_PATH[name][1]]
        elif name in _AT_FOLDER:
            found = [self._text(child, args[i - 1], args[i]) for i in _AT_FOLDER[name][1]]
        else:
            raise AssertionError(f"{name} is not decoded")
        return [path[len(self.prefix) :] for path in found if path.startswith(self.prefix)]

    def _text(self, child: Child, at: int, address: int) -> str:
        path = child.text(address)
        if path.startswith("/"):
            return os.path.normpath(path)
        folder = os.getcwd() if at & 0xFFFFFFFF == _AT else self._handle(child, at)
        return os.path.normpath(f"{folder}/{path}")

    def _handle(self, child: Child, handle: int) -> str:
        return os.readlink(f"/proc/{child.pid}/fd/{handle & 0xFFFFFFFF}")
