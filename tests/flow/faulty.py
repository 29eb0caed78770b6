"""Servers that do what no server may, each for a client that must notice it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

Behave = Callable[[socket.socket], None]
"""What a server does with one connection, which is closed when this returns."""
SETTINGS, HEADERS, DATA, RESET, GOAWAY = 4, 1, 0, 3, 7
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
REFUSED, INTERNAL = 7, 2


@contextlib.contextmanager
def serving(behave: Behave, context: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server on loopback that behaves so; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def one(link: socket.socket) -> None:
            with contextlib.suppress(OSError), link:
                if context is None:
                    behave(link)
                else:
                    with context.wrap_socket(link, server_side=True) as shaken:
                        behave(shaken)

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    link, _ = listener.accept()
                    threading.Thread(target=one, args=(link,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


def head(link: socket.socket) -> bytes:
    """The head of the next HTTP/1.1 request; empty at the end."""
    got = b""
    while not got.endswith(b"\r\n\r\n"):
        part = link.recv(1)
        if not part:
            return b""
        got += part
    return got


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2."""
    top = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    return top + payload


def goaway(last: int) -> bytes:
    """The server takes no stream beyond `last`."""
    return frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + bytes(4))


def reset(stream: int, why: int) -> bytes:
    """The end of a stream."""
    return frame(RESET, 0, stream, why.to_bytes(4, "big"))


def answer(stream: int, body: bytes) -> bytes:
    """Status 200 and a body."""
    # Of HPACK's static table, `:status: 200` is number 8.
    return frame(HEADERS, 4, stream, b"\x88") + frame(DATA, 1, stream, body)


def requests(link: socket.socket) -> Iterator[int]:
    """The streams of an HTTP/2 connection on which requests come, as they come."""
    assert _exactly(link, len(PREFACE)) == PREFACE
    link.sendall(frame(SETTINGS, 0, 0))
    while top := _exactly(link, 9):
        payload = _exactly(link, int.from_bytes(top[:3], "big"))
        stream = int.from_bytes(top[5:9], "big")
        if top[3] == SETTINGS and not top[4]:
            link.sendall(frame(SETTINGS, 1, 0))
        if top[3] == HEADERS:
            assert payload
            yield stream


def _exactly(link: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        part = link.recv(size - len(got))
        if not part:
            return b""
        got += part
    return got
