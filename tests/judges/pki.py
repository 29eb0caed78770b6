"""Throw-away keys and certificates for the judges' spaces; nothing here is secret or kept."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate, followed by those that signed it but for the root, and its key; as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """A certificate authority: a root and an intermediate below it, both new."""

    def __init__(self) -> None:
        self._root_key, self._key = _key(), _key()
        root = _name("judge root")
        self._root = _certificate(root, root, self._root_key.public_key(), self._root_key, depth=1)
        self._name = _name("judge intermediate")
        self._intermediate = _certificate(
            self._name, root, self._key.public_key(), self._root_key, depth=0
        )

    @property
    def root(self) -> bytes:
        """The root certificate, PEM."""
        return _pem(self._root)

    @property
    def intermediate(self) -> bytes:
        """The intermediate certificate, PEM."""
        return _pem(self._intermediate)

    def intermediate_key(self, password: bytes) -> bytes:
        """The intermediate's key as PKCS#8, encrypted with PBES2 as `ca.init` does it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )

    def issue(self, names: Sequence[str]) -> Pair:
        """A leaf for DNS names and addresses, with its chain."""
        key = _key()
        leaf = _certificate(
            _name(names[0][:64]), self._name, key.public_key(), self._key, names=names
        )
        return Pair(_pem(leaf) + self.intermediate, _plain(key))


@functools.cache
def authority() -> Authority:
    """One authority for the whole process, where any will do."""
    return Authority()


@functools.cache
def placeholder() -> Pair:
    """One certificate and key for wherever some must lie."""
    return authority().issue(["judge.invalid"])


def _key() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _plain(key: Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    signer: Key,
    *,
    depth: int | None = None,
    names: Sequence[str] = (),
) -> x509.Certificate:
    now = datetime.now(UTC)
    ca = depth is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 30 * _DAY)
        .add_extension(x509.BasicConstraints(ca, depth), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .add_extension(_usage(ca), critical=True)
    )
    if names:
        alternative = x509.SubjectAlternativeName([_general(name) for name in names])
        builder = builder.add_extension(alternative, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _usage(ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca, content_commitment=False, key_encipherment=False,
        data_encipherment=False, key_agreement=False, key_cert_sign=ca, crl_sign=ca,
        encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
