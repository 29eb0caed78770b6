"""The files of a release, each sent once, by its digest, and only where the host lacks it.

What came of a file before a connection broke stays on the host, and is not sent again. Where an
older release is here and there, a few small files are packed against its own (`older`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from . import contents, older
from .client import Client, HostError
from .contents import Files, Sent, Source
from .older import Older

_CHUNK = 1 << 18
_SMALL, _LITTLE = 1 << 18, 1 << 20
"""What a file that is packed against another has at most, and what is sent so, in bytes."""

_NAMES = 16
"""How many digits of its digest name one of the few files that the host lacks."""


@dataclass(frozen=True, slots=True)
class Lacking:
    """A file that the host lacks; of `size` bytes the first `begun` have come already."""

    digest: str
    size: int
    begun: int


def lacking(client: Client) -> list[Lacking]:
    """What the host lacks of the staged release, as far as the documents that it has say."""
    return [Lacking(*each) for each in client.ask("lacking")["lacking"]]


def stage(client: Client, data: bytes, signature: bytes, known: Older) -> None:
    """Send a release's manifest with its signature: all that follows is about it."""
    lengths = {"manifest": len(data), "signature": len(signature)}
    if known.number:
        parts = chain(
            older.packed(known.manifest, 0, data), older.packed(known.signature, 0, signature)
        )
        client.stream("stage", parts, codec=older.CODEC, like=known.number, **lengths)
        return
    codec = codec_for(client.hello.codecs, len(data))
    client.stream("stage", compressed(codec, iter((data, signature))), codec=codec, **lengths)


def describe(client: Client, held: Files, known: Older) -> list[Lacking]:
    """Send the documents that the host lacks; what it lacks then are contents alone."""
    while True:
        found = lacking(client)
        documents = [each for each in found if each.digest in held.documents]
        if not documents:
            return found
        send(client, documents, held.documents, known, lambda _: None)


def send(
    client: Client,
    wanted: Sequence[Lacking],
    sources: Mapping[str, Source],
    known: Older,
    sent: Sent,
) -> None:
    """Send files, or the rest of them, in one compressed stream."""
    try:
        if _like(client, wanted, sources, known, sent):
            return
    except HostError:
        # Its older file may be damaged; what came of the new ones stays.
        names = {each.digest for each in wanted}
        wanted = [each for each in lacking(client) if each.digest in names]
    codec = codec_for(client.hello.codecs, sum(each.size - each.begun for each in wanted))
    chunks = (
        chunk for each in wanted for chunk in contents.read(sources[each.digest], each.begun, sent)
    )
    listed = [[each.digest, each.begun] for each in wanted]
    client.stream("put", compressed(codec, chunks), codec=codec, objects=listed)


def _like(
    client: Client,
    wanted: Sequence[Lacking],
    sources: Mapping[str, Source],
    known: Older,
    sent: Sent,
) -> bool:
    """Send a few small files packed against older ones; False where that is not what is wanted."""
    olds = [known.named.get(sources[each.digest].name) for each in wanted]
    sizes = [each.size for each in wanted] + [old[1].size for old in olds if old]
    if not any(olds) or max(sizes) > _SMALL or sum(sizes) > _LITTLE:
        return False
    parts = (
        part
        for each, old in zip(wanted, olds, strict=True)
        for part in older.packed(
            _bytes(old[1]) if old else b"", each.begun, _bytes(sources[each.digest], sent)
        )
    )
    listed = [[each.digest[:_NAMES], each.begun] for each in wanted]
    like = [old[0] if old else "" for old in olds]
    client.stream("put", parts, codec=older.CODEC, objects=listed, like=like)
    return True


def _bytes(source: Source, sent: Sent = lambda _: None) -> bytes:
    return b"".join(contents.read(source, 0, sent))


def codec_for(theirs: Sequence[str], size: int) -> str:
    """The best codec that both ends have, of which a program of its own pays for large sizes."""
    large = size > _LITTLE
    return "zstd" if large and "zstd" in theirs and shutil.which("zstd") else "gzip"


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
