"""The gateway's names: in the handshake, in requests, on port 80, and their certificates."""

from __future__ import annotations

import ssl

import pytest

from tests.judges import pki
from tests.judges.namespace import Entry
from tests.kinds.nginx import http2, networks
from tests.kinds.nginx.gateway import CHAT, DBASE, HOME, LATE, NEAR6, OPEN, RATED, TLS, Gateway
from tests.kinds.nginx.networks import GATEWAY
from tests.kinds.nginx.serving import CLOSED, OWNER, ask, client, running, tcp

pytestmark = [pytest.mark.judge]


def refused(gateway: Gateway, name: str | None) -> str:
    with pytest.raises(ssl.SSLError) as caught:
        gateway.client(name)
    return str(caught.value)


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


def test_host_is_the_handshakes_in_http2(gateway: Gateway) -> None:
    before = len(gateway.mesh.asked)
    for host in (HOME, OPEN, "evil.example.org"):
        with gateway.client(CHAT, alpn=("h2",)) as stream:
            assert stream.selected_alpn_protocol() == "h2"
            assert b"421" in http2.call(stream, host, "/", b"").blocks[0], host
    assert len(gateway.mesh.asked) == before
    with gateway.client(CHAT, alpn=("h2",)) as stream:
        assert http2.call(stream, CHAT, "/", b"").ok


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
    assert len(gateway.nginx.lines("status", "400", least=3)) >= 3
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
            with pytest.raises((ssl.SSLError, ConnectionResetError)):
                client(nginx.space, GATEWAY, port, CHAT)
        nginx.put({f"{folder}/{CHAT}.crt": pair.certificate, f"{folder}/{CHAT}.key": pair.key})
        for port in (21001, 21002):
            client(nginx.space, GATEWAY, port, CHAT).close()
        with tcp(nginx.space, GATEWAY, 21000) as stream:
            assert ask(stream, CHAT, "/.well-known/acme-challenge/x").status == 308
