"""Files as values: trees, digests, and deterministic tar archives.

A layer is a tar of which every byte is set, never inherited: entries sorted by path, owner 0:0,
mtime 0, modes as declared, ustar headers, no padding beyond the two closing blocks. Its digest is
over the uncompressed bytes. Its index says where each file's bytes lie in the tar, so that one
file can be sent without unpacking, and nothing is stored twice.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import IO

BLOCK = 512
_CHUNK = 1 << 20
MODES = frozenset({0o644, 0o755, 0o444, 0o555, 0o640, 0o600, 0o440, 0o400})
LINK_MODE = 0o777

# What a path and a link's target look like; neither holds a control character.
RELATIVE = r"(?!\.{1,2}(/|$))[^/\\]+(/(?!\.{1,2}(/|$))[^/\\]+)*"
TARGET = r"/?(?!\.(/|$))[^/\\]+(/(?!\.(/|$))[^/\\]+)*"
_RELATIVE, _TARGET = re.compile(RELATIVE), re.compile(TARGET)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def digest(data: bytes) -> str:
    """SHA-256 of `data`, 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()


def contained(path: str, target: str) -> bool:
    """Whether the link at `path` stays in the root that `path` begins from, at every step.

    An absolute target counts from the guest's root.
    """
    depth = 0 if target.startswith("/") else path.count("/")
    for step in target.strip("/").split("/"):
        depth += -1 if step == ".." else 1
        if depth < 0:
            return False
    return True


def below(paths: Iterable[str]) -> str | None:
    """The first path that lies below another of them; None where none does."""
    known = set(paths)
    for path in sorted(known):
        parent = path.rpartition("/")[0]
        while parent:
            if parent in known:
                return path
            parent = parent.rpartition("/")[0]
    return None


@dataclass(frozen=True, slots=True)
class File:
    """A regular file; `data` is its content, or `source` a file on disk that holds it."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    source: Path | None = None

    def size(self) -> int:
        return len(self.data) if self.source is None else self.source.stat().st_size

    def chunks(self) -> Iterator[bytes]:
        if self.source is None:
            yield self.data
            return
        with self.source.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                yield chunk


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link; `target` is relative, or absolute inside the guest."""

    path: str
    target: str


Entry = File | Link


@dataclass(frozen=True, slots=True)
class Tree:
    """Entries sorted by path, no path twice, none that leaves the root."""

    entries: tuple[Entry, ...]

    @staticmethod
    def of(entries: Iterable[Entry]) -> Tree:
        """Sort and check `entries`; a duplicate or an unsafe path is a broken invariant."""
        ordered = tuple(sorted(entries, key=lambda entry: entry.path))
        for before, after in pairwise(ordered):
            assert before.path != after.path, f"{after.path!r} stands twice"
        for entry in ordered:
            _check(entry)
        nested = below(entry.path for entry in ordered)
        assert nested is None, f"{nested!r} is below a file"
        return Tree(ordered)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __add__(self, other: Tree) -> Tree:
        return Tree.of((*self.entries, *other.entries))

    def file(self, path: str) -> File:
        """The regular file at `path`; KeyError where there is none."""
        for entry in self.entries:
            if entry.path == path and isinstance(entry, File):
                return entry
        raise KeyError(path)


def _safe(shape: re.Pattern[str], text: str) -> bool:
    return bool(shape.fullmatch(text)) and not _CONTROL.search(text)


def _check(entry: Entry) -> None:
    assert _safe(_RELATIVE, entry.path), repr(entry.path)
    if isinstance(entry, File):
        assert entry.mode in MODES, f"{entry.path!r}: {entry.mode:o}"
        return
    target = entry.target
    assert _safe(_TARGET, target), f"{entry.path!r}: {target!r}"
    assert contained(entry.path, target), f"{entry.path!r} leads out of the tree: {target!r}"


@dataclass(frozen=True, slots=True)
class Indexed:
    """One entry of a layer's index. `offset` is where a file's bytes begin in the tar; a link
    has a target, and no mode, size, digest or offset worth the name."""

    path: str
    mode: int
    size: int
    digest: str
    offset: int
    target: str = ""

    def as_json(self) -> dict[str, object]:
        if self.target:
            return {"path": self.path, "target": self.target}
        return {
            "path": self.path,
            "mode": f"{self.mode:04o}",
            "size": self.size,
            "digest": self.digest,
            "offset": self.offset,
        }


@dataclass(frozen=True, slots=True)
class Packed:
    """A written layer: digest and size in bytes of the tar, and its index."""

    digest: str
    size: int
    index: tuple[Indexed, ...]


class _Hashing:
    def __init__(self, out: IO[bytes]) -> None:
        self.out, self.hash, self.size = out, hashlib.sha256(), 0

    def write(self, data: bytes) -> None:
        self.out.write(data)
        self.hash.update(data)
        self.size += len(data)


def _header(path: str, kind: bytes, *, mode: int, size: int = 0, target: str = "") -> bytes:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.size, info.linkname = kind, mode, size, target
    info.mtime = 0
    return info.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")


def pack(tree: Tree, out: IO[bytes]) -> Packed:
    """Write `tree` to `out` as a deterministic ustar archive, folders included.

    `out` takes each write whole, as buffered files do. Raises ValueError for what ustar cannot
    hold: a path over 255 bytes or with no slash to split it at, a link's target over 100 bytes,
    a file of 8 GiB.
    """
    tar, index, folders = _Hashing(out), list[Indexed](), set[str]()
    for entry in tree:
        for parent in reversed(PurePosixPath(entry.path).parents[:-1]):
            if str(parent) not in folders:
                folders.add(str(parent))
                tar.write(_header(f"{parent}/", tarfile.DIRTYPE, mode=0o755))
        index.append(_add(tar, entry))
    tar.write(b"\0" * (2 * BLOCK))
    return Packed(tar.hash.hexdigest(), tar.size, tuple(index))


def _add(tar: _Hashing, entry: Entry) -> Indexed:
    if isinstance(entry, Link):
        tar.write(_header(entry.path, tarfile.SYMTYPE, mode=LINK_MODE, target=entry.target))
        return Indexed(entry.path, LINK_MODE, 0, "", 0, entry.target)
    size = entry.size()
    tar.write(_header(entry.path, tarfile.REGTYPE, mode=entry.mode, size=size))
    offset, content = tar.size, hashlib.sha256()
    for chunk in entry.chunks():
        tar.write(chunk)
        content.update(chunk)
    assert tar.size - offset == size, f"{entry.path} changed while it was packed"
    tar.write(b"\0" * (-size % BLOCK))
    return Indexed(entry.path, entry.mode, size, content.hexdigest(), offset)
