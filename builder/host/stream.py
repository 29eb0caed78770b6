"""Compressed bytes in a connection: parts, each with its length before it, an empty one last."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
import zlib
from collections.abc import Iterator
from typing import IO, Protocol

from .schema import RefusedError

LONGEST = 1 << 24
"""What a part has at most, in bytes."""


class Readable(Protocol):
    """What gives its next bytes, at most so many; b"" at its end."""

    def read(self, size: int, /) -> bytes: ...


def codecs() -> list[str]:
    """What can be unpacked here, the best first."""
    return ["zstd", "gzip"] if shutil.which("zstd") else ["gzip"]


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
def plain(codec: str, parts: Parts) -> Iterator[Readable]:
    """The bytes that came compressed; they are to be read to their end.

    Raises RefusedError for a codec that is not known, or a stream that is not whole, EOFError
    where the connection ended.
    """
    if codec not in codecs():
        raise RefusedError(f"the codec {codec!r:.20} is not known")
    kind = _unpacked(parts) if codec == "zstd" else contextlib.nullcontext(_Inflated(parts))
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


class _Inflated:
    """gzip; never more in memory than is asked for, however much a part unpacks to."""

    def __init__(self, parts: Parts) -> None:
        self.parts, self.engine, self.rest = iter(parts), zlib.decompressobj(31), b""

    def read(self, size: int, /) -> bytes:
        data = b""
        while not data and not self.engine.eof:
            part = self.rest or next(self.parts, b"")
            if not part:
                break
            try:
                data = self.engine.decompress(part, size)
            except zlib.error as error:
                raise RefusedError(f"the stream is damaged: {error}") from error
            self.rest = self.engine.unconsumed_tail
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
