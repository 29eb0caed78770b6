"""The gateway, serving: what clients outside get, and what the mesh gets to see."""

from __future__ import annotations

import contextlib
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from builder.network import Network
from tests.judges import pki
from tests.judges.namespace import Entry
from tests.kinds.nginx import http2, networks
from tests.kinds.nginx.networks import GATEWAY, MESH, MESH_NAME
from tests.kinds.nginx.serving import (
    OWNER,
    Asked,
    Got,
    Running,
    Stub,
    ask,
    client,
    plainly,
    receive,
    running,
    send,
    stub,
    tcp,
)

pytestmark = [pytest.mark.judge]

PLAIN, TLS, DB = 20000, 20001, 20002
CHAT, HOME, SMALL, RATED = (f"{x}.example.org" for x in ("chat", "home", "small", "rated"))
OPEN, DBASE, RPC, LATE = (f"{x}.example.org" for x in ("open", "db", "rpc", "late"))
NEAR, FAR, NEAR6 = "10.9.0.5", "10.8.0.5", "fd00:9::5"
DB_NAME = "db.svc.phoenix.internal"
CLOSED = (EOFError, ConnectionResetError)


def network() -> Network:
    one = {"backends": ["webui"], "port": 8000}
    reason = "a test of what goes plain"
    declared = networks.services(
        chat={**one, "profile": "llm", "expose": [CHAT, LATE]},
        webui={**one, "expose": [HOME], "limits": {"clients": ["10.9.0.0/16", "fd00:9::/32"]}},
        renders={**one, "expose": [{"name": HOME, "path": "/renders/", "strip": True}]},
        small={**one, "expose": [SMALL], "limits": {"body": "1KiB", "connections": 1}},
        rated={
            **one,
            "expose": [{"name": RATED, "path": "/v1"}],
            "limits": {"rate": "1/m", "burst": 1},
        },
        open={
            **one,
            "expose": [OPEN],
            "plain": [{"hop": hop, "reason": reason} for hop in ("outside", "mesh")],
        },
        shut={**one, "expose": [{"name": OPEN, "path": "/shut"}]},
        db={**one, "protocol": "tcp", "expose": [{"name": DBASE, "port": 5432}]},
        rpc={**one, "protocol": "grpc", "expose": [RPC]},
    )
    host = networks.host()
    host["bridges"]["vmbr0"]["address6"] = "fd00::1/64"
    host["guests"]["nginx-gateway"]["address6"] = "fd00::101"
    return networks.network(declared, host)


@dataclass(slots=True)
class Gateway:
    """The gateway and the mesh behind it; the stub's answer can be changed by each test."""

    nginx: Running
    mesh: Stub
    answers: list[object]

    def client(self, name: str | None, **more: object) -> ssl.SSLSocket:
        return client(self.nginx.space, GATEWAY, TLS, name, **more)  # type: ignore[arg-type]

    def get(self, name: str, path: str = "/", *headers: str, **more: object) -> Got:
        with self.client(name, **more) as stream:
            return ask(stream, name, path, *headers)

    def plain(self) -> socket.socket:
        return tcp(self.nginx.space, GATEWAY, PLAIN)

    def last(self) -> Asked:
        return self.mesh.asked[-1]


@pytest.fixture(scope="module", name="gateway")
def _gateway() -> Iterator[Gateway]:
    with serving() as found:
        yield found


@contextlib.contextmanager
def serving() -> Iterator[Gateway]:
    """The gateway with a certificate for each name but one, and the mesh's stub behind it."""
    net = network()
    names = [c.name for c in net.gateway.certificates if c.name != LATE]
    files = networks.guest(net, "nginx-gateway", certificates=names)
    with running(files) as nginx, contextlib.ExitStack() as stack:
        found = Gateway(nginx, Stub(), [])

        def answer(stream: socket.socket, asked: Asked) -> None:
            chosen = found.answers[-1] if found.answers else plainly
            chosen(stream, asked)  # type: ignore[operator]

        pair = pki.authority().issue([MESH_NAME, DB_NAME])
        found.mesh = stack.enter_context(stub(nginx.space, MESH, 443, answer, pair=pair))
        stack.enter_context(stub(nginx.space, MESH, 8080, answer))
        yield found


@contextlib.contextmanager
def answering(gateway: Gateway, answer: object) -> Iterator[None]:
    gateway.answers.append(answer)
    try:
        yield
    finally:
        gateway.answers.pop()


def refused(gateway: Gateway, name: str | None) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        gateway.client(name)
    return str(caught.value)


# --- names


def test_names_in_the_handshake(gateway: Gateway) -> None:
    assert gateway.get(CHAT, "/x").body == b"/x"
    for name in ("evil.example.org", GATEWAY, "nginx-gateway.phoenix.internal", DBASE, None):
        assert "UNRECOGNIZED_NAME" in refused(gateway, name), name


