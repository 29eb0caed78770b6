"""What the gateway passes on, and how: streams, uploads, web sockets, gRPC, tcp; and draining."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading

import pytest

from tests.judges import pki
from tests.kinds.nginx import http2, networks
from tests.kinds.nginx.gateway import (
    CHAT,
    DB,
    DB_NAME,
    DBASE,
    FAR,
    HOME,
    NEAR,
    PLAIN,
    RPC,
    SMALL,
    TLS,
    Gateway,
    answering,
    network,
)
from tests.kinds.nginx.networks import GATEWAY, MESH, MESH_NAME
from tests.kinds.nginx.serving import (
    PATIENCE,
    Answer,
    Asked,
    Running,
    ask,
    client,
    comes,
    plainly,
    receive,
    running,
    send,
    shout,
    stub,
    tcp,
)

pytestmark = [pytest.mark.judge]


def in_two(first: threading.Event, go: threading.Event) -> Answer:
    def answer(stream: socket.socket, _: Asked) -> None:
        stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        first.set()
        go.wait(10)
        stream.sendall(b"3\r\ntwo\r\n0\r\n\r\n")

    return answer


@pytest.mark.parametrize(("name", "at_once"), [(CHAT, True), (SMALL, False)])
def test_stream(gateway: Gateway, name: str, at_once: bool) -> None:
    """Tokens come as they are made, in the profiles for it; an ordinary answer is collected."""
    first, go = threading.Event(), threading.Event()
    with answering(gateway, in_two(first, go)), gateway.client(name) as stream:
        send(stream, name)
        assert first.wait(10)
        stream.settimeout(PATIENCE if at_once else 0.4)
        found = b""
        with contextlib.suppress(TimeoutError):
            while b"one" not in found:
                found += stream.recv(4096)
        assert (b"one" in found) == at_once
        go.set()
        stream.settimeout(10)
        while (part := stream.recv(4096)) and b"\r\n0\r\n\r\n" not in found + part:
            found += part
        assert b"two" in found + part


@pytest.mark.parametrize(("name", "at_once"), [(CHAT, True), (SMALL, False)])
def test_upload(gateway: Gateway, name: str, at_once: bool) -> None:
    """Large bodies go on as they come; a small one is collected first."""
    before = len(gateway.mesh.asked)
    with gateway.client(name) as stream:
        send(stream, name, "/", "Content-Length: 10", method="POST")
        stream.sendall(b"12345")
        patience = PATIENCE if at_once else 0.4
        assert comes(lambda: len(gateway.mesh.asked) > before, patience) == at_once
        stream.sendall(b"67890")
        assert receive(stream).status == 200
    assert gateway.last().body == b"1234567890"


def echo(stream: socket.socket, asked: Asked) -> None:
    if asked.header("upgrade") != "websocket" or asked.header("connection") != "upgrade":
        plainly(stream, asked)
        return
    stream.sendall(b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
    while data := stream.recv(4096):
        stream.sendall(data.upper())


def test_web_socket(gateway: Gateway) -> None:
    wanted = ["Connection: keep-alive, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: x"]
    with answering(gateway, echo), gateway.client(CHAT) as stream:
        send(stream, CHAT, "/", *wanted)
        got = receive(stream)
        assert (got.status, got.headers["upgrade"]) == (101, ["websocket"])
        for word in (b"there", b"back"):
            stream.sendall(word)
            assert stream.recv(100) == word.upper()
    with answering(gateway, echo):
        assert gateway.get(SMALL, "/", *wanted).status == 200
        h2c = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"]
        assert gateway.get(CHAT, "/", *h2c).status == 200
    assert gateway.last().header("upgrade") is None


def test_client_gone(gateway: Gateway) -> None:
    """The program learns that nobody listens any more."""
    gone, began = threading.Event(), threading.Event()

    def endless(stream: socket.socket, _: Asked) -> None:
        stream.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        began.set()
        assert stream.recv(1) == b""
        gone.set()

    with answering(gateway, endless):
        stream = gateway.client(CHAT)
        send(stream, CHAT)
        assert began.wait(10)
        assert not gone.wait(0.1)
        stream.close()
        assert gone.wait(PATIENCE)


def test_connections_to_the_mesh_are_kept(gateway: Gateway) -> None:
    gateway.get(CHAT)
    before = gateway.mesh.connections
    for _ in range(8):
        assert gateway.get(CHAT).status == 200
    # Two workers, each with connections of its own.
    assert gateway.mesh.connections - before <= 2


def test_grpc() -> None:
    """A call goes on as HTTP/2, verified, with its trailers; not to a mesh with a wrong name."""
    files = networks.guest(network(), "nginx-gateway", certificates=[RPC])
    for name, passes in ((MESH_NAME, True), ("other.phoenix.internal", False)):
        pair = pki.authority().issue([name])
        with (
            running(files) as nginx,
            stub(nginx.space, MESH, 443, plainly, pair=pair, raw=http2.serve, alpn=("h2",)),
            client(nginx.space, GATEWAY, TLS, RPC, alpn=("h2",)) as stream,
        ):
            assert stream.selected_alpn_protocol() == "h2"
            reply = http2.call(stream, RPC, "/package.Service/Method", b"\0\0\0\0\2hi")
            assert (reply.ok, len(reply.blocks)) == ((True, 2) if passes else (False, 1))
            assert (reply.data == b"\0\0\0\0\2hi") == passes


@pytest.mark.parametrize("names", [[DB_NAME], [MESH_NAME]])
def test_tcp(names: list[str]) -> None:
    """Bytes go both ways under the service's inner name, which the mesh has to prove."""
    files = networks.guest(network(), "nginx-gateway", certificates=[DBASE])
    with (
        running(files) as nginx,
        stub(nginx.space, MESH, 443, plainly, pair=pki.authority().issue(names), raw=shout) as mesh,
    ):
        # A client each: the one before counts until nginx knows that it is gone.
        for name, source in ((DBASE, NEAR), (None, FAR)):
            if names == [DB_NAME]:
                assert _answer(nginx, name, source) == b"HELLO"
                continue
            with contextlib.suppress(OSError):  # the end may come before that of the handshake
                assert _answer(nginx, name, source) == b""
        assert set(mesh.names) == {DB_NAME}
        # The alert is lost where the connection is reset before it was read.
        for name in ("evil.example.org", CHAT):
            said = r"INTERNAL_ERROR|EOF|reset by peer"
            with pytest.raises((ssl.SSLError, ConnectionResetError), match=said):
                client(nginx.space, GATEWAY, DB, name)


