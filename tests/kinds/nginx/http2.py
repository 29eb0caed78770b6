"""Just enough HTTP/2 (RFC 9113) for a gRPC call through nginx: one stream, headers unpacked."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, SETTINGS, PING, GOAWAY, WINDOW = 0x0, 0x1, 0x4, 0x6, 0x7, 0x8
_END_STREAM, _ACK, _END_HEADERS = 0x1, 0x1, 0x4
_OK = b"\x88"  # :status 200 of the static table (RFC 7541)


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _block(*headers: tuple[str, str]) -> bytes:
    """Headers as literals that are never indexed nor packed."""
    return b"".join(b"\x00" + _text(name) + _text(value) for name, value in headers)


def _text(text: str) -> bytes:
    assert len(text) < 127
    return bytes([len(text)]) + text.encode()


@dataclass(slots=True)
class Reply:
    """What came on one stream: each block of headers as it was, and the data."""

    blocks: list[bytes] = field(default_factory=list)
    data: bytes = b""

    @property
    def ok(self) -> bool:
        return self.blocks[0].startswith(_OK)


def _exactly(stream: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        more = stream.recv(size - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def _until_end(stream: socket.socket) -> tuple[int, Reply]:
    """All frames until one ends a stream, and that stream's number."""
    reply = Reply()
    while True:
        head = _exactly(stream, 9)
        size, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        number = int.from_bytes(head[5:], "big")
        payload = _exactly(stream, size)
        if kind == SETTINGS and not flags & _ACK:
            stream.sendall(_frame(SETTINGS, _ACK, 0))
        elif kind == HEADERS:
            reply.blocks.append(payload)
        elif kind == DATA:
            reply.data += payload
        elif kind not in (SETTINGS, PING, WINDOW):
            raise EOFError(f"frame {kind}: {payload!r}")
        if kind in (HEADERS, DATA) and flags & _END_STREAM:
            return number, reply


def call(stream: socket.socket, host: str, path: str, message: bytes) -> Reply:
    """One call on a new connection."""
    headers = _block(
        (":method", "POST"), (":scheme", "https"), (":authority", host), (":path", path),
        ("content-type", "application/grpc"), ("te", "trailers"),
    )  # fmt: skip
    stream.sendall(
        _PREFACE
        + _frame(SETTINGS, 0, 0)
        + _frame(HEADERS, _END_HEADERS, 1, headers)
        + _frame(DATA, _END_STREAM, 1, message)
    )
    return _until_end(stream)[1]


def serve(stream: socket.socket) -> None:
    """Answer each call with its own message, then trailers."""
    if _exactly(stream, len(_PREFACE)) != _PREFACE:
        raise EOFError("no HTTP/2")
    stream.sendall(_frame(SETTINGS, 0, 0))
    while True:
        number, asked = _until_end(stream)
        head = _OK + _block(("content-type", "application/grpc"))
        trailers = _block(("grpc-status", "0"))
        stream.sendall(
            _frame(HEADERS, _END_HEADERS, number, head)
            + _frame(DATA, 0, number, asked.data)
            + _frame(HEADERS, _END_HEADERS | _END_STREAM, number, trailers)
        )