def test_host_is_the_handshakes(gateway: Gateway) -> None:
    before = len(gateway.mesh.asked)
    for name in (CHAT, RATED):
        for host in {HOME, CHAT, RATED, DBASE, GATEWAY, "evil.example.org", ""} - {name}:
            with gateway.client(name) as stream:
                assert ask(stream, host, "/v1").status in {400, 421}, host
    assert len(gateway.mesh.asked) == before
    with gateway.client(CHAT) as stream:
        assert ask(stream, "CHAT.example.org.:443").status == 200
    assert gateway.last().header("host") == CHAT
    with gateway.client("Chat.Example.Org") as stream:
        assert ask(stream, CHAT).status == 200


def test_port_80(gateway: Gateway) -> None:
    for host in ("evil.example.org", GATEWAY, "nginx-gateway.phoenix.internal"):
        with gateway.plain() as stream, pytest.raises(CLOSED):
            ask(stream, host)
    with gateway.plain() as stream:
        got = ask(stream, CHAT, "/a%2Fb?c=d;e")
        assert (got.status, got.headers["location"]) == (308, [f"https://{CHAT}/a%2Fb?c=d;e"])
    with gateway.plain() as stream:
        assert ask(stream, DBASE).status == 404


def test_challenge(gateway: Gateway) -> None:
    folder = "/var/lib/phoenix/acme/webroot/.well-known/acme-challenge"
    gateway.nginx.space.write([Entry(f"{folder}/token", b"proof", 0o640, OWNER)])
    for host in (CHAT, LATE, DBASE, OPEN):
        with gateway.plain() as stream:
            got = ask(stream, host, "/.well-known/acme-challenge/token")
            assert (got.status, got.body) == (200, b"proof")
        with gateway.plain() as stream:
            assert ask(stream, host, "/.well-known/acme-challenge/other").status == 404
    with gateway.plain() as stream, pytest.raises(CLOSED):
        ask(stream, "evil.example.org", "/.well-known/acme-challenge/token")


def test_plain_text_on_the_tls_port(gateway: Gateway) -> None:
    """Neither a name that is here nor another gets an answer."""
    for host in (CHAT, "evil.example.org"):
        with tcp(gateway.nginx.space, GATEWAY, TLS) as stream, pytest.raises(CLOSED):
            ask(stream, host)


def test_malformed_requests(gateway: Gateway) -> None:
    """They are answered, and logged as requests alone."""
    for text in (b"GET / HTTP/1.1\r\n\r\n", b"\0\0\0\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n"):
        with gateway.client(CHAT) as stream:
            stream.sendall(text)
            assert b" 400 Bad Request" in stream.recv(4096)
    assert {line["status"] for line in gateway.nginx.lines()} >= {"400"}
    assert "uninitialized" not in gateway.nginx.space.log(gateway.nginx.daemon)


def test_plain_outside_and_mesh(gateway: Gateway) -> None:
    with gateway.plain() as stream:
        assert ask(stream, OPEN, "/x").body == b"/x"
    assert gateway.get(OPEN, "/y").body == b"/y"
    with gateway.client(CHAT) as stream:
        assert ask(stream, OPEN).status == 421
    # A service that shares the name is not plain for that.
    for path in ("/shut", "/shut/x", "/a/../shut/x", "//shut/x"):
        with gateway.plain() as stream:
            assert ask(stream, OPEN, path).status == 308


def test_ipv6(gateway: Gateway) -> None:
    with client(gateway.nginx.space, "fd00::101", TLS, HOME, source=NEAR6) as stream:
        assert ask(stream, HOME).status == 200
    assert gateway.last().header("x-forwarded-for") == NEAR6
    with client(gateway.nginx.space, "fd00::101", TLS, HOME, source="fd00:8::5") as stream:
        assert ask(stream, HOME).status == 403


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
            "X-Forwarded-Tls-Client-Cert-Info",
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
    [line] = [x for x in gateway.nginx.lines() if x["id"] == seen]
    assert line["path"] == path
    assert "secret" not in str(line)
    expected = {
        "service": "webui", "client": NEAR, "host": HOME, "status": "200", "slot": "a",
        "tls": "TLSv1.3", "protocol": "HTTP/1.1", "method": "GET", "upstream": f"{MESH}:443",
        "upstream_status": "200",
    }  # fmt: skip
    assert {name: line[name] for name in expected} == expected
    assert float(str(line["upstream_seconds"])) >= 0


# --- limits


def test_rate(gateway: Gateway) -> None:
    found = [gateway.get(RATED, "/v1/x", source="10.7.0.1").status for _ in range(4)]
    assert found == [200, 200, 429, 429]
    assert gateway.get(RATED, "/v1/x", source="10.7.0.2").status == 200


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
        go.wait(1)
        plainly(stream, asked)

    with answering(gateway, hold), gateway.client(SMALL) as one:
        send(one, SMALL)
        assert held.wait(10)
        assert gateway.get(SMALL).status == 429
        go.set()
        assert receive(one).status == 200
    assert gateway.get(SMALL).status == 200


