"""The files of a release as they lie in dist/, each by its digest and by its name in the release.

A layer's files are read from the tar, where its index says; nothing is unpacked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder import disk, manifest
from builder.dist import Dist
from builder.manifest import Object, Release
from builder.problems import UserError

_CHUNK = 1 << 18
_LOST = "remove dist/, and build again"
Sent = Callable[[int], None]
"""Takes how many bytes more are on their way."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file's bytes lie on this machine, and its name in the release."""

    path: Path
    offset: int
    size: int
    name: str


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a release by digest: the documents, which say what there is, and the rest."""

    documents: Mapping[str, Source]
    contents: Mapping[str, Source]


def files(dist: Dist, release: Release) -> Files:
    """Every file that a release's host needs; UserError where dist/ is not whole."""
    documents = {t.content.digest: _whole(dist, t.content, t.path) for t in release.targets}
    documents[release.network.digest] = _whole(dist, release.network, "network")
    contents: dict[str, Source] = {}
    if release.program:
        contents[release.program.digest] = _whole(dist, release.program, "program")
    for ref in release.guests:
        documents[ref.node.digest] = _whole(dist, ref.node, f"guest {ref.id}")
        for layer in manifest.parse_guest(dist.read(ref.node)).layers:
            if layer.index.digest in documents:
                continue
            name = f"guest {ref.id} {layer.name}"
            documents[layer.index.digest] = _whole(dist, layer.index, name)
            tar = _whole(dist, layer.tar, name).path
            for entry in manifest.parse_index(dist.read(layer.index)).entries:
                if not entry.target:
                    of_layer = f"{name} {entry.path}"
                    contents[entry.digest] = Source(tar, entry.offset, entry.size, of_layer)
    return Files(documents, contents)


def read(source: Source, begun: int, sent: Sent) -> Iterator[bytes]:
    """A file's bytes after the first `begun`, as they are on their way."""
    left = source.size - begun
    with disk.telling(source.path.parent), source.path.open("rb") as stream:
        stream.seek(source.offset + begun)
        while left:
            chunk = stream.read(min(left, _CHUNK))
            if not chunk:
                raise UserError(f"{source.path} is too short", _LOST)
            left -= len(chunk)
            sent(len(chunk))
            yield chunk


def _whole(dist: Dist, item: Object, name: str) -> Source:
    if not dist.has(item):
        raise UserError(f"{dist.path(item)} is missing", _LOST)
    return Source(dist.path(item), 0, item.size, name)
