"""Bodies, web sockets, HTTP/2 and headers on their way through the mesh."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from tests.kinds.traefik.backends import (
    HEAD_ENDS,
    INSIDE,
    PATIENCE,
    WEBUI,
    backend,
    one,
    read_until,
    said,
)
from tests.kinds.traefik.running import until

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]


def test_uploads_and_tokens_pass_as_they_come() -> None:
    """Each half of a body is sent only once the half before has come through."""
    begun, seen = threading.Event(), threading.Event()

    def script(head: str, stream: socket.socket) -> None:
        # Its first byte may come by itself.
        read_until(stream, b"irst")
        begun.set()
        read_until(stream, b"second\r\n0\r\n\r\n")
        start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        stream.sendall(start + b"5\r\ntoken\r\n")
        assert seen.wait(PATIENCE)
        stream.sendall(b"3\r\nend\r\n0\r\n\r\n")

    with one(backends=["vllm-1", "vllm-2"], profile="llm") as mesh:
        for name in ("vllm-1", "vllm-2"):
            backend(mesh, name, 8000, script=script)
        with mesh.tls(WEBUI, INSIDE) as stream:
            stream.sendall(
                f"POST / HTTP/1.1\r\nHost: {INSIDE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                + b"5\r\nfirst\r\n"
            )
            assert begun.wait(PATIENCE)
            stream.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
            assert b"end" not in read_until(stream, b"token")
            seen.set()
            read_until(stream, b"end")


@pytest.mark.parametrize("begun", [False, True])
def test_client_gone(begun: bool) -> None:
    """The backend learns that nobody listens any more."""
    asked, gone = threading.Event(), threading.Event()

    def script(head: str, stream: socket.socket) -> None:
        read_until(stream, b"prompt")
        if begun:
            stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        asked.set()
        assert stream.recv(1) == b""
        gone.set()

    with one(backends=["vllm-1", "vllm-2"], profile="llm") as mesh:
        for name in ("vllm-1", "vllm-2"):
            backend(mesh, name, 8000, script=script)
        with mesh.tls(WEBUI, INSIDE) as stream:
            head = f"POST / HTTP/1.1\r\nHost: {INSIDE}\r\nContent-Length: 6\r\n\r\n"
            stream.sendall(head.encode() + b"prompt")
            assert asked.wait(PATIENCE)
            assert not gone.wait(0.1)
        assert gone.wait(PATIENCE)


def test_web_socket() -> None:
    def script(head: str, stream: socket.socket) -> None:
        assert "Upgrade: websocket" in head
        stream.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
        )
        while got := stream.recv(1024):
            stream.sendall(got.upper())

    with one(profile="websocket") as mesh:
        backend(mesh, "vllm-1", 8000, script=script)
        with mesh.tls(WEBUI, INSIDE) as stream:
            asked = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            asked += "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            stream.sendall(f"GET / HTTP/1.1\r\nHost: {INSIDE}\r\n{asked}".encode())
            assert read_until(stream, HEAD_ENDS).startswith(b"HTTP/1.1 101 ")
            stream.sendall(b"there")
            assert stream.recv(1024) == b"THERE"


@pytest.mark.parametrize(
    ("protocol", "spoken"), [("http", {None, "http/1.1"}), ("grpc", {"h2"}), ("h2c", {"h2"})]
)
def test_http2_where_it_is_needed(protocol: str, spoken: set[str | None]) -> None:
    with one(protocol=protocol) as mesh:
        server = backend(mesh, "vllm-1", 8000, alpn=("h2", "http/1.1"))
        with contextlib.suppress(OSError):
            mesh.ask(WEBUI, INSIDE)
        until(lambda: server.alpn, mesh.log)
        assert server.alpn[0] in spoken


def test_headers_are_set_whatever_they_hold() -> None:
    hostile = 'a {{ env "HOME" }} {{ "b" \\ \' $c ; } # `d`'
    headers = {"request": {"X-In": hostile}, "response": {"X-Out": hostile}}
    with one(headers=headers) as mesh:
        backend(mesh, "vllm-1", 8000)
        answer = mesh.ask(WEBUI, INSIDE, headers={"X-In": "the client's"})
        assert said(answer)["headers"]["X-In"] == hostile
        assert answer.headers["x-out"] == hostile
