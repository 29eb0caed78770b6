"""Certificates as they should be and as they should not, made by the lab's own authority or by one
that nobody here knows."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from builder.lab.up import Up

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Paper:
    """A certificate with those that signed it but for the root, and its key; PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: an intermediate with its key. `chain` is what follows a leaf, PEM."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: bytes

    def issue(self, name: str, begins: timedelta = -_HOUR, ends: timedelta = _HOUR) -> Paper:
        """A server's certificate for a name, valid from and to so long after now."""
        key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        made = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(usage, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        written = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return Paper(made.public_bytes(serialization.Encoding.PEM) + self.chain, written)


def own(up: Up) -> Issuer:
    """The host's intermediate, by its keys."""
    (folder,) = (up.state.folder / "ca/phoenix").glob("*/")
    return _read(folder)


def foreign() -> Issuer:
    """An authority with the same names as ours, and keys of its own."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "phoenix")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _HOUR)
        .not_valid_after(now + _HOUR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Issuer(made, key, made.public_bytes(serialization.Encoding.PEM))


def wrong(issuer: Issuer, name: str) -> dict[str, Paper]:
    """Certificates that must not be taken for `name`, by what is wrong with them."""
    good = issuer.issue(name)
    leaf = good.certificate[: -len(issuer.chain)]
    return {
        "another name": issuer.issue("other.phoenix.internal"),
        "expired": issuer.issue(name, -2 * _HOUR, -_HOUR / 60),
        "not yet valid": issuer.issue(name, _HOUR, 2 * _HOUR),
        "foreign": foreign().issue(name),
        "without its intermediate": Paper(leaf, good.key),
    }


def _read(folder: Path) -> Issuer:
    written = (folder / "intermediate.crt").read_bytes()
    password = (folder / "intermediate.password").read_bytes().strip()
    key = serialization.load_pem_private_key((folder / "intermediate.key").read_bytes(), password)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return Issuer(x509.load_pem_x509_certificate(written), key, written)