def _answer(nginx: Running, name: str | None, source: str) -> bytes:
    """What comes back of a word, by a connection to `name`."""
    with client(nginx.space, GATEWAY, DB, name, source=source) as stream:
        stream.sendall(b"hello")
        return stream.recv(100)


def test_tcp_connections_are_of_a_client() -> None:
    """On all ports of a service together; an IPv6 client is its network."""
    files = networks.guest(network(), "nginx-gateway", certificates=[DBASE])
    pair = pki.authority().issue([DB_NAME])
    with (
        running(files) as nginx,
        stub(nginx.space, MESH, 443, plainly, pair=pair, raw=shout),
        client(nginx.space, "fd00::101", DB, DBASE, source="fd00:7::1") as one,
    ):
        one.sendall(b"one")
        assert one.recv(100) == b"ONE"
        for number, port in enumerate((DB, DB + 1), 1):
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                client(nginx.space, "fd00::101", port, DBASE, source="fd00:7::a00:0:0:2")
            # One network each: the client before counts until nginx knows that it is gone.
            near = f"fd00:7:0:{number}::1"
            with client(nginx.space, "fd00::101", port, DBASE, source=near) as other:
                other.sendall(b"other")
                assert other.recv(100) == b"OTHER"


@pytest.mark.parametrize("fault", ["none", "name", "authority"])
def test_mesh_is_verified(fault: str) -> None:
    """A wrong certificate gets the client a 502, and the mesh no request."""
    authority = pki.Authority() if fault == "authority" else pki.authority()
    pair = authority.issue(["other.phoenix.internal" if fault == "name" else MESH_NAME])
    files = networks.guest(network(), "nginx-gateway", certificates=[CHAT])
    with running(files) as nginx, stub(nginx.space, MESH, 443, plainly, pair=pair) as mesh:
        with client(nginx.space, GATEWAY, TLS, CHAT) as stream:
            assert ask(stream, CHAT).status == (200 if fault == "none" else 502)
        assert len(mesh.asked) == (fault == "none")
        assert set(mesh.names) == {MESH_NAME}


# --- draining


def test_drain() -> None:
    """A draining slot asks its clients to go, with each answer whatever it is, but no upgrade."""
    files = networks.guest(network(), "nginx-gateway", certificates=[CHAT, SMALL])
    pair = pki.authority().issue([MESH_NAME])
    with running(files) as nginx, stub(nginx.space, MESH, 443, echo, pair=pair):
        with client(nginx.space, GATEWAY, TLS, CHAT) as stream:
            assert ask(stream, CHAT).headers["connection"] == ["keep-alive"]
            nginx.drain()
            assert "close" in ask(stream, CHAT).headers["connection"]
            assert "close" in ask(stream, HOME).headers["connection"]
            send(stream, CHAT, "/", "Connection: Upgrade", "Upgrade: websocket")
            assert receive(stream).headers["connection"] == ["upgrade"]
        with client(nginx.space, GATEWAY, TLS, SMALL) as stream:
            got = ask(stream, SMALL, method="POST", body=b"x" * 2000)
            assert got.status == 413
            assert "close" in got.headers["connection"]
        with tcp(nginx.space, GATEWAY, PLAIN) as stream:
            assert "close" in ask(stream, CHAT).headers["connection"]
