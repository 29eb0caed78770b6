"""What dist/ and the key folders need of the file system: whole files, locks, one flush for many.

Nothing here knows what it writes. OSErrors go up as they are; `telling` turns them into UserErrors
at the doer's edge.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from .problems import UserError

READ_ONLY = 0o444
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
# A hard link that the file system, the owner or the number of links forbids.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS)
_NO_RANGE = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


@contextmanager
def telling(root: Path) -> Iterator[None]:
    """Turn what the file system refuses below `root` into a UserError."""
    try:
        yield
    except OSError as error:
        at = Path(os.path.join(root, error.filename or "") if _named(error) else root)
        reason = error.strerror or str(error)
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no space left in {root}", "free some space, then try again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = f"let this user write in {root}, or name another folder"
            raise UserError(f"{at} cannot be written: {reason}", hint) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            hint = "move it away, then try again"
            raise UserError(f"{_blocking(at)} is in the way", hint) from error
        raise UserError(f"{at}: {reason}") from error


def _named(error: OSError) -> bool:
    return isinstance(error.filename, str)


def _blocking(path: Path) -> Path:
    """Of a path and the folders above it, the one that is no folder."""
    above = (step for step in reversed(path.parents) if os.path.lexists(step) and not step.is_dir())
    return next(above, path)


def size(path: str | Path, folder: int | None = None) -> int | None:
    """Size in bytes of a regular file; None where there is none. `folder` is what a relative path
    counts from."""
    try:
        found = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def names(folder: Path) -> list[str]:
    """The names in a folder, unsorted; none where there is no folder."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def content(path: Path) -> bytes:
    """The file's bytes; empty where there is no such file."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return b""


def write(path: str | Path, data: bytes, mode: int, folder: int | None = None) -> None:
    """Write a new file, whole, with exactly this mode; FileExistsError where one is."""
    file = _made(path, mode, folder)
    try:
        _all(file, data)
    finally:
        os.close(file)


def link(source: Path, name: str, folder: int) -> None:
    """Give a file that never changes a second, read-only name in `folder`; where no hard link is
    possible, copy it (sharing its blocks where the file system can)."""
    try:
        os.link(source, name, dst_dir_fd=folder, follow_symlinks=True)
        if stat.S_IMODE(source.stat().st_mode) != READ_ONLY:
            os.chmod(name, READ_ONLY, dir_fd=folder)
        return
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
    if size(name, folder) is not None:
        os.unlink(name, dir_fd=folder)
    with source.open("rb") as held:
        out = _made(name, READ_ONLY, folder)
        try:
            _copy(held, out)
        finally:
            os.close(out)


def _copy(held: IO[bytes], out: int) -> None:
    try:
        while os.copy_file_range(held.fileno(), out, 1 << 30):
            pass
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
        # Nothing is copied yet: a file system refuses at the first call.
        while chunk := held.read(1 << 20):
            _all(out, chunk)


def _all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _made(path: str | Path, mode: int, folder: int | None) -> int:
    """The descriptor of a new file, whose mode is the one given whatever the umask."""
    file = os.open(path, _NEW, mode, dir_fd=folder)
    os.fchmod(file, mode)
    return file


@contextmanager
def opened(folder: Path) -> Iterator[int]:
    """A descriptor of a folder."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Hold the lock file, which is made where it is missing; waits for who has it."""
    held = os.open(file, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def sweep(root: Path, prefix: str) -> None:
    """Remove folders of this prefix that no living process holds locked. They are made and locked
    under a lock of the caller's, which must be held."""
    for name in names(root):
        if not name.startswith(prefix):
            continue
        try:
            folder = os.open(root / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(root / name, ignore_errors=True)
        finally:
            os.close(folder)


def flush(folder: int) -> None:
    """Write the whole file system of `folder` to its disk: for many files cheaper than one by one.

    Raises OSError for what could not be written.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(folder) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
