"""What is heard of who is asked, on this machine's loopback."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from builder.host import asking
from builder.host.gate import Answer, Ask
from tests.judges import pki

NAME = "chat.phoenix.internal"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


@dataclass
class Served:
    """A server on loopback: what it was asked, and each connection's answer."""

    port: int
    asked: list[bytes]
    says: Callable[[socket.socket], None]


def _answers(*replies: bytes) -> Callable[[socket.socket], None]:
    turns = iter(replies * 10)

    def says(stream: socket.socket) -> None:
        stream.sendall(next(turns))

    return says


@pytest.fixture
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    """One that speaks TLS where the test says so."""
    context = None
    if getattr(request, "param", False):
        pair = pki.authority().issue([NAME])
        for file, data in (("crt", pair.certificate), ("key", pair.key)):
            (tmp_path / file).write_bytes(data)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "crt", tmp_path / "key")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Served(listening.getsockname()[1], [], _answers(OK))

        def serve() -> None:
            while True:
                try:
                    stream, _ = listening.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(stream, server_side=True) if context else stream as on:
                        on.settimeout(2)
                        made.asked.append(on.recv(4096) if made.says is not _closes else b"")
                        made.says(on)
                except OSError:
                    continue

        threading.Thread(target=serve, daemon=True).start()
        yield made
        listening.shutdown(socket.SHUT_RDWR)


def _closes(_: socket.socket) -> None:
    return


def _ask(served: Served, **more: Any) -> Ask:
    made = Ask("k", "here", "there", "chat", "http", "127.0.0.1", served.port, host=NAME, path="/x")
    return made._replace(**more)


def asked(ask: Ask, trusts: dict[str, str] | None = None) -> Answer:
    return asking.all_of([ask], {"here": lambda: None}, trusts or {})["k"]


def test_a_status_comes_back(served: Served):
    assert asked(_ask(served)) == Answer((200,))
    assert served.asked[0].startswith(f"GET /x HTTP/1.1\r\nHost: {NAME}\r\n".encode())


def test_grpc_is_asked_as_the_mesh_asks_it(served: Served):
    assert asked(_ask(served, how="grpc")) == Answer((200,))
    assert served.asked[0].startswith(b"POST /x HTTP/1.1\r\n")
    assert b"\r\nContent-Type: application/grpc\r\n" in served.asked[0]


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200", b"nonsense\r\n\r\n", b"\r\n\r\n"])
def test_what_is_no_answer(served: Served, reply: bytes):
    served.says = _answers(reply)
    assert asked(_ask(served)) == Answer((0,))


def test_silence(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asking, "_LIMIT", 0.3)
    done = threading.Event()
    served.says = lambda _: done.wait(5) and None
    assert asked(_ask(served)) == Answer((0,))
    done.set()


def test_nobody(served: Served):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answer = asked(_ask(served, port=port))
    assert answer == Answer(failed="connection", why="Connection refused")


def test_a_place_that_is_none(served: Served):
    def nowhere() -> None:
        raise OSError("no such network")

    found = asking.all_of([_ask(served)], {"here": nowhere}, {})["k"]
    assert found == Answer(failed="place", why="its network can't be entered")
    found = asking.all_of([_ask(served)], {"here": "guest 101 does not run"}, {})["k"]
    assert found == Answer(failed="place", why="guest 101 does not run")


def test_each_of_several_is_met(served: Served):
    served.says = _answers(OK, OK.replace(b"200", b"502"))
    assert asked(_ask(served, behind=("a", "b"))) == Answer((200, 502))


@pytest.mark.parametrize("served", [True], indirect=True)
def test_tls_is_verified(served: Served):
    root = pki.authority().root.decode()
    assert asked(_ask(served, server=NAME), {"": root}) == Answer((200,))
    other = asked(_ask(served, server="other.phoenix.internal"), {"": root})
    assert other.failed == "handshake"
    assert "Hostname mismatch" in other.why
    unknown = asked(_ask(served, server=NAME), {"": pki.Authority().root.decode()})
    assert (unknown.failed, "certificate is not valid" in unknown.why) == ("handshake", True)
    assert asked(_ask(served, server=NAME)).failed == "handshake", "nothing to trust, nothing well"


@pytest.mark.parametrize("served", [True], indirect=True)
def test_a_certificate_from_elsewhere_is_the_one_that_was_given(served: Served, tmp_path: Path):
    given = (tmp_path / "crt").read_text()
    leaf = given[: given.index("-----END") + len("-----END CERTIFICATE-----")] + "\n"
    assert asked(_ask(served, server=NAME, held="/given"), {"/given": leaf}) == Answer((200,))
    other = pki.Authority().issue([NAME]).certificate.decode()
    assert asked(_ask(served, server=NAME, held="/given"), {"/given": other}).failed == "handshake"
    assert asked(_ask(served, server=NAME, held="/given"), {"/given": ""}).failed == "handshake"


def test_a_connection_that_stays_open(served: Served):
    done = threading.Event()
    served.says = lambda _: done.wait(5) and None
    assert asked(_ask(served, how="open")) == Answer((200,))
    done.set()


def test_one_that_is_closed_at_once(served: Served, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(asking, "_OPEN", 30)
    served.says = _closes
    assert asked(_ask(served, how="open")) == Answer((502,))


@pytest.mark.needs("root")
@pytest.mark.parametrize("process", [1, 0xF7FD, 0xF7FE, 0xF7FF, 0xF800, 0xFFFF, 0x123456])
def test_ping(process: int, monkeypatch: pytest.MonkeyPatch):
    """Whatever the number of the process that asks, which is in the echo and its sum."""
    monkeypatch.setattr(asking.os, "getpid", lambda: process)
    ask = Ask("k", "here", "there", "out", "ping", "127.0.0.1")
    assert asked(ask) == Answer((200,))
    assert asked(ask._replace(address="::1")).statuses in ((200,), ())
    silent = asked(ask._replace(address="127.255.255.255"))
    assert silent.failed == "connection"


def test_all_children_are_gone(served: Served):
    before = _children()
    asked(_ask(served))
    assert _children() == before


def _children() -> list[str]:
    """This thread's children; those of other tests' threads are not its own."""
    return Path("/proc/thread-self/children").read_text().split()