# --- streams, uploads, web sockets


def in_two(first: threading.Event, go: threading.Event) -> object:
    def answer(stream: socket.socket, _: Asked) -> None:
        stream.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        first.set()
        go.wait(1)
        stream.sendall(b"3\r\ntwo\r\n0\r\n\r\n")

    return answer


@pytest.mark.parametrize(("name", "at_once"), [(CHAT, True), (SMALL, False)])
def test_stream(gateway: Gateway, name: str, at_once: bool) -> None:
    """Tokens come as they are made, in the profiles for it; an ordinary answer is collected."""
    first, go = threading.Event(), threading.Event()
    with answering(gateway, in_two(first, go)), gateway.client(name) as stream:
        send(stream, name)
        assert first.wait(10)
        stream.settimeout(0.4)
        found = b""
        with contextlib.suppress(TimeoutError):
            while b"one" not in found:
                found += stream.recv(4096)
        assert (b"one" in found) == at_once
        go.set()
        stream.settimeout(10)
        while b"0\r\n\r\n" not in found:
            found += stream.recv(4096)
        assert b"two" in found


@pytest.mark.parametrize(("name", "at_once"), [(CHAT, True), (SMALL, False)])
def test_upload(gateway: Gateway, name: str, at_once: bool) -> None:
    """Large bodies go on as they come; a small one is collected first."""
    before = len(gateway.mesh.asked)
    with gateway.client(name) as stream:
        send(stream, name, "/", "Content-Length: 10", method="POST")
        stream.sendall(b"12345")
        time.sleep(0.4)
        assert (len(gateway.mesh.asked) > before) == at_once
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
    """The program learns within a second that nobody listens any more."""
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
        assert gone.wait(1)


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


# --- tcp


def shout(stream: socket.socket) -> None:
    while data := stream.recv(100):
        stream.sendall(data.upper())


@pytest.mark.parametrize("names", [[DB_NAME], [MESH_NAME]])
def test_tcp(names: list[str]) -> None:
    """Bytes go both ways under the service's inner name, which the mesh has to prove."""
    files = networks.guest(network(), "nginx-gateway", certificates=[DBASE])
    with (
        running(files) as nginx,
        stub(nginx.space, MESH, 443, plainly, pair=pki.authority().issue(names), raw=shout) as mesh,
    ):
        for name in (DBASE, None):
            with client(nginx.space, GATEWAY, DB, name) as stream:
                with contextlib.suppress(OSError):  # closed before it was sent
                    stream.sendall(b"hello")
                assert stream.recv(100) == (b"HELLO" if names == [DB_NAME] else b"")
        assert set(mesh.names) == {DB_NAME}
        for name in ("evil.example.org", CHAT):
            with pytest.raises(ssl.SSLError, match="INTERNAL_ERROR"):
                client(nginx.space, GATEWAY, DB, name)


# --- certificates


def test_first_and_renewed_certificate(gateway: Gateway) -> None:
    """Before it is there nothing is answered; then it is used, and the next one too."""
    assert "INTERNAL_ERROR" in refused(gateway, LATE)
    serials = set()
    for _ in range(2):
        gateway.nginx.put(dict(networks.held([LATE])))
        with gateway.client(LATE) as stream:
            assert ask(stream, LATE).status == 200
            certificate = stream.getpeercert()
            assert certificate
            serials.add(certificate["serialNumber"])
    assert len(serials) == 2


def test_delivered_certificate() -> None:
    """`files`: from the credentials of the slot's unit."""
    data = networks.services(
        chat={"backends": ["webui"], "port": 8000, "expose": [CHAT]},
        db={
            "backends": ["webui"],
            "port": 8001,
            "protocol": "tcp",
            "expose": [{"name": CHAT, "port": 5432}],
        },
    )
    data["certificates"] = {CHAT: {"files": {"certificate": "file:/a", "key": "file:/b"}}}
    pair = pki.authority().issue([CHAT])
    with running(networks.guest(networks.network(data), "nginx-gateway"), "b") as nginx:
        folder = "/run/credentials/phoenix-nginx@b.service"
        for port in (21001, 21002):
            with pytest.raises(ssl.SSLError):
                client(nginx.space, GATEWAY, port, CHAT)
        nginx.put({f"{folder}/{CHAT}.crt": pair.certificate, f"{folder}/{CHAT}.key": pair.key})
        for port in (21001, 21002):
            client(nginx.space, GATEWAY, port, CHAT).close()
        with tcp(nginx.space, GATEWAY, 21000) as stream:
            assert ask(stream, CHAT, "/.well-known/acme-challenge/x").status == 308


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
