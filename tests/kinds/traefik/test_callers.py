"""Who may ask the mesh for what, and what is believed of a caller."""

from __future__ import annotations

import ssl

import pytest

from builder.network import Network
from tests.judges import pki
from tests.kinds.traefik.backends import (
    GATEWAY,
    GUESTS,
    INSIDE,
    QDRANT,
    VLLM1,
    WEBUI,
    WORKSTATION,
    backend,
    one,
    said,
)
from tests.kinds.traefik.running import Mesh, network, running, site, tree, until

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]


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
    others = (
        "Forwarded", "X-Forwarded-Scheme", "X-Forwarded-Ssl", "X-Forwarded-Uri", "X-Client-Ip",
        "X-Forwarded-Prefix", "X-Cluster-Client-Ip", "True-Client-Ip", "X-Original-Url",
        "X-Rewrite-Url",
    )  # fmt: skip
    headers |= dict.fromkeys(others, "6.6.6.6")
    seen = said(reference.ask(WEBUI, "embeddings.svc.phoenix.internal", headers=headers))
    assert seen["headers"]["X-Forwarded-For"] == WEBUI
    assert seen["headers"]["X-Real-Ip"] == WEBUI
    assert not {"X_Odd", *others} & set(seen["headers"])
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
        for path in ("/v1", "/v1/x", "/v1/a%2Fb", "/v1/..x/", "/x/%2e%2e/v1/x", "/v1/a..%2Fb"):
            assert mesh.ask(WEBUI, INSIDE, path).status == 200, path
        for path in ("/v1beta", "/v1/../x", "/v1/%2e%2e/x", "/x%2f..%2fv1/x"):
            assert mesh.ask(WEBUI, INSIDE, path).status == 404, path
        # A program that takes an escaped slash for one would leave the prefix.
        for path in (
            "/v1/..%2fx",
            "/v1/..%2Fx",
            "/v1/%2E%2e%2fx",
            "/v1/a%2f..%2f..%2fx",
            "/v1/a%2f..",
        ):
            assert mesh.ask(WEBUI, INSIDE, path).status == 404, path


def test_plain_mesh_where_it_was_asked_for() -> None:
    plain = [{"hop": "mesh", "reason": "it knows no TLS"}]
    with one(plain=plain, expose=["x.example.org"]) as mesh:
        backend(mesh, "vllm-1", 8000)
        said(mesh.ask(WEBUI, INSIDE, port=20001, plain=True))
        said(mesh.ask(GATEWAY, "x.example.org", port=20001, plain=True))
        assert mesh.ask(WEBUI, "x.example.org", port=20001, plain=True).status == 404
        assert mesh.outside("x.example.org").status == 404


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


def test_the_network_of_these_tests_is_the_reference() -> None:
    """Addresses above are written out; they are the reference's."""
    net: Network = network()
    for name, address in {**GUESTS, "workstation": WORKSTATION, "nginx-gateway": GATEWAY}.items():
        assert str(net.addresses(name)[0]) == address
    assert tree(net)
