"""Writes dist/, once for each content.

A transaction looks up what is there, writes what is missing to a staging folder of its own, flushes
the file system once, and only then takes the lock, looks again, and renames: objects, then
releases, then links. So whatever ends it, each name in dist/ stands for something whole, and a
release for objects that are there. A staging folder is locked by its owner; one that nobody holds
is a dead build's, and the next build removes it.

What lies there under the right name and size is taken as right; `Dist.faults` reads every byte.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from . import disk, manifest, tree
from .dist import MANIFEST, RESERVED, SHORT, SIGNATURE, Dist
from .manifest import Object
from .problems import UserError

_STAGING = ".staging-"

P = ParamSpec("P")
T = TypeVar("T")
Beside = Mapping[str, Callable[[], bytes]]
"""Files that lie beside a manifest, by name, made where they are missing."""


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


class Store(Dist):
    """dist/, to be written to. Making a Store touches nothing."""

    def transaction(self, signer: Signer | None = None) -> Transaction:
        """A context in which objects and releases are added; they are there once it is left."""
        return Transaction(self, signer)


def _told(
    method: Callable[Concatenate[Transaction, P], T],
) -> Callable[Concatenate[Transaction, P], T]:
    """A method whose OSErrors are told as UserErrors about dist/."""

    @functools.wraps(method)
    def inner(self: Transaction, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with disk.telling(self.dist.root):
            return method(self, *args, **kwargs)

    return inner


class Transaction:
    """What one build adds. Nothing of it is seen until the context is left without an exception;
    then `kept` tells of the releases, and `made` holds the names of the objects made anew.

    All methods raise UserError for what the file system refuses.
    """

    def __init__(self, dist: Dist, signer: Signer | None) -> None:
        self.dist, self.signer = dist, signer
        self.kept: dict[str, Kept] = {}
        self.made: set[str] = set()
        self._manifests: dict[str, bytes] = {}
        self._beside: dict[str, Beside] = {}
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
        if self._missing(item):
            disk.write(item.stored(), data, disk.READ_ONLY, self._folder()[1])
            self._staged[item.stored()] = item.size

    @_told
    def put_file(self, item: Object, source: Path) -> None:
        """Add an object whose bytes are a file's, by a hard link where that is possible.

        Its digest is taken as known: `source` is a verified file of the inputs' cache, and never
        changes again. UserError where its size is another.
        """
        if not self._missing(item):
            return
        folder = self._folder()[1]
        disk.link(source, item.stored(), folder)
        if disk.size(item.stored(), folder) != item.size:
            raise UserError(f"{source} is damaged: its size is wrong", "remove it, and build again")
        self._staged[item.stored()] = item.size

    @_told
    def release(self, host: str, data: bytes, beside: Beside | None = None) -> None:
        """Add a host's release by its manifest.

        One with the same id is found, not made again; it only gets what it lacks, of a signature
        and the files that are to lie beside the manifest.
        """
        assert host not in self._manifests, f"two releases of {host}"
        assert "/" not in host, host
        link = self.dist.root / host
        if host in RESERVED or host.startswith("."):
            raise UserError(f"a host cannot be named {host!r}: {link} is taken", "rename the host")
        if os.path.lexists(link) and not link.is_symlink():
            raise UserError(f"{link} is in the way", "move it away, then build again")
        self._manifests[host], self._beside[host] = data, beside or {}

    def _missing(self, item: Object) -> bool:
        return item.stored() not in self._staged and not self.dist.has(item)

    def _lock(self) -> Path:
        return self.dist.root / ".lock"

    def _folder(self) -> tuple[Path, int]:
        """The staging folder and its descriptor; made and locked at the first need."""
        if self._staging is None:
            self.dist.objects.mkdir(parents=True, exist_ok=True)
            with disk.locked(self._lock()):
                disk.sweep(self.dist.root, _STAGING)
                self._staging = self.dist.root / f"{_STAGING}{os.getpid()}-{os.urandom(4).hex()}"
                self._staging.mkdir()
                self._fd = os.open(self._staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self._fd, fcntl.LOCK_EX)
        return self._staging, self._fd

    def _leave(self) -> None:
        if self._staging is not None:
            # What cannot be removed now, the next build removes.
            shutil.rmtree(self._staging, ignore_errors=True)
        if self._fd >= 0:
            os.close(self._fd)
        self._staging, self._fd = None, -1

    @_told
    def _commit(self) -> None:
        found = {host: self.dist.find(host, data) for host, data in self._manifests.items()}
        staged = [
            host for host, (folder, whole) in found.items() if self._lacks(host, folder, whole)
        ]
        wrong = [host for host, (folder, _) in found.items() if self.dist.newest(host) != folder]
        if self._staged or staged or wrong:
            folder = self._folder()[1]
            self._stage_releases(staged)
            disk.flush(folder)
            with disk.locked(self._lock()):
                self._move_objects()
                for host in staged:
                    self._move_release(host)
                self._link_releases()
                disk.flush(folder)
        elif any(name.startswith(_STAGING) for name in disk.names(self.dist.root)):
            with suppress(OSError), disk.locked(self._lock()):
                disk.sweep(self.dist.root, _STAGING)
        self._tell({host for host, (folder, _) in found.items() if folder is None})

    def _lacks(self, host: str, folder: Path | None, whole: bool) -> bool:
        """Whether a release, as it was found, lacks something that it can get."""
        if folder is None or not whole:
            return True
        if any(disk.size(folder / name) is None for name in self._beside[host]):
            return True
        return self.signer is not None and not self.signer.made(disk.content(folder / SIGNATURE))

    def _stage_releases(self, hosts: list[str]) -> None:
        files = []
        for host in hosts:
            folder = self._folder()[0] / "releases" / host
            folder.mkdir(parents=True)
            disk.write(folder / MANIFEST, self._manifests[host], disk.READ_ONLY)
            for name, made in self._beside[host].items():
                disk.write(folder / name, made(), disk.READ_ONLY)
            files.append(folder / MANIFEST)
        if files and self.signer is not None:
            self.signer.sign(files)
            for path in files:
                path.with_name(SIGNATURE).chmod(disk.READ_ONLY)

    def _move_objects(self) -> None:
        with disk.opened(self.dist.objects) as store:
            for name, size in self._staged.items():
                if disk.size(name, store) != size:
                    os.rename(name, name, src_dir_fd=self._fd, dst_dir_fd=store)
                    self.made.add(name)
            if self._staged:
                # After a power cut, no release may be there without its objects.
                os.fsync(store)

    def _move_release(self, host: str) -> None:
        staged, data = self._folder()[0] / "releases" / host, self._manifests[host]
        folder, whole = self.dist.find(host, data)
        if folder is None:
            history = self.dist.history(host)
            serial = history[-1][0] + 1 if history else 1
            place = self.dist.releases / host
            place.mkdir(parents=True, exist_ok=True)
            staged.rename(place / f"{serial:04}-{manifest.identity(data)[:SHORT]}")
            return
        if not whole:
            (staged / MANIFEST).rename(folder / MANIFEST)
        for name in self._beside[host]:
            if disk.size(folder / name) is None:
                (staged / name).rename(folder / name)
        if (staged / SIGNATURE).exists():
            (staged / SIGNATURE).rename(folder / SIGNATURE)

    def _link_releases(self) -> None:
        for host, data in self._manifests.items():
            folder, _ = self.dist.find(host, data)
            assert folder is not None, f"{host}'s release is gone"
            if self.dist.newest(host) != folder:
                link = self._folder()[0] / f"link-{host}"
                link.symlink_to(folder.relative_to(self.dist.root))
                link.rename(self.dist.root / host)

    def _tell(self, new: set[str]) -> None:
        for host, data in self._manifests.items():
            folder, _ = self.dist.find(host, data)
            assert folder is not None, f"{host}'s release is gone"
            signed = (folder / SIGNATURE).is_file()
            self.kept[host] = Kept(host, manifest.identity(data), folder, host in new, signed)
