"""dist/: a content-addressed store and its releases, write-once.

    dist/store/<digest>-<name>              objects, read-only
    dist/releases/<host>/<serial>-<id>/     manifest.json, and manifest.json.sig where it is signed
    dist/<host>                             link to the release that was built last

A transaction looks up what is there, writes what is missing to a staging folder of its own, and
only then takes the lock, looks again, flushes the file system once, and renames: objects, releases,
links, in this order. So whatever ends it, each name in dist/ stands for something whole, and a
release for objects that are there. A staging folder is locked by its owner; one that nobody holds
is a dead build's, and the next build removes it.

What lies there under a right name and size is taken as right; `audit` reads every byte.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from . import manifest, tree
from .manifest import Object
from .problems import UserError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
RESERVED = frozenset({"store", "releases"})
_STAGING = ".staging-"
_RELEASE = re.compile(r"(\d{4,})-([0-9a-f]{12})")
_READ_ONLY = 0o444

P = ParamSpec("P")
T = TypeVar("T")


class Signer(Protocol):
    """Signs manifests; `keys.Key` is one."""

    def sign(self, files: Sequence[Path]) -> None:
        """Write FILE.sig beside each file."""

    def made(self, signature: bytes) -> bool:
        """Whether this signer's key made the signature."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A release in dist/. `new` if this transaction made it; `signed` if a signature lies there."""

    host: str
    id: str
    folder: Path
    new: bool
    signed: bool


@contextmanager
def _telling(dist: Path) -> Iterator[None]:
    """Turn what the file system refuses into a UserError."""
    try:
        yield
    except OSError as error:
        at = error.filename if isinstance(error.filename, str) and error.filename else dist
        at = at if os.path.isabs(at) else dist
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no space left in {dist}", "free some space, then build again"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise UserError(
                f"{at} cannot be written ({os.strerror(error.errno)})",
                f"let this user write in {dist}, or name another folder",
            ) from error
        if error.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            raise UserError(f"{at} is in the way", f"move it out of {dist}") from error
        raise UserError(f"{at}: {error.strerror or error}") from error


