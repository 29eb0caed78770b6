"""Requests through the running mesh, from the addresses of real callers to backends with TLS."""

from __future__ import annotations

import contextlib
import datetime
import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from builder.kinds import traefik
from builder.network import Network
from tests.judges import pki
from tests.judges.http import Response
from tests.kinds.traefik.running import (
    Mesh,
    Server,
    mesh_certificate,
    network,
    put,
    running,
    site,
    tree,
    until,
)

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]

GATEWAY, VLLM1, VLLM2, QDRANT, WEBUI, WORKSTATION = (
    f"10.0.0.{number}" for number in (101, 111, 112, 113, 114, 201)
)
GUESTS = {"vllm-1": VLLM1, "vllm-2": VLLM2, "qdrant": QDRANT, "webui": WEBUI}
Data = dict[str, Any]


def own(guest: str) -> pki.Pair:
    """The certificate that a guest has by its own name."""
    return pki.authority().issue([f"{guest}.phoenix.internal"])


def backend(mesh: Mesh, guest: str, port: int, **more: Any) -> Server:
    address = {**GUESTS, "workstation": WORKSTATION}[guest]
    return Server(mesh.space, address, port, more.pop("pair", own(guest)), name=guest, **more)


def said(response: Response) -> Data:
    assert response.status == 200, response
    found = json.loads(response.body)
    assert isinstance(found, dict)
    return found


@pytest.fixture(scope="module")
def reference() -> Iterator[Mesh]:
    """The reference with all its backends."""
    with running(network()) as mesh:
        for guest, port in (
            ("vllm-1", 8000), ("vllm-2", 8000), ("vllm-1", 8001), ("vllm-2", 8001),
            ("webui", 8080), ("qdrant", 6333), ("workstation", 8443),
        ):  # fmt: skip
            backend(mesh, guest, port)
        yield mesh


@contextlib.contextmanager
def one(**service: Any) -> Iterator[Mesh]:
    """A mesh with a service `s`, for all guests unless it says otherwise."""
    whole = {"backends": ["vllm-1"], "port": 8000, "inside": True, **service}
    with running(network(site(s=whole))) as mesh:
        yield mesh


INSIDE = "s.svc.phoenix.internal"


def read_until(stream: socket.socket, end: bytes) -> bytes:
    """What comes, up to and with `end`, byte by byte; fails where it ends before."""
    stream.settimeout(5)
    got = b""
    while end not in got:
        more = stream.recv(1)
        assert more, got
        got += more
    return got


HEAD_ENDS = b"\r\n\r\n"

# --- who may ask for what


def test_outside_through_the_gateway(reference: Mesh) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Request-Id": "r7"}
    seen = said(reference.outside("chat.example.org", "/v1/models?key=secret7", headers=headers))
    assert seen["line"] == "GET /v1/models?key=secret7 HTTP/1.1"
    assert seen["headers"]["Host"] == "chat.example.org"
    assert seen["headers"]["X-Forwarded-For"] == f"203.0.113.9, {GATEWAY}"
    assert seen["headers"]["X-Forwarded-Proto"] == "https"
    assert seen["headers"]["X-Request-Id"] == "r7"
    until(lambda: '"request_X-Request-Id":"r7"' in reference.log(), reference.log)
    assert "secret7" not in reference.log()


@pytest.mark.parametrize("source", [WEBUI, "10.0.0.1", "192.168.1.10"])
def test_nobody_else_is_the_gateway(reference: Mesh, source: str) -> None:
    for headers in ({}, {"X-Forwarded-For": GATEWAY, "X-Real-Ip": GATEWAY}):
        asked = reference.ask(
            source, "chat.example.org", sni=reference.net.mesh.fqdn, headers=headers
        )
        assert asked.status == 404


def test_inside_for_declared_callers(reference: Mesh) -> None:
    name = "embeddings.svc.phoenix.internal"
    said(reference.ask(WEBUI, name))
    for source in (VLLM1, QDRANT, GATEWAY, "10.0.0.77"):
        assert reference.ask(source, name).status == 404
        assert reference.ask(source, name, headers={"X-Forwarded-For": WEBUI}).status == 404
    # For all: all but the gateway, which speaks for outside.
    said(reference.ask(QDRANT, "chat.svc.phoenix.internal"))
    assert reference.ask(GATEWAY, "chat.svc.phoenix.internal").status == 404


