"""A front, serving: what the mesh gets from it, and what its programs get to see."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from builder.network import Network
from tests.judges.namespace import Entry
from tests.kinds.nginx import http2, networks
from tests.kinds.nginx.serving import (
    CLOSED,
    OWNER,
    PATIENCE,
    Running,
    Stub,
    ask,
    client,
    plainly,
    receive,
    running,
    send,
    shout,
    stub,
    tcp,
)

pytestmark = [pytest.mark.judge]

ADDRESS, NAME = "10.0.0.114", "webui.phoenix.internal"
CHAT = "chat.example.org"


def network() -> Network:
    ports = {
        "web": (8000, "http", "web"),
        "rpc": (7000, "grpc", "llm"),
        "db": (7001, "tcp", "web"),
        "llm": (7002, "http", "llm"),
    }
    declared = {
        name: {
            "backends": ["webui"], "port": port, "protocol": protocol, "profile": profile,
            "limits": {"body": "1KiB"}, "inside": True,
        }
        for name, (port, protocol, profile) in ports.items()
    }  # fmt: skip
    return networks.network(networks.services(**declared))


MEMBER = network().member("webui")
PLAIN = MEMBER.listener(80).a
WEB, RPC, DB, LLM = (
    next(f.listener.a for f in MEMBER.fronts if f.service.name == name)
    for name in ("web", "rpc", "db", "llm")
)


@dataclass(slots=True)
class Served:
    nginx: Running
    programs: dict[str, Stub]

    def client(self, port: int, name: str | None = NAME, **more: object) -> ssl.SSLSocket:
        return client(self.nginx.space, ADDRESS, port, name, **more)  # type: ignore[arg-type]


@pytest.fixture(scope="module", name="front")
def _front() -> Iterator[Served]:
    with serving() as found:
        yield found


@contextlib.contextmanager
def serving() -> Iterator[Served]:
    """The front with its certificate, and stubs of all its programs on loopback."""
    files = networks.guest(network(), "webui", certificates=[NAME])
    with running(files) as nginx, contextlib.ExitStack() as stack:
        kinds = {"web": (8000, None), "rpc": (7000, http2.serve), "db": (7001, shout)}
        programs = {
            name: stack.enter_context(stub(nginx.space, "127.0.0.1", port, plainly, raw=raw))
            for name, (port, raw) in kinds.items()
        }
        yield Served(nginx, programs)


def test_handshakes(front: Served) -> None:
    """Only under the guest's own name; HTTP/2 only where a program speaks it."""
    for port in (WEB, RPC, LLM):
        for name in ("evil.example.org", CHAT, ADDRESS, None):
            with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
                front.client(port, name)
        with front.client(port, alpn=("h2", "http/1.1")) as stream:
            assert stream.selected_alpn_protocol() == ("h2" if port == RPC else "http/1.1")
    for name in ("evil.example.org", None):
        lost = (ssl.SSLError, ConnectionResetError)  # the alert is lost where it resets first
        with pytest.raises(lost, match=r"INTERNAL_ERROR|EOF|reset by peer"):
            front.client(DB, name)


def test_the_programs_see_the_client(front: Served) -> None:
    """Host and what the mesh says of the client go on as they are, under one request id."""
    given = ["X-Forwarded-For: 192.0.2.7", "X-Request-Id: abc", "X-Forwarded-Proto: https"]
    with front.client(WEB) as stream:
        got = ask(stream, CHAT, "/a%2Fb//c?d", *given, method="POST", body=b"x" * (2 << 20))
    assert (got.status, got.body) == (200, b"/a%2Fb//c?d")
    asked = front.programs["web"].asked[-1]
    assert len(asked.body) == 2 << 20
    assert {n: asked.header(n) for n in asked.headers} == {
        "host": CHAT,
        "x-forwarded-for": "192.0.2.7",
        "x-forwarded-proto": "https",
        "x-request-id": "abc",
        "content-length": str(2 << 20),
    }
    [line] = front.nginx.lines("id", "abc")
    assert (line["service"], line["upstream"]) == ("web", "127.0.0.1:8000")