def _told(
    method: Callable[Concatenate[Transaction, P], T],
) -> Callable[Concatenate[Transaction, P], T]:
    @functools.wraps(method)
    def inner(self: Transaction, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with _telling(self.store.dist):
            return method(self, *args, **kwargs)

    return inner


class Store:
    """The folder dist/. Making one touches nothing."""

    def __init__(self, dist: Path) -> None:
        self.dist = dist.absolute()
        self.objects = self.dist / "store"
        self.releases = self.dist / "releases"

    def transaction(self, signer: Signer | None = None) -> Transaction:
        """A context in which objects and releases are added; they are there once it is left."""
        return Transaction(self, signer)

    def path(self, item: Object) -> Path:
        """Where the object lies, or would."""
        return self.objects / item.stored()

    def has(self, item: Object) -> bool:
        """Whether a file of the object's name and size is there."""
        return _size(self.path(item)) == item.size

    def read(self, item: Object) -> bytes:
        """The object's bytes, verified; UserError where they are missing or wrong."""
        try:
            data = self.path(item).read_bytes()
        except OSError as error:
            raise UserError(f"{self.path(item)}: {error.strerror}", "build it again") from error
        if tree.digest(data) != item.digest:
            raise UserError(f"{self.path(item)} is damaged", "remove it, and build it again")
        return data

    def newest(self, host: str) -> Path | None:
        """The folder of the host's release that was built last; None where there is none."""
        folder = self.dist / host
        if not folder.is_symlink() or not (folder / MANIFEST).is_file():
            return None
        return self.dist / os.readlink(folder)

    def history(self, host: str) -> tuple[tuple[int, Path], ...]:
        """The host's releases as (serial, folder), oldest first."""
        found = []
        for name in _names(self.releases / host):
            if match := _RELEASE.fullmatch(name):
                found.append((int(match[1]), self.releases / host / name))
        return tuple(sorted(found))

    def find(self, host: str, data: bytes) -> tuple[Path | None, bool]:
        """The folder of the release with this manifest, and whether its manifest is whole."""
        wanted = manifest.identity(data)
        for _, folder in self.history(host):
            if folder.name.endswith(f"-{wanted[:12]}"):
                held = _content(folder / MANIFEST)
                if held == data:
                    return folder, True
                # Another release may share the twelve digits; only a damaged one is this one's.
                if not tree.digest(held).startswith(wanted[:12]):
                    return folder, False
        return None, False


class Transaction:
    """What one build adds. Nothing of it is seen until the context is left without an exception."""

    def __init__(self, store: Store, signer: Signer | None) -> None:
        self.store, self.signer = store, signer
        self.kept: dict[str, Kept] = {}
        self.made = 0
        self._manifests: dict[str, bytes] = {}
        self._staged: dict[str, int] = {}
        self._staging: Path | None = None
        self._fd = -1

    def __enter__(self) -> Transaction:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._commit()
        finally:
            self._leave()

    def add(self, name: str, data: bytes) -> Object:
        """Add an object; gives its digest, name and size."""
        item = Object(tree.digest(data), name, len(data))
        self.put(item, data)
        return item

    @_told
    def put(self, item: Object, data: bytes) -> None:
        """Add an object of which the digest is known."""
        assert item.size == len(data), f"{item} has {len(data)} bytes"
        if not self._missing(item):
            return
        file = os.open(item.stored(), _NEW, _READ_ONLY, dir_fd=self._folder())
        try:
            _write(file, data)
        finally:
            os.close(file)
        self._staged[item.stored()] = item.size

    @_told
    def put_file(self, item: Object, source: Path) -> None:
        """Add an object whose bytes are a file's, by a hard link where that is possible.

        Digest and size are taken as known: `source` is a verified file of the inputs' cache, and
        never changes again. UserError where its size is another.
        """
        if not self._missing(item):
            return
        if source.stat().st_size != item.size:
            raise UserError(f"{source} is damaged: its size is wrong", "remove it, and build again")
        _link(source, item.stored(), self._folder())
        self._staged[item.stored()] = item.size

    def release(self, host: str, data: bytes) -> None:
        """Add a host's release by its manifest; `kept[host]` tells of it once the context is left.

        One with the same id is found, not made again; it only gets a signature that it lacks.
        """
        assert host not in self._manifests, f"two releases of {host}"
        if host in RESERVED or not host or host.startswith(".") or "/" in host:
            raise UserError(f"a host cannot be named {host!r}: {self.store.dist} holds it already")
        self._manifests[host] = data

    def _missing(self, item: Object) -> bool:
        return item.stored() not in self._staged and not self.store.has(item)

    def _folder(self) -> int:
        """The staging folder, made and locked at the first need."""
        if self._staging is None:
            self.store.objects.mkdir(parents=True, exist_ok=True)
            with _locked(self.store.dist):
                _sweep(self.store.dist)
                name = f"{_STAGING}{os.getpid()}-{os.urandom(4).hex()}"
                self._staging = self.store.dist / name
                self._staging.mkdir(0o755)
                self._fd = os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self._fd

    @_told
    def _leave(self) -> None:
        if self._staging is not None:
            # What cannot be removed now, the next build removes.
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @_told
    def _commit(self) -> None:
        signed = self._stage_releases()
        links = [host for host in self._manifests if not self._linked(host)]
        if not (self._staged or signed or links):
            self._tell({})
            return
        staging = self._folder()
        with _locked(self.store.dist):
            _flush(staging)
            self._move_objects()
            new = self._move_releases(signed)
            self._link_releases()
            _flush(staging)
        self._tell(new)

    def _stage_releases(self) -> list[str]:
        """Stage manifests of releases that are missing, damaged or to be signed; and sign them."""
        hosts = [host for host, data in self._manifests.items() if not self._settled(host, data)]
        files = []
        for host in hosts:
            self._folder()
            assert self._staging is not None
            folder = self._staging / "releases" / host
            folder.mkdir(parents=True)
            files.append(folder / MANIFEST)
            file = os.open(files[-1], _NEW, _READ_ONLY)
            try:
                _write(file, self._manifests[host])
            finally:
                os.close(file)
        if files and self.signer is not None:
            self.signer.sign(files)
            for path in files:
                os.chmod(path.with_name(SIGNATURE), _READ_ONLY)
        return hosts

    def _settled(self, host: str, data: bytes) -> bool:
        """Whether the release is there, whole, and signed if it can be."""
        folder, whole = self.store.find(host, data)
        if folder is None or not whole:
            return False
        return self.signer is None or self.signer.made(_content(folder / SIGNATURE))

    def _linked(self, host: str) -> bool:
        folder, _ = self.store.find(host, self._manifests[host])
        newest = self.store.newest(host)
        return newest is not None and newest == folder

    def _move_objects(self) -> None:
        store = os.open(self.store.objects, os.O_RDONLY | os.O_DIRECTORY)
        try:
            for name, size in self._staged.items():
                if _size(name, store) != size:
                    os.rename(name, name, src_dir_fd=self._fd, dst_dir_fd=store)
                    self.made += 1
            # A release must not outlive a power cut that its objects don't.
            os.fsync(store)
        finally:
            os.close(store)

    def _move_releases(self, hosts: list[str]) -> dict[str, bool]:
        """Move staged releases to their place; says of which hosts one is new."""
        new = {}
        assert self._staging is not None
        for host in hosts:
            staged = self._staging / "releases" / host
            folder, whole = self.store.find(host, self._manifests[host])
            new[host] = folder is None
            if folder is None:
                history = self.store.history(host)
                serial = history[-1][0] + 1 if history else 1
                place = self.store.releases / host
                place.mkdir(parents=True, exist_ok=True)
                short = manifest.identity(self._manifests[host])[:12]
                os.rename(staged, place / f"{serial:04}-{short}")
                continue
            if not whole:
                os.rename(staged / MANIFEST, folder / MANIFEST)
            if (staged / SIGNATURE).exists():
                os.rename(staged / SIGNATURE, folder / SIGNATURE)
        return new

    def _link_releases(self) -> None:
        assert self._staging is not None
        for host in self._manifests:
            if self._linked(host):
                continue
            folder, _ = self.store.find(host, self._manifests[host])
            assert folder is not None
            link = self._staging / f"link-{host}"
            os.symlink(folder.relative_to(self.store.dist), link)
            place = self.store.dist / host
            if os.path.lexists(place) and not place.is_symlink():
                raise FileExistsError(errno.EEXIST, "not a link of ours", str(place))
            os.rename(link, place)

    def _tell(self, new: dict[str, bool]) -> None:
        for host, data in self._manifests.items():
            folder, _ = self.store.find(host, data)
            assert folder is not None, f"{host}'s release is gone"
            signed = (folder / SIGNATURE).is_file()
            self.kept[host] = Kept(
                host, manifest.identity(data), folder, new.get(host, False), signed
            )


_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW


def _write(file: int, data: bytes) -> None:
    os.fchmod(file, _READ_ONLY)
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _link(source: Path, name: str, folder: int) -> None:
    """Give `source` the name in the folder; where another file system, another owner or too many
    links forbid that, copy it (which shares the blocks where the file system can)."""
    try:
        os.link(source, name, dst_dir_fd=folder, follow_symlinks=True)
        os.chmod(name, _READ_ONLY, dir_fd=folder)
        return
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
            raise
    _copy(source, name, folder)


def _copy(source: Path, name: str, folder: int) -> None:
    if _size(name, folder) is not None:
        os.unlink(name, dir_fd=folder)
    with source.open("rb") as held:
        file = os.open(name, _NEW, _READ_ONLY, dir_fd=folder)
        try:
            os.fchmod(file, _READ_ONLY)
            with os.fdopen(os.dup(file), "wb") as out:
                shutil.copyfileobj(held, out, 1 << 20)
        finally:
            os.close(file)


def _size(path: str | Path, folder: int | None = None) -> int | None:
    """Size in bytes of a regular file; None where there is none."""
    try:
        found = os.stat(path, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _content(path: Path) -> bytes:
    """The file's bytes; empty where it cannot be read as a file."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return b""


@contextmanager
def _locked(dist: Path) -> Iterator[None]:
    file = os.open(dist / ".lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _sweep(dist: Path) -> None:
    """Remove staging folders that no living build holds. The lock on dist/ must be held."""
    for name in _names(dist):
        if not name.startswith(_STAGING):
            continue
        try:
            folder = os.open(dist / name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError:
            continue
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(dist / name, ignore_errors=True)
        finally:
            os.close(folder)


def _flush(folder: int) -> None:
    """Write the folder's whole file system to the disk, which is cheaper than file by file."""
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "syncfs"):
        os.sync()
    elif libc.syncfs(folder) != 0:
        raise OSError(ctypes.get_errno(), "syncfs")
