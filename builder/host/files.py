"""Files, durably: a name leads to the old content or to the new one, whole, also after a power cut.

`/etc/pve` keeps no symbolic links, takes no chmod, and answers fsync without doing anything; what
is written there is atomic all the same, by the same temporary file and rename.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

PVE = "/etc/pve/"
# Neither a guest's configuration (`^[1-9]\d*\.conf$`) nor anything that a glob of the system takes.
_TEMPORARY = ".phoenix-new."


class BusyError(Exception):
    """Somebody else holds the lock; `who` is what the holder wrote into it."""

    def __init__(self, who: str) -> None:
        super().__init__(who)
        self.who = who


def read(path: Path) -> bytes | None:
    """A regular file's bytes, or None where nothing is.

    Raises OSError for anything else that stands there: a link leads elsewhere, and is not ours.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(f"{path} is no regular file")
        return stream.read()


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Have `path` hold these bytes."""
    temporary = path.with_name(_TEMPORARY + path.name)
    temporary.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, mode)
    try:
        _all(handle, data)
        if not str(path).startswith(PVE):
            os.fchmod(handle, mode)
        os.fsync(handle)
    finally:
        os.close(handle)
    os.rename(temporary, path)
    sync_folder(path.parent)


def remove(path: Path) -> None:
    """Have nothing stand at `path`; what is a link or a file goes."""
    sweep(path)
    try:
        path.unlink()
    except FileNotFoundError:
        return
    sync_folder(path.parent)


def sweep(path: Path) -> None:
    """Take away what a `write` or a `link` of `path` left that was killed."""
    temporary = path.with_name(_TEMPORARY + path.name)
    if os.path.lexists(temporary):
        temporary.unlink()


def mode(path: Path) -> int | None:
    """A file's permission bits, or None where nothing is."""
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except FileNotFoundError:
        return None


def link(path: Path, target: str) -> None:
    """Have `path` be a symbolic link to `target`."""
    temporary = path.with_name(_TEMPORARY + path.name)
    temporary.unlink(missing_ok=True)
    os.symlink(target, temporary)
    os.rename(temporary, path)
    sync_folder(path.parent)


def leads(path: Path) -> str | None:
    """Where a symbolic link leads, or None where nothing is."""
    try:
        return os.readlink(path)
    except FileNotFoundError:
        return None


def folder(path: Path, mode: int = 0o755) -> None:
    """Have a folder, and those above it, durably."""
    if path.is_dir():
        return
    folder(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode)
        if not str(path).startswith(PVE):
            path.chmod(mode)
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Have the names in a folder survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_all(path: Path) -> None:
    """Have all that was written to `path`'s file system survive: one call for many files."""
    import ctypes

    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(handle):
            number = ctypes.get_errno()
            raise OSError(number, f"syncfs {path}: {os.strerror(number)}")
    finally:
        os.close(handle)


SETTLE = "settle"
"""Whoever stops drained slots, by the first word of its lock: it holds that for a moment."""


@contextlib.contextmanager
def locked(path: Path, who: str) -> Iterator[None]:
    """Hold the lock; raises BusyError at once where another does, unless it stops a drained slot:
    then it is awaited for a minute.

    The kernel lets go of it when the process ends, however it ends.
    """
    end = time.monotonic() + 60
    with open(path, "a+b", buffering=0) as stream:
        while not _flock(stream):
            stream.seek(0)
            holder = stream.read(1000).decode("utf-8", "replace").strip()
            if not holder.startswith(f"{SETTLE} ") or time.monotonic() > end:
                raise BusyError(holder)
            time.sleep(0.1)
        stream.truncate(0)
        _all(stream.fileno(), who.encode() + b"\n")
        yield


def _flock(stream: IO[bytes]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _all(handle: int, data: bytes) -> None:
    # One write may be short: pmxcfs takes a large one in parts, and a full disk its beginning.
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(handle, rest) :]