def test_a_callers_word_on_who_it_is_counts_for_nothing(reference: Mesh) -> None:
    headers = {"X-Forwarded-For": "203.0.113.9", "X-Real-Ip": "203.0.113.9", "X_Odd": "1"}
    seen = said(reference.ask(WEBUI, "embeddings.svc.phoenix.internal", headers=headers))
    assert seen["headers"]["X-Forwarded-For"] == WEBUI
    assert seen["headers"]["X-Real-Ip"] == WEBUI
    assert "X_Odd" not in seen["headers"]
    # The check sees a header that is trusted: the gateway's.
    seen = said(reference.outside("chat.example.org", headers=headers))
    assert seen["headers"]["X-Real-Ip"] == "203.0.113.9"


def test_prefixes(reference: Mesh) -> None:
    def asked(path: str) -> tuple[str, str]:
        seen = said(reference.outside("ai.home.example.org", path))
        return seen["server"], seen["line"].split()[1]

    assert asked("/") == ("webui", "/")
    assert asked("/renders") == ("workstation", "/")
    assert asked("/renders/") == ("workstation", "/")
    assert asked("/renders/a/b?c") == ("workstation", "/a/b?c")
    assert asked("/rendersx") == ("webui", "/rendersx")
    assert asked("/a/renders/") == ("webui", "/a/renders/")
    assert asked("/renders/../x") == ("webui", "/x")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1")
def test_unknown_names_get_nothing(reference: Mesh) -> None:
    assert reference.outside("unknown.example.org").status == 404
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        reference.tls(GATEWAY, "unknown.example.org")
    context = ssl.create_default_context(cadata=pki.authority().root.decode())
    context.check_hostname = False
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(reference.connect(GATEWAY))
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(reference.connect(GATEWAY), server_hostname=reference.net.mesh.fqdn)


def test_inside_path() -> None:
    with one(inside={"path": "/v1/"}) as mesh:
        backend(mesh, "vllm-1", 8000)
        for path, status in (("/v1", 200), ("/v1/x", 200), ("/v1beta", 404), ("/v1/../x", 404)):
            assert mesh.ask(WEBUI, INSIDE, path).status == status


# --- balancing


def test_weights(reference: Mesh) -> None:
    counted = Counter(
        said(reference.ask(WEBUI, "embeddings.svc.phoenix.internal"))["server"] for _ in range(40)
    )
    assert counted == {"vllm-1": 30, "vllm-2": 10}


def test_sticky() -> None:
    with one(backends=["vllm-1", "vllm-2"], sticky={"cookie": "pin"}) as mesh:
        servers = {name: backend(mesh, name, 8000) for name in ("vllm-1", "vllm-2")}
        first = mesh.ask(WEBUI, INSIDE)
        cookie, _, attributes = first.headers["set-cookie"].partition(";")
        assert cookie.startswith("pin=")
        assert {"HttpOnly", "Secure", "SameSite=Lax"} <= set(attributes.replace(" ", "").split(";"))
        held = {
            said(mesh.ask(WEBUI, INSIDE, headers={"Cookie": cookie}))["server"] for _ in "123456"
        }
        assert held == {said(first)["server"]}
        free = {said(mesh.ask(WEBUI, INSIDE))["server"] for _ in range(6)}
        assert free == set(servers)


def test_health_takes_a_backend_out_and_back() -> None:
    health = {"path": "/up", "interval": "1s", "timeout": "1s"}
    with one(backends=["vllm-1", "vllm-2"], health=health) as mesh:
        first, second = backend(mesh, "vllm-1", 8000), backend(mesh, "vllm-2", 8000)

        def up() -> list[str]:
            services = mesh.api("rawdata")["services"]
            names = [f"s.{name}.8000@file" for name in ("vllm-1", "vllm-2")]
            return [next(iter(services[name]["serverStatus"].values())) for name in names]

        until(lambda: len(first.heads) and len(second.heads), mesh.log)
        assert first.heads[0].startswith("GET /up ")
        assert "Host: vllm-1.phoenix.internal" in first.heads[0]
        first.healthy = False
        until(lambda: up() == ["DOWN", "UP"], mesh.log)
        assert {said(mesh.ask(WEBUI, INSIDE))["server"] for _ in range(6)} == {"vllm-2"}
        first.healthy = True
        until(lambda: up() == ["UP", "UP"], mesh.log)
        assert len({said(mesh.ask(WEBUI, INSIDE))["server"] for _ in range(6)}) == 2