def test_a_request_without_an_id_gets_one(front: Served) -> None:
    with front.client(WEB) as stream:
        ask(stream, NAME)
    assert len(front.programs["web"].asked[-1].header("x-request-id") or "") == 32


@pytest.mark.parametrize("given", ["x" * 129, 'a"b', "\xff", "a b"])
def test_what_is_no_id_is_replaced(front: Served, given: str) -> None:
    with front.client(WEB) as stream:
        got = ask(stream, NAME, "/", f"X-Request-Id: {given}")
    (told,) = got.headers["x-request-id"]
    assert told == front.programs["web"].asked[-1].header("x-request-id")
    assert len(told) == 32
    assert front.nginx.lines("id", told)


def test_program_that_is_down(front: Served) -> None:
    """The mesh is told that nobody has seen anything of the request."""
    with front.client(LLM) as stream:
        assert ask(stream, NAME).status == 521


def test_program_that_dies_over_a_request(front: Served) -> None:
    """It may have done what was asked."""
    with (
        stub(front.nginx.space, "127.0.0.1", 7002, lambda stream, _: stream.close()),
        front.client(LLM) as stream,
    ):
        assert ask(stream, NAME).status == 502


def test_web_socket_and_stream(front: Served) -> None:
    wanted = ["Connection: Upgrade", "Upgrade: websocket"]
    held = threading.Event()

    def speak(stream: socket.socket, asked: object) -> None:
        stream.sendall(b"HTTP/1.1 101 Go\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        stream.sendall(b"first")
        assert held.wait(10)
        stream.sendall(b"second")

    with stub(front.nginx.space, "127.0.0.1", 7002, speak) as program, front.client(LLM) as stream:
        send(stream, CHAT, "/", *wanted)
        assert receive(stream).status == 101
        assert stream.recv(100) == b"first"
        held.set()
        assert stream.recv(100) == b"second"
        assert program.asked[-1].header("connection") == "upgrade"
    with front.client(WEB) as stream:
        assert ask(stream, CHAT, "/", *wanted).status == 200
    assert front.programs["web"].asked[-1].header("upgrade") is None


def test_client_gone(front: Served) -> None:
    """The program learns that nobody listens any more, before it says a word."""
    began, gone = threading.Event(), threading.Event()

    def think(stream: socket.socket, asked: object) -> None:
        began.set()
        assert stream.recv(1) == b""
        gone.set()

    with stub(front.nginx.space, "127.0.0.1", 7002, think):
        stream = front.client(LLM)
        send(stream, CHAT)
        assert began.wait(10)
        assert not gone.wait(0.1)
        stream.close()
        assert gone.wait(PATIENCE)


def test_grpc(front: Served) -> None:
    with front.client(RPC, alpn=("h2",)) as stream:
        reply = http2.call(stream, CHAT, "/package.Service/Method", b"\0\0\0\0\2hi")
        assert reply.ok
        assert (len(reply.blocks), reply.data) == (2, b"\0\0\0\0\2hi")


def test_tcp(front: Served) -> None:
    with front.client(DB) as stream:
        stream.sendall(b"hello")
        assert stream.recv(100) == b"HELLO"


def test_port_80(front: Served) -> None:
    """The ACME client's proofs, under the guest's own name, and nothing else."""
    proof = "/.well-known/acme-challenge/token"
    path = f"/var/lib/phoenix/acme/webroot{proof}"
    front.nginx.space.write([Entry(path, b"proof", 0o640, OWNER)])
    with tcp(front.nginx.space, ADDRESS, PLAIN) as stream:
        assert ask(stream, NAME, proof).body == b"proof"
    for host, asked in ((NAME, "/"), (CHAT, proof), (ADDRESS, proof)):
        with tcp(front.nginx.space, ADDRESS, PLAIN) as stream, pytest.raises(CLOSED):
            ask(stream, host, asked)


def test_drain() -> None:
    with serving() as front, front.client(WEB) as stream:
        assert ask(stream, CHAT).headers["connection"] == ["keep-alive"]
        front.nginx.drain()
        assert "close" in ask(stream, CHAT).headers["connection"]
