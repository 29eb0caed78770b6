"""The backends' certificates, which the mesh verifies, and the mesh's own."""

from __future__ import annotations

import contextlib
import datetime
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.judges import pki
from tests.judges.namespace import TIMEOUT
from tests.kinds.traefik.backends import GATEWAY, INSIDE, VLLM1, WEBUI, backend, one, own, said
from tests.kinds.traefik.running import mesh_certificate, network, put, running, site, until

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]


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

        def proven() -> bool:
            try:
                with mesh.tls(GATEWAY, net.mesh.fqdn):
                    return True
            except ssl.SSLError:
                return False

        until(proven, mesh.log)
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
        until(lambda: serial() != before, mesh.log)


def test_the_last_word_of_a_handshake_is_the_meshs() -> None:
    """It acknowledges the client's. nginx does not switch Nagle's algorithm off where sessions are
    not taken up again, and would wait for the kernel's late one with its request: 40 ms."""
    with running(network()) as mesh:
        context = ssl.create_default_context(cadata=pki.authority().root.decode())
        given, taken = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(given, taken, server_hostname=mesh.net.mesh.fqdn)
        with mesh.connect(GATEWAY) as stream:
            stream.settimeout(TIMEOUT)
            while not _shaken(client):
                stream.sendall(taken.read())
                given.write(stream.recv(1 << 16))
            stream.sendall(taken.read())
            assert stream.recv(1 << 16)


def _shaken(client: ssl.SSLObject) -> bool:
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True