def test_grpc_over_tls_is_healthy_while_it_answers() -> None:
    """Asked as a gRPC client asks, since Traefik's own gRPC check knows no TLS."""
    health = {"interval": "1s", "timeout": "1s"}
    with one(protocol="grpc", health=health) as mesh:
        server = backend(mesh, "vllm-1", 8000)

        def state() -> str:
            found = mesh.api("rawdata")["services"]["s.vllm-1.8000@file"]["serverStatus"]
            return str(next(iter(found.values())))

        until(lambda: server.heads, mesh.log)
        head = server.heads[0].lower()
        assert head.startswith("post /grpc.health.v1.health/check ")
        assert "\r\ncontent-type: application/grpc\r\n" in head
        server.healthy = False
        until(lambda: state() == "DOWN", mesh.log)
        server.healthy = True
        until(lambda: state() == "UP", mesh.log)


@pytest.mark.parametrize("protocol", ["grpc", "h2c"])
def test_plain_http2_is_checked_in_http2(protocol: str) -> None:
    plain = [{"hop": "backend", "reason": "it knows no TLS"}]
    health = {"interval": "1s", "timeout": "1s"}
    with one(protocol=protocol, plain=plain, health=health) as mesh:
        server = backend(mesh, "vllm-1", 8000, pair=None)
        until(lambda: server.heads, mesh.log)
        assert server.heads[0].startswith("PRI * HTTP/2.0")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_dead_backend_costs_no_request(method: str) -> None:
    """Before a health check tells: what was not sent yet goes to the other one."""
    with one(backends=["vllm-1", "vllm-2"]) as mesh:
        first, _ = backend(mesh, "vllm-1", 8000), backend(mesh, "vllm-2", 8000)
        body = b"x" * 3_000_000 if method == "POST" else None
        first.stop()
        for _ in range(8):
            seen = said(mesh.ask(WEBUI, INSIDE, method=method, body=body))
            assert (seen["server"], seen["body"]) == ("vllm-2", len(body or b""))


def test_a_request_that_was_sent_is_not_sent_twice() -> None:
    """A backend that takes a request and goes: the client is told, nobody gets it again."""

    def go(_: str, stream: socket.socket) -> None:
        stream.shutdown(socket.SHUT_RDWR)

    with one(backends=["vllm-1", "vllm-2"]) as mesh:
        servers = [backend(mesh, name, 8000, script=go) for name in ("vllm-1", "vllm-2")]
        assert mesh.ask(WEBUI, INSIDE, method="POST", body=b"x").status == 502
        assert sum(len(s.heads) for s in servers) == 1


# --- streams


def test_uploads_and_tokens_pass_as_they_come() -> None:
    """Each half of a body is sent only once the half before has come through."""
    begun, seen = threading.Event(), threading.Event()

    def script(head: str, stream: socket.socket) -> None:
        read_until(stream, b"first")
        begun.set()
        read_until(stream, b"second\r\n0\r\n\r\n")
        start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        stream.sendall(start + b"5\r\ntoken\r\n")
        assert seen.wait(5)
        stream.sendall(b"3\r\nend\r\n0\r\n\r\n")

    with one(backends=["vllm-1", "vllm-2"], profile="llm") as mesh:
        for name in ("vllm-1", "vllm-2"):
            backend(mesh, name, 8000, script=script)
        with mesh.tls(WEBUI, INSIDE) as stream:
            stream.sendall(
                f"POST / HTTP/1.1\r\nHost: {INSIDE}\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
                + b"5\r\nfirst\r\n"
            )
            assert begun.wait(5)
            stream.sendall(b"6\r\nsecond\r\n0\r\n\r\n")
            assert b"end" not in read_until(stream, b"token")
            seen.set()
            read_until(stream, b"end")


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


# --- the backend's certificate


