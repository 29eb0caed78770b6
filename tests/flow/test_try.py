"""The program `try` counts rightly what a server does wrong; and what one does right."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.flow import built, faulty
from tests.flow.faulty import Behave, serving
from tests.judges.pki import Authority

pytestmark = pytest.mark.needs("index")
COUNT = 20


@pytest.fixture(scope="module")
def program() -> Iterator[int]:
    """The port of a program that does all as it should."""
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = int(place.getsockname()[1])
    listen = ["serve", "--guest", "here", "--listen", f"127.0.0.1:{port}"]
    process = subprocess.Popen([built.program(), *listen])
    try:
        yield awaited(port)
    finally:
        process.kill()
        process.wait()


def awaited(port: int) -> int:
    for _ in range(600):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return port
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on {port}")


def asked(*words: str) -> dict[str, Any]:
    done = subprocess.run(
        [built.program(), *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def load(port: int, *words: str) -> dict[str, Any]:
    return asked("load", "--url", f"http://127.0.0.1:{port}", "--count", str(COUNT), *words)


def counts(found: dict[str, Any]) -> tuple[int, int, int]:
    assert found["asked"] == found["answered"] + found["failed"] + found["truncated"]
    return found["answered"], found["failed"], found["truncated"]


@pytest.mark.parametrize("kind", ["new", "kept"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_all_is_well(program: int, kind: str, method: str) -> None:
    found = load(program, "--kind", kind, "--method", method, "--workers", "3", "--size", "200000")
    assert counts(found) == (COUNT, 0, 0), found
    assert found["connections"] == (COUNT if kind == "new" else 3)
    assert found["guests"] == {"here": COUNT}


def test_a_load_ends_with_its_input() -> None:
    asks = threading.Event()

    def behave(link: socket.socket) -> None:
        asks.set()
        says(b"", 0)(link)

    with serving(behave) as port:
        words = ["load", "--url", f"http://127.0.0.1:{port}", "--pause", "1ms", "--size", "0"]
        process = subprocess.Popen(
            [built.program(), *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert asks.wait(60)
        time.sleep(0.3)
        assert process.poll() is None
        found = json.loads(process.communicate(timeout=60)[0])
    assert counts(found) == (found["asked"], 0, 0), found
    assert found["asked"] > 0


def says(body: bytes, length: int, status: str = "200 OK", then: str = "") -> Behave:
    """A server that says this to each request, and after the first one closes where `then` says
    how: "closed" with the word for it, "cut" without."""

    def behave(link: socket.socket) -> None:
        while faulty.head(link):
            close = "Connection: close\r\n" if then == "closed" else ""
            top = f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{close}\r\n"
            link.sendall(top.encode() + body)
            if then:
                return

    return behave


def text(port: int, size: int) -> bytes:
    """The first bytes of what the program sends."""
    with socket.create_connection(("127.0.0.1", port)) as link:
        link.sendall(f"GET /bytes?n={size} HTTP/1.0\r\n\r\n".encode())
        faulty.head(link)
        return link.recv(size, socket.MSG_WAITALL)


def test_what_is_wrong_is_counted(program: int) -> None:
    good = text(program, 100)
    cases: dict[str, tuple[Behave, tuple[int, int, int]]] = {
        "no answer": (lambda _: None, (0, COUNT, 0)),
        "no whole head": (lambda link: link.sendall(b"HTTP/1.1 200 OK\r\nCont"), (0, COUNT, 0)),
        "an error": (says(good, 100, "502 Bad Gateway"), (0, COUNT, 0)),
        "cut": (says(good[:50], 100, then="cut"), (0, 0, COUNT)),
        "too short": (says(good[:50], 50), (0, 0, COUNT)),
        "another's": (says(bytes(100), 100), (0, 0, COUNT)),
        # Each request wants another part of the text: only the first one gets its own.
        "the one before": (says(good, 100), (1, 0, COUNT - 1)),
    }
    for name, (behave, wanted) in cases.items():
        with serving(behave) as port:
            found = load(port, "--size", "100")
            assert counts(found) == wanted, (name, found)
            assert found["first"], name


def test_a_connection_that_is_closed(program: int) -> None:
    good = text(program, 0)
    with serving(says(good, 0, then="closed")) as port:
        found = load(port, "--size", "0")
        assert counts(found) == (COUNT, 0, 0), found
        assert found["connections"] == COUNT
    # Said to no one: every other request meets it, and is tried once.
    with serving(says(good, 0, then="cut")) as port:
        found = load(port, "--size", "0", "--pause", "20ms")
        assert counts(found) == (COUNT // 2, COUNT // 2, 0), found


def refusing(link: socket.socket) -> None:
    for stream in faulty.requests(link):
        wrong = stream % 4 == 3
        link.sendall(faulty.reset(stream, faulty.REFUSED) if wrong else faulty.answer(stream, b""))


def going(link: socket.socket) -> None:
    for stream in faulty.requests(link):
        if stream == 1:
            link.sendall(faulty.answer(stream, b""))
        else:
            link.sendall(faulty.goaway(1))
            return


def lost(link: socket.socket) -> None:
    for stream in faulty.requests(link):
        link.sendall(faulty.goaway(stream))
        return


def broken(link: socket.socket) -> None:
    for stream in faulty.requests(link):
        link.sendall(faulty.reset(stream, faulty.INTERNAL))


def test_streams_that_are_refused(tmp_path: Path) -> None:
    context = trusted(tmp_path)

    for behave, kind, wanted in [
        (refusing, "h2", (COUNT, 0, 0)),
        (refusing, "h2-once", (COUNT // 2, COUNT // 2, 0)),
        (going, "h2", (COUNT, 0, 0)),
        (going, "h2-once", (COUNT // 2, COUNT // 2, 0)),
        (lost, "h2", (0, COUNT, 0)),
        (broken, "h2", (0, COUNT, 0)),
    ]:
        with serving(behave, context) as port:
            reach = ["--url", f"https://localhost:{port}", "--ca", str(tmp_path / "root.pem")]
            found = asked("load", *reach, "--kind", kind, "--count", str(COUNT), "--size", "0")
            assert counts(found) == wanted, (behave.__name__, kind, found)
            assert (found["retried"] > 0) == (kind == "h2" and wanted[0] > 0), found


def trusted(folder: Path) -> ssl.SSLContext:
    authority = Authority()
    pair = authority.issue(["localhost"])
    (folder / "root.pem").write_bytes(authority.root)
    (folder / "pair.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "pair.pem")
    context.set_alpn_protocols(["h2"])
    return context


def test_tokens(program: int) -> None:
    here = f"http://127.0.0.1:{program}"
    found = asked("ask", "sse", "--url", here, "--n", "5")
    assert (found["tokens"], found["whole"]) == (5, True), found

    def event(number: int) -> bytes:
        return f'data: {{"n":{number},"at":0}}\n\n'.encode()

    for body in (event(0) + event(1), event(0) + event(2) + b"data: [DONE]\n\n"):
        with serving(says(body, len(body))) as port:
            there = f"http://127.0.0.1:{port}"
            assert not asked("ask", "sse", "--url", there, "--n", "2")["whole"]
            found = asked("ask", "streams", "--url", there, "--n", "2", "--streams", "3")
            assert (found["whole"], found["truncated"]) == (0, 3), found
    with serving(lambda _: None) as port:
        found = asked("ask", "streams", "--url", f"http://127.0.0.1:{port}", "--streams", "3")
        assert (found["whole"], found["failed"]) == (0, 3), found


@pytest.mark.parametrize("kind", ["sse", "silent", "upload", "download", "ws"])
def test_who_goes_is_seen(program: int, kind: str) -> None:
    here = f"http://127.0.0.1:{program}"
    words = ("--url", here, "--kind", kind, "--mark", kind, "--after", "2s")
    closed = asked("ask", "disconnect", *words)["closed"]
    for _ in range(200):
        found = asked("ask", "active", "--url", here, "--mark", kind)
        if found["ended"]:
            break
    (one,) = found["ended"]
    assert one["how"] != "done", found
    assert one["ended"] > closed
