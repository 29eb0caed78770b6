"""Verified files by their content, and what is made of them: guests' folders, generations.

A file comes to `incoming` in parts, is compared with its digest, and only then moves to the store.
The same content as a program (mode 0755 and its like) and as plain data are two files, since a hard
link shares its mode with all others.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from . import files, release, stream
from .paths import Paths
from .release import Entry, Guest, Object, Release
from .schema import RefusedError
from .stream import Readable

_CHUNK = 1 << 20
_TIME = 10**9
"""The time of every file in the store, in nanoseconds: the first second of 1970."""
NODE = 16
"""How many digits of a node's digest name a guest's folder."""


class Store:
    """The store of a host; nothing in it is ever changed."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.folder = paths.store

    def path(self, digest: str, program: bool = False) -> Path:
        """Where a file stands, or would."""
        return self.folder / (digest + ".x" if program else digest)

    def has(self, digest: str) -> bool:
        return self.path(digest).exists() or self.path(digest, program=True).exists()

    def begun(self, digest: str) -> int:
        """How many bytes of a file have come already, by an earlier connection."""
        try:
            return (self.paths.incoming / digest).stat().st_size
        except FileNotFoundError:
            return 0

    def receive(self, digest: str, begin: int, length: int, source: Readable) -> None:
        """Add `length` bytes from `source` to a file that has `begin` bytes already."""
        files.folder(self.paths.incoming, 0o700)
        path = self.paths.incoming / digest
        if begin != self.begun(digest):
            raise RefusedError(f"{digest}: continues at {begin}, but {self.begun(digest)} are here")
        with _own(path) as out:
            while length:
                chunk = source.read(min(length, _CHUNK))
                if not chunk:
                    raise RefusedError("the connection ended in the middle of a file")
                out.write(chunk)
                length -= len(chunk)

    def likes(self, olds: Iterable[str], wanted: Iterable[tuple[Object, int]]) -> Iterator[bytes]:
        """What files that come, each from where it begins, were packed against: `olds` are older
        ones' digests, "" for none."""
        for old, (each, begin) in zip(olds, wanted, strict=True):
            yield from stream.likes(self.read(old) if old else b"", begin, each.size)

    def accept(self, wanted: Iterable[Object]) -> None:
        """Move whole files that have come into the store; raises RefusedError where one of them is
        another than it should be, and forgets that.

        What has a name in the store is whole, also after a power cut.
        """
        sizes = {each.digest: each.size for each in wanted if not self.has(each.digest)}
        # What is not whole may be another connection's by now, that goes on with it.
        own = {d: path for d in sizes if self.begun(d) == sizes[d] and (path := self._owned(d))}
        right = {digest: path for digest, path in own.items() if _digest(path) == digest}
        for path in {*own.values()} - {*right.values()}:
            path.unlink()
        for path in right.values():
            path.chmod(0o444)
            os.utime(path, ns=(_TIME, _TIME))
        files.sync_all(self.paths.incoming)
        for digest, path in right.items():
            os.rename(path, self.path(digest))
        for digest in sizes.keys() - right.keys():
            raise RefusedError(f"{digest} is not what came under that name: send it again")

    def _owned(self, digest: str) -> Path | None:
        """A file that has come, under a name that no other connection knows: what is compared is
        what moves. None where another has it by now."""
        path = self.paths.incoming / f".{digest}.{os.getpid()}"
        try:
            # It need not be at once: what it gives is compared.
            os.replace(self.paths.incoming / digest, path)
        except FileNotFoundError:
            return None
        return path

    def read(self, digest: str) -> bytes:
        """A file's bytes; raises RefusedError where it lacks or was altered."""
        path = self.path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise RefusedError(f"the store lacks {digest}") from None
        if release.digest(data) != digest:
            raise RefusedError(f"{path} was altered")
        return data

    def guest(self, node: str) -> Guest:
        """The guest of a node's digest."""
        return _guest(self.read(node))

    def entries(self, guest: Guest) -> dict[str, Entry]:
        """A guest's files by their path in its folder; an upper layer's file wins."""
        return {e.path: e for index in guest.indexes for e in _index(self.read(index.digest))}

    def needed(self, wanted: Release) -> Iterator[Object]:
        """The files of a release, those first that say which others there are."""
        yield wanted.network
        if wanted.program:
            yield wanted.program
        yield from (target.content for target in wanted.targets)
        for ref in wanted.guests:
            yield ref.node
            if self.path(ref.node.digest).exists():
                yield from self._overlay(self.guest(ref.node.digest))

    def _overlay(self, guest: Guest) -> Iterator[Object]:
        for index in guest.indexes:
            yield index
            if self.path(index.digest).exists():
                for entry in _index(self.read(index.digest)):
                    if not entry.target:
                        yield entry.content

    def verify(self, wanted: Iterable[Object], every: bool = True) -> None:
        """Compare each file with its digest; raises RefusedError at the first fault.

        Without `every`, a file that still has the size and the time that it got with its verified
        bytes is not read again: whatever writes to a file changes its time.
        """
        for each in wanted:
            found = [(path, at) for x in (False, True)
                     if (at := _status(path := self.path(each.digest, x)))]  # fmt: skip
            if not found:
                raise RefusedError(f"the store lacks {each.digest}")
            for path, at in found:
                if not every and (at.st_size, at.st_mtime_ns) == (each.size, _TIME):
                    continue
                if at.st_size != each.size or _digest(path) != each.digest:
                    raise RefusedError(f"{path} was altered")
                os.utime(path, ns=(_TIME, _TIME))

    def unpack(self, node: str, guest: Guest) -> None:
        """Have the guest's folder for this node, whole: a folder beside it, then a rename."""
        place = self.paths.guest(guest.id)
        made = place / node[:NODE]
        if made.exists():
            return
        files.folder(place)
        temporary = place / f".{made.name}"
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir()
        temporary.chmod(0o755)
        for entry in self.entries(guest).values():
            self._place(temporary, entry)
        files.sync_all(place)
        # Its name is kept no later than that of the link that leads to it, in the same folder.
        os.rename(temporary, made)

    def program(self, digest: str) -> Path:
        """A file of the store as a program, to be run: with its bytecode, where it is Python's."""
        from . import compiled

        plain = self._as(digest, program=True)
        made = self.paths.store / f"{digest}.{sys.implementation.cache_tag}"
        data = None if made.exists() else compiled.compiled(plain.read_bytes())
        if data is not None:
            files.write(made, data, 0o555)
        # Whoever links to it does so durably.
        files.sync_folder(self.paths.store)
        return made if made.exists() else plain

    def _place(self, root: Path, entry: Entry) -> None:
        path = root / entry.path
        for parent in reversed(path.relative_to(root).parents[:-1]):
            if not (root / parent).is_dir():
                (root / parent).mkdir()
                (root / parent).chmod(0o755)
        if entry.target:
            path.symlink_to(entry.target)
        else:
            os.link(self._as(entry.content.digest, program=bool(entry.mode & 0o111)), path)

    def _as(self, digest: str, program: bool) -> Path:
        """A file of the store with the right mode, made from its twin where only that is here."""
        path = self.path(digest, program)
        if not path.exists():
            temporary = self.paths.incoming / f"{digest}.x"
            files.folder(self.paths.incoming, 0o700)
            shutil.copyfile(self.path(digest, not program), temporary)
            temporary.chmod(0o555 if program else 0o444)
            os.utime(temporary, ns=(_TIME, _TIME))
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            os.rename(temporary, path)
        return path


# The same few documents are asked for again and again while one release is looked at.
_guest = functools.lru_cache(256)(release.guest)
_index = functools.lru_cache(1024)(release.index)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _own(path: Path) -> IO[bytes]:
    """A part for this connection alone, with what came by an earlier one: that may not have ended,
    and goes on with a file that has no name any more."""
    with contextlib.ExitStack() as stack:
        held = stack.enter_context(path.open("rb")) if path.exists() else None
        path.unlink(missing_ok=True)
        out = path.open("xb")
        if held:
            shutil.copyfileobj(held, out, _CHUNK)
        return out