def expired(guest: str) -> pki.Pair:
    """By the right root, by the right name, until yesterday."""
    now = datetime.datetime.now(datetime.UTC)
    name = f"{guest}.phoenix.internal"
    authority, key = pki.authority(), ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.intermediate)
    signer = serialization.load_pem_private_key(authority.intermediate_key(b"p"), b"p")
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(now - datetime.timedelta(days=9))
        .not_valid_after(now - datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )
    plain = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = leaf.public_bytes(serialization.Encoding.PEM) + authority.intermediate
    return pki.Pair(pem, key.private_bytes(serialization.Encoding.PEM, *plain))


WRONG = {
    "another guest's": lambda: own("vllm-2"),
    "of a foreign root": lambda: pki.Authority().issue(["vllm-1.phoenix.internal"]),
    "expired": lambda: expired("vllm-1"),
    "by its address": lambda: pki.authority().issue([VLLM1]),
}


@pytest.mark.parametrize("why", WRONG)
def test_a_wrong_certificate_gets_no_request(why: str) -> None:
    services = {
        "s": {"backends": ["vllm-1"], "port": 8000, "inside": True},
        "t": {"backends": ["vllm-1"], "port": 8001, "inside": True, "protocol": "tcp"},
    }
    with running(network(site(**services))) as mesh:
        server = backend(mesh, "vllm-1", 8000, pair=WRONG[why]())
        assert mesh.ask(WEBUI, INSIDE).status in {500, 502}
        other = backend(mesh, "vllm-1", 8001, pair=WRONG[why]())
        with contextlib.suppress(OSError), mesh.tls(WEBUI, "t.svc.phoenix.internal") as stream:
            stream.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert stream.recv(100) == b""
        assert len(other.alpn) == 0
        assert server.heads == other.heads == []
        server.stop()
        right = backend(mesh, "vllm-1", 8000)
        said(mesh.ask(WEBUI, INSIDE))
        assert len(right.heads) == 1


def test_a_plain_backend_instead_of_tls_gets_no_request() -> None:
    with one() as mesh:
        server = backend(mesh, "vllm-1", 8000, pair=None)
        assert mesh.ask(WEBUI, INSIDE).status in {500, 502}
        assert server.heads == []


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_plain_backend_where_it_was_asked_for(protocol: str) -> None:
    plain = [{"hop": "backend", "reason": "it knows no TLS"}]
    with one(plain=plain, protocol=protocol) as mesh:
        backend(mesh, "vllm-1", 8000, pair=None)
        said(mesh.ask(WEBUI, INSIDE))


def test_plain_mesh_where_it_was_asked_for() -> None:
    plain = [{"hop": "mesh", "reason": "it knows no TLS"}]
    with one(plain=plain, expose=["x.example.org"]) as mesh:
        backend(mesh, "vllm-1", 8000)
        said(mesh.ask(WEBUI, INSIDE, port=20001, plain=True))
        said(mesh.ask(GATEWAY, "x.example.org", port=20001, plain=True))
        assert mesh.ask(WEBUI, "x.example.org", port=20001, plain=True).status == 404
        assert mesh.outside("x.example.org").status == 404


# --- tcp


def test_tcp_by_the_name_in_the_handshake() -> None:
    services = {
        "db": {"backends": ["qdrant"], "port": 5432, "protocol": "tcp",
               "inside": {"callers": ["webui"]}},
        "out": {"backends": ["vllm-1"], "port": 5433, "protocol": "tcp",
                "expose": [{"name": "out.example.org", "port": 5433}]},
    }  # fmt: skip
    with running(network(site(**services))) as mesh:
        backend(mesh, "qdrant", 5432)
        backend(mesh, "vllm-1", 5433)
        allowed = {("db", WEBUI): "qdrant", ("out", GATEWAY): "vllm-1"}
        for name in ("db", "out"):
            for source in (WEBUI, GATEWAY, QDRANT):
                server = allowed.get((name, source))
                if server:
                    found = said(mesh.ask(source, f"{name}.svc.phoenix.internal"))
                    assert found["server"] == server
                else:
                    # Without a tcp router it falls to HTTP, which knows no such name.
                    asked = mesh.ask(source, f"{name}.svc.phoenix.internal")
                    assert asked.status == 404


