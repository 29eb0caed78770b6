"""The files of a release, each sent once, by its digest, and only where the host lacks it.

A layer's files are read from the tar in dist/, where its index says; nothing is unpacked. What came
of a file before a connection broke stays on the host, and is not sent again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import disk, manifest
from builder.dist import Dist
from builder.manifest import Object, Release
from builder.problems import UserError

from .client import Client

_CHUNK = 1 << 18
_LOST = "remove dist/, and build again"
Sent = Callable[[int], None]
"""Takes how many bytes more are on their way."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a file's bytes lie on this machine."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Lacking:
    """A file that the host lacks; of `size` bytes the first `begun` have come already."""

    digest: str
    size: int
    begun: int


@dataclass(frozen=True, slots=True)
class Files:
    """The files of a release by digest: the documents, which say what there is, and the rest."""

    documents: Mapping[str, Source]
    contents: Mapping[str, Source]


def files(dist: Dist, release: Release) -> Files:
    """Every file that a release's host needs; UserError where dist/ is not whole."""
    documents = {t.content.digest: _whole(dist, t.content) for t in release.targets}
    documents[release.network.digest] = _whole(dist, release.network)
    contents: dict[str, Source] = {}
    if release.program:
        contents[release.program.digest] = _whole(dist, release.program)
    for ref in release.guests:
        documents[ref.node.digest] = _whole(dist, ref.node)
        for layer in manifest.parse_guest(dist.read(ref.node)).layers:
            if layer.index.digest in documents:
                continue
            documents[layer.index.digest] = _whole(dist, layer.index)
            tar = _whole(dist, layer.tar).path
            for entry in manifest.parse_index(dist.read(layer.index)).entries:
                if not entry.target:
                    contents[entry.digest] = Source(tar, entry.offset, entry.size)
    return Files(documents, contents)


def lacking(client: Client) -> list[Lacking]:
    """What the host lacks of the staged release, as far as the documents that it has say."""
    return [Lacking(*each) for each in client.ask("lacking")["lacking"]]


def describe(client: Client, held: Files) -> list[Lacking]:
    """Send the documents that the host lacks; what it lacks then are contents alone."""
    while True:
        found = lacking(client)
        documents = [each for each in found if each.digest in held.documents]
        if not documents:
            return found
        send(client, documents, held.documents, lambda _: None)


def send(
    client: Client, wanted: Sequence[Lacking], sources: Mapping[str, Source], sent: Sent
) -> None:
    """Send files, or the rest of them, in one compressed stream."""
    codec = codec_for(client.hello.codecs)
    listed = [[each.digest, each.begun] for each in wanted]
    chunks = (chunk for each in wanted for chunk in _read(sources[each.digest], each.begun, sent))
    client.stream("put", compressed(codec, chunks), codec=codec, objects=listed)


def codec_for(theirs: Sequence[str]) -> str:
    """The best codec that both ends have."""
    return "zstd" if "zstd" in theirs and shutil.which("zstd") else "gzip"


def compressed(codec: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The chunks as one compressed stream, in parts."""
    if codec == "zstd":
        yield from _zstd(chunks)
        return
    engine = zlib.compressobj(6, wbits=31)
    for chunk in chunks:
        if part := engine.compress(chunk):
            yield part
    yield engine.flush()


def _zstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    with subprocess.Popen(
        ["zstd", "--quiet", "--stdout", "-3"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PATH": os.environ.get("PATH", os.defpath)},
    ) as process:
        failed: list[BaseException] = []
        feeder = threading.Thread(target=_feed, args=(process, chunks, failed), daemon=True)
        feeder.start()
        assert process.stdout
        try:
            # What there is goes on its way at once, however little.
            while part := process.stdout.read1(_CHUNK):  # type: ignore[attr-defined]
                yield part
        finally:
            process.kill()
            feeder.join()
    if failed:
        raise failed[0]


def _feed(
    process: subprocess.Popen[bytes], chunks: Iterator[bytes], failed: list[BaseException]
) -> None:
    assert process.stdin
    try:
        for chunk in chunks:
            process.stdin.write(chunk)
        process.stdin.close()
    except BrokenPipeError:
        return
    except BaseException as error:
        failed.append(error)
        process.kill()


def _read(source: Source, begun: int, sent: Sent) -> Iterator[bytes]:
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


def _whole(dist: Dist, item: Object) -> Source:
    if not dist.has(item):
        raise UserError(f"{dist.path(item)} is missing", _LOST)
    return Source(dist.path(item), 0, item.size)
