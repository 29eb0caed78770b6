"""Compressed bytes in a connection: parts, each with its length before it, an empty one last.

The codec "like" packs a file against an older one that both ends have: block by block, each a zlib
stream whose dictionary is what stands about the same place in the older file.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any, Protocol

from .schema import RefusedError

LONGEST = 1 << 24
"""What a part has at most, in bytes."""
_BLOCK, _ABOUT = 1 << 14, 1 << 13


class Readable(Protocol):
    """What gives its next bytes, at most so many; b"" at its end."""

    def read(self, size: int, /) -> bytes: ...


def codecs() -> list[str]:
    """What can be unpacked here, the best first."""
    return ["zstd", "gzip", "like"] if shutil.which("zstd") else ["gzip", "like"]


def likes(older: bytes, begin: int, size: int) -> Iterator[bytes]:
    """The dictionaries of a file's blocks from `begin` to its end at `size`."""
    for at in range(begin, size, _BLOCK):
        yield older[max(0, at - _ABOUT) : at + _BLOCK + _ABOUT]


class Parts:
    """The parts behind `source`. Whatever became of them, `drain` leaves nothing of them in it, so
    that the next request is found."""

    def __init__(self, source: IO[bytes]) -> None:
        self.source, self.ended = source, False

    def __iter__(self) -> Iterator[bytes]:
        while not self.ended:
            length = int.from_bytes(self._exactly(4), "big")
            self.ended = not length
            if length > LONGEST:
                raise EOFError("what comes is no stream")
            if length:
                yield self._exactly(length)

    def drain(self) -> None:
        """Read the rest, and forget it."""
        for _ in self:
            pass

    def _exactly(self, length: int) -> bytes:
        data = self.source.read(length)
        if len(data) != length:
            self.ended = True
            raise EOFError("the connection ended in the middle of a stream")
        return data


@contextlib.contextmanager
def plain(codec: str, parts: Parts, likes: Iterable[bytes] = ()) -> Iterator[Readable]:
    """The bytes that came compressed, with the codec "like" by these dictionaries; they are to be
    read to their end.

    Raises RefusedError for a codec that is not known, or a stream that is not whole, EOFError
    where the connection ended.
    """
    if codec not in codecs():
        raise RefusedError(f"the codec {codec!r:.20} is not known")
    blocks = (_block(each) for each in likes) if codec == "like" else (_gzip() for _ in range(1))
    kind = _unpacked(parts) if codec == "zstd" else contextlib.nullcontext(_Inflated(parts, blocks))
    with kind as found:
        yield found
        if found.read(1):
            raise RefusedError("the stream holds more than was said")
    for _ in parts:
        raise RefusedError("the stream goes on after its end")


def exactly(source: Readable, length: int) -> bytes:
    """The next `length` bytes; raises RefusedError where there are fewer."""
    data = b""
    while len(data) < length:
        part = source.read(length - len(data))
        if not part:
            raise RefusedError("the stream ends too early")
        data += part
    return data


def _gzip() -> Any:
    return zlib.decompressobj(31)


def _block(dictionary: bytes) -> Any:
    return zlib.decompressobj(zdict=dictionary) if dictionary else zlib.decompressobj()


class _Inflated:
    """Streams of zlib, one after the other, each with its engine; never more in memory than is
    asked for, however much a part unpacks to."""

    def __init__(self, parts: Parts, engines: Iterator[Any]) -> None:
        self.parts, self.engines, self.rest = iter(parts), engines, b""
        self.engine = next(engines, None)

    def read(self, size: int, /) -> bytes:
        data = b""
        while not data and self.engine is not None:
            part = self.rest or next(self.parts, b"")
            if not part:
                break
            try:
                data = self.engine.decompress(part, size)
            except zlib.error as error:
                raise RefusedError(f"the stream is damaged: {error}") from error
            self.rest = self.engine.unconsumed_tail
            if self.engine.eof:
                self.rest = self.engine.unused_data
                self.engine = next(self.engines, None)
        if self.engine is None and self.rest:
            raise RefusedError("the stream goes on after its end")
        return data


@contextlib.contextmanager
def _unpacked(parts: Parts) -> Iterator[IO[bytes]]:
    with subprocess.Popen(
        ["zstd", "--decompress", "--quiet", "--stdout"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin
        assert process.stdout
        failed: list[EOFError] = []
        feeder = threading.Thread(target=_feed, args=(parts, process.stdin, failed))
        feeder.start()
        try:
            yield process.stdout
        finally:
            process.stdout.close()
            feeder.join()
            # What a file lacks, it lacks because of this.
            if failed:
                raise failed[0]
    if process.returncode:
        raise RefusedError("the stream is damaged")


def _feed(parts: Parts, out: IO[bytes], failed: list[EOFError]) -> None:
    try:
        for part in parts:
            with contextlib.suppress(BrokenPipeError):
                out.write(part)
    except EOFError as error:
        failed.append(error)
    finally:
        with contextlib.suppress(BrokenPipeError):
            out.close()