def test_tcp_health_takes_a_backend_out_and_back() -> None:
    health = {"interval": "1s", "timeout": "1s"}
    with one(backends=["vllm-1", "vllm-2"], protocol="tcp", health=health) as mesh:

        def state(guest: str) -> str:
            found = mesh.api("rawdata")["tcpServices"][f"s.{guest}.8000@file"]["serverStatus"]
            return str(next(iter(found.values())))

        backend(mesh, "vllm-2", 8000)
        until(lambda: (state("vllm-1"), state("vllm-2")) == ("DOWN", "UP"), mesh.log)
        assert {said(mesh.ask(WEBUI, INSIDE))["server"] for _ in range(4)} == {"vllm-2"}
        backend(mesh, "vllm-1", 8000)
        until(lambda: state("vllm-1") == "UP", mesh.log)
        assert len({said(mesh.ask(WEBUI, INSIDE))["server"] for _ in range(4)}) == 2


# --- the mesh's own certificate


def test_before_its_first_certificate_it_answers_nobody() -> None:
    net = network()
    with running(net, certificate=False) as mesh:
        backend(mesh, "vllm-1", 8000)
        backend(mesh, "vllm-2", 8000)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        for name in (net.mesh.fqdn, "chat.svc.phoenix.internal", "chat.example.org"):
            with pytest.raises(ssl.SSLError):
                context.wrap_socket(mesh.connect(GATEWAY), server_hostname=name)
        put(mesh.space, mesh_certificate(net))
        mesh.reread()
        said(mesh.outside("chat.example.org"))


def test_a_renewed_certificate_is_taken_at_a_signal() -> None:
    net = network()
    with running(net) as mesh:

        def serial() -> object:
            with mesh.tls(GATEWAY, net.mesh.fqdn) as stream:
                found = stream.getpeercert()
                assert found
                return found["serialNumber"]

        before = serial()
        put(mesh.space, mesh_certificate(net))
        assert serial() == before
        mesh.reread()
        assert serial() != before


# --- slots


def test_slot_b_runs_beside_slot_a(reference: Mesh) -> None:
    other = Mesh(reference.space, reference.guest, reference.net)
    other.start("b")
    assert set(other.api("rawdata")["routers"]) == set(reference.api("rawdata")["routers"])
    said(other.outside("chat.example.org", port=21000))
    said(reference.outside("chat.example.org"))


def test_draining_lets_clients_go_and_loses_nothing() -> None:
    with one() as mesh:
        backend(mesh, "vllm-1", 8000)
        with mesh.tls(WEBUI, INSIDE) as stream:
            assert b"Connection: close" not in again(stream)
            assert b"Connection: close" not in again(stream)
            target = f"/opt/phoenix/1/{traefik.DRAINING}"
            link = "/var/lib/phoenix/slots/traefik/a"
            mesh.space.must(["ln", "-sfn", target, link])
            mesh.reread()
            assert b"Connection: close" in again(stream)
            assert stream.recv(1) == b""
        said(mesh.ask(WEBUI, INSIDE))


def again(stream: ssl.SSLSocket) -> bytes:
    """One more request on a kept connection; the answer's head."""
    stream.sendall(f"GET / HTTP/1.1\r\nHost: {INSIDE}\r\n\r\n".encode())
    got = read_until(stream, HEAD_ENDS)
    length = int(got.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while length:
        more = len(stream.recv(length))
        assert more
        length -= more
    assert got.startswith(b"HTTP/1.1 200 ")
    return got


def test_api_ping_and_metrics_on_loopback_alone(reference: Mesh) -> None:
    for path in ("/ping", "/metrics", "/api/rawdata"):
        done = reference.space.run(
            ["python3", "-c", "import sys, urllib.request as u; u.urlopen(sys.argv[1])",
             f"http://127.0.0.1:20900{path}"]
        )  # fmt: skip
        assert done.code == 0, done.err
    with pytest.raises(ConnectionRefusedError):
        reference.space.connect(str(reference.net.mesh.guest.address), 20900)


def test_the_network_of_these_tests_is_the_reference() -> None:
    """Addresses above are written out; they are the reference's."""
    net: Network = network()
    for name, address in {**GUESTS, "workstation": WORKSTATION, "nginx-gateway": GATEWAY}.items():
        assert str(net.addresses(name)[0]) == address
    assert tree(net)
