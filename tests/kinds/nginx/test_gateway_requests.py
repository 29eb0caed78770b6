"""What the gateway lets through of requests: paths, headers, limits, and what it logs."""

from __future__ import annotations

import contextlib
import re
import socket
import threading

import pytest

from tests.kinds.nginx.gateway import CHAT, FAR, HOME, NEAR, RATED, SMALL, TLS, Gateway, answering
from tests.kinds.nginx.networks import MESH
from tests.kinds.nginx.serving import Asked, ask, client, comes, plainly, receive, send

pytestmark = [pytest.mark.judge]


# --- paths


def test_prefixes(gateway: Gateway) -> None:
    for path in ("/renders", "/renders/", "/renders/x?y=1"):
        assert gateway.get(HOME, path, source=FAR).body == path.encode()
    for path in ("/", "/rendersx", "/renders/../admin", "/renders/%2e%2e%2Fadmin", "/Renders/"):
        assert gateway.get(HOME, path, source=FAR).status == 403, path
        assert gateway.get(HOME, path, source=NEAR).status == 200, path
    for path, status in {"/": 404, "/v1beta": 404, "/v1/../v2": 404}.items():
        assert gateway.get(RATED, path).status == status


def test_the_mesh_decides_alike(gateway: Gateway) -> None:
    """Where services share a name, no spelling of a path reaches another service in the mesh."""
    spelt = {
        "/renders%2Fx": b"/renders/x",
        "//renders//x": b"/renders/x",
        "/%72enders/./x": b"/renders/x",
        "/a/../renders/x%20y%3Fz?q=%2F": b"/renders/x%20y%3Fz?q=%2F",
        "//renders/x%0Ay": b"/renders/x%0Ay",
    }
    for path, seen in spelt.items():
        assert gateway.get(HOME, path, source=FAR).body == seen
    # Alone on its name, a service gets what was sent.
    assert gateway.get(CHAT, "/a%2Fb//c/../d").body == b"/a%2Fb//c/../d"


# --- headers


def test_the_client_is_not_believed(gateway: Gateway) -> None:
    lies = [
        f"{name}: 6.6.6.6"
        for name in (
            "X-Forwarded-For", "X-Real-IP", "X-Forwarded-Host", "X-Forwarded-Proto", "Forwarded",
            "X-Forwarded-Port", "X-Forwarded-Server", "X-Forwarded-Prefix", "X-Forwarded-Uri",
            "X-Forwarded-Method", "X-Forwarded-Tls-Client-Cert", "X-Request-Id", "X_Forwarded_For",
            "X-Forwarded-Tls-Client-Cert-Info", "X-Forwarded-Scheme", "X-Forwarded-Ssl",
            "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups",
            "X-Forwarded-Preferred-Username", "X-Forwarded-Access-Token",
            "X-Original-URL", "X-Rewrite-URL", "X-Client-IP", "X-Cluster-Client-IP",
            "True-Client-IP",
        )
    ]  # fmt: skip
    hop = ["Connection: keep-alive, X-Real-IP", "Keep-Alive: 5", "TE: trailers", "Expect: x"]
    got = gateway.get(CHAT, "/", *lies, *hop[:3], "X-Own: kept", source=FAR)
    assert got.status == 200
    asked = gateway.last()
    assert not [v for values in asked.headers.values() for v in values if "6.6.6.6" in v]
    assert {n: asked.header(n) for n in asked.headers if n != "x-request-id"} == {
        "host": CHAT,
        "x-real-ip": FAR,
        "x-forwarded-for": FAR,
        "x-forwarded-host": CHAT,
        "x-forwarded-port": "443",
        "x-forwarded-proto": "https",
        "x-own": "kept",
    }
    assert re.fullmatch("[0-9a-f]{32}", asked.header("x-request-id") or "")


