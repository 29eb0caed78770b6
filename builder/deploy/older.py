"""A release that the host has whole and dist/ too: what is sent is packed against its files.

What stands in a new file stands mostly in the older one of the same name; only the rest travels.
The format is the host program's (`host/stream.py`): blocks, each a zlib stream whose dictionary is
what stands about the same place in the older file. Whether it came right, its digest says.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder import manifest
from builder.dist import MANIFEST, SHORT, SIGNATURE, Dist
from builder.problems import UserError

from . import contents
from .client import Hello
from .contents import Source

CODEC = "like"
_BLOCK, _ABOUT = 1 << 14, 1 << 13


@dataclass(frozen=True, slots=True)
class Older:
    """The release that runs on the host, as generation `number`; 0 where it is not in dist/. Its
    files by their names: each one's digest, and where its bytes lie here."""

    number: int = 0
    manifest: bytes = b""
    signature: bytes = b""
    named: Mapping[str, tuple[str, Source]] = field(default_factory=dict)


def find(dist: Dist, host: str, hello: Hello) -> Older:
    """What runs on the host, where dist/ still has it whole and the host can unpack against it."""
    name = str(hello.kept.get(hello.generation, {}).get("id", ""))
    if CODEC not in hello.codecs or not name:
        return Older()
    for _, folder in reversed(dist.history(host)):
        if folder.name.endswith(f"-{name[:SHORT]}"):
            return _read(dist, folder, hello.generation, name)
    return Older()


def _read(dist: Dist, folder: Path, number: int, name: str) -> Older:
    try:
        data, signature = (folder / MANIFEST).read_bytes(), (folder / SIGNATURE).read_bytes()
        if manifest.identity(data) != name:
            return Older()
        held = contents.files(dist, manifest.parse(data))
    except (OSError, UserError):
        return Older()
    every = {**held.documents, **held.contents}
    return Older(
        number, data, signature, {source.name: (digest, source) for digest, source in every.items()}
    )


def packed(old: bytes, begin: int, new: bytes) -> Iterator[bytes]:
    """What follows in a file after its first `begin` bytes, against an older file."""
    for at in range(begin, len(new), _BLOCK):
        dictionary = old[max(0, at - _ABOUT) : at + _BLOCK + _ABOUT]
        engine = zlib.compressobj(9, zdict=dictionary) if dictionary else zlib.compressobj(9)
        yield engine.compress(new[at : at + _BLOCK]) + engine.flush()