def test_log(gateway: Gateway) -> None:
    path = '/"quoted"\\back'
    gateway.get(HOME, f"{path}?token=secret", 'User-Agent: a "b" \\ \x01', source=NEAR)
    seen = gateway.last().header("x-request-id")
    [line] = gateway.nginx.lines("id", seen)
    assert line["path"] == path
    assert "secret" not in str(line)
    expected = {
        "service": "webui", "client": NEAR, "host": HOME, "status": "200", "slot": "a",
        "tls": "TLSv1.3", "protocol": "HTTP/1.1", "method": "GET", "upstream": f"{MESH}:443",
        "upstream_status": "200",
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    assert float(str(line["upstream_seconds"])) >= 0


def test_log_of_what_is_no_utf8(gateway: Gateway) -> None:
    """Whatever bytes a client sends, each line is JSON in UTF-8 (which reading it shows)."""
    bad, good = (
        "\xc0\xaf\xed\xa0\x80\xf5\xff",
        "gr\u00fc\u00df\U0001f600".encode().decode("latin-1"),
    )
    for agent, path, logged in (
        (bad, "/%ff%c0%af?token=%fe", "/%ff%c0%af"),
        (f"a{bad}", f"/raw{bad}", "/raw"),
        (good, "/gr%c3%bc%c3%9f", "/gr\u00fc\u00df"),
    ):
        gateway.get(HOME, path, f"User-Agent: {agent}", "X-Request-Id: theirs", source=NEAR)
        seen = gateway.last().header("x-request-id")
        [line] = gateway.nginx.lines("id", seen)
        assert line["path"] == logged
        assert line["agent"] == ("gr\u00fc\u00df\U0001f600" if agent == good else "(not UTF-8)")
    with gateway.client(HOME) as stream, contextlib.suppress(EOFError):
        ask(stream, f"a{bad}b")
    assert gateway.nginx.lines("host", "(not UTF-8)")


def test_the_client_is_told_the_id(gateway: Gateway) -> None:
    """Of an answer that has an id, that one; of one without, or of an error of ours, our own."""
    got = gateway.get(HOME, "/", source=NEAR)
    assert got.headers["x-request-id"] == [gateway.last().header("x-request-id")]
    refused = gateway.get(HOME, "/", source=FAR)
    assert refused.status == 403
    assert gateway.nginx.lines("id", refused.headers["x-request-id"][0])

    def own(stream: socket.socket, _: Asked) -> None:
        stream.sendall(b"HTTP/1.1 200 OK\r\nX-Request-Id: program\r\nContent-Length: 0\r\n\r\n")

    gateway.answers.append(own)
    assert gateway.get(HOME, "/", source=NEAR).headers["x-request-id"] == ["program"]
    gateway.answers.remove(own)


# --- limits


def test_rate(gateway: Gateway) -> None:
    found = [gateway.get(RATED, "/v1/x", source="10.7.0.1").status for _ in range(4)]
    assert found == [200, 200, 429, 429]
    assert gateway.get(RATED, "/v1/x", source="10.7.0.2").status == 200


def test_an_ipv6_client_is_its_network(gateway: Gateway) -> None:
    """Whoever has 64 bits of addresses for himself is counted as one."""

    def asked(source: str) -> int:
        with client(gateway.nginx.space, "fd00::101", TLS, RATED, source=source) as stream:
            return ask(stream, RATED, "/v1/x").status

    assert [asked(f"fd00:7::{last}") for last in ("1", "2", "3", "a00:0:0:4")] == [
        200,
        200,
        429,
        429,
    ]
    assert asked("fd00:7:0:1::1") == 200


def test_body(gateway: Gateway) -> None:
    for size, status in ((1024, 200), (1025, 413)):
        with gateway.client(SMALL) as stream:
            assert ask(stream, SMALL, method="POST", body=b"x" * size).status == status
    with gateway.client(CHAT) as stream:
        assert ask(stream, CHAT, method="POST", body=b"x" * (3 << 20)).status == 200
    assert len(gateway.last().body) == 3 << 20


def test_connections(gateway: Gateway) -> None:
    held, go = threading.Event(), threading.Event()

    def hold(stream: socket.socket, asked: Asked) -> None:
        held.set()
        go.wait(10)
        plainly(stream, asked)

    with answering(gateway, hold), gateway.client(SMALL) as one:
        send(one, SMALL)
        assert held.wait(10)
        assert gateway.get(SMALL).status == 429
        go.set()
        assert receive(one).status == 200
    # It is counted until nginx has done with it, a moment after the answer.
    assert comes(lambda: gateway.get(SMALL).status == 200)
