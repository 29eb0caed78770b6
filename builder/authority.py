"""A site's certificate authorities, as values: one root, and an intermediate for each host.

Both are ECDSA P-256. The root may sign intermediates only; an intermediate may sign leaves only,
and never outlives its root. Which names a host's CA may sign is step-ca's policy; name
constraints in the intermediate would fail there only when a certificate is picked up.

Whether a certificate has expired is asked for where it is used, never in a build: a build's result
does not depend on the day.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from .problems import UserError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

    Opened = tuple[x509.Certificate, EllipticCurvePrivateKey]

# A machine whose clock is behind still takes a certificate that was made just now.
_BEFORE = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Issuer:
    """A CA's certificate and its encrypted key (PKCS#8, PBES2), both PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """What is wrong with a certificate; `file` is its name in configs/ca/."""

    file: str
    message: str
    code: str


def make_root(site: str, passphrase: bytes, lifetime: timedelta, now: datetime) -> Issuer:
    """A new root for the site, its key encrypted with `passphrase`; `now` is an aware time."""
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(site, f"{site} root CA")
    certificate = _certify(name, key, name, key, now, now + lifetime, depth=1)
    return _issuer(certificate, key, passphrase)


def make_intermediate(
    site: str,
    host: str,
    root: Opened,
    password: bytes,
    lifetime: timedelta,
    now: datetime,
) -> Issuer:
    """A new intermediate for the host, signed by `root` (see `opened`), its key encrypted with
    `password`. Raises UserError where the root is not valid at `now`.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    issuer, signer = root
    if not issuer.not_valid_before_utc <= now < issuer.not_valid_after_utc:
        raise UserError("the root certificate is not valid today", "check the clock, or its dates")
    key = ec.generate_private_key(ec.SECP256R1())
    end = min(now + lifetime, issuer.not_valid_after_utc)
    name = _name(site, f"{host} intermediate CA")
    certificate = _certify(name, key, issuer.subject, signer, now, end, depth=0)
    return _issuer(certificate, key, password)


def opened(issuer: Issuer, password: bytes) -> Opened:
    """Certificate and private key; UserError where the password does not open the key, or the key
    is not the certificate's."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(issuer.key, password)
    except (ValueError, TypeError) as error:
        raise UserError("the key does not open: wrong passphrase, or no encrypted key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UserError("the key is of another kind: ECDSA is needed")
    certificate = _certificate(issuer.certificate)
    if key.public_key() != certificate.public_key():
        raise UserError("the key is not the certificate's: they are of two different CAs")
    return certificate, key


def check(root: bytes, intermediate: bytes, host: str) -> tuple[Fault, ...]:
    """What is wrong with a host's certificates, whatever the day."""
    file = f"{host}.crt"
    top, below = read("root.crt", root), read(file, intermediate)
    if isinstance(top, Fault) or isinstance(below, Fault):
        return tuple(sorted(one for one in (top, below) if isinstance(one, Fault)))
    return tuple(sorted({*_check_root(top), *_check_intermediate(top, below, file)}))


def check_lifetimes(
    root: bytes, intermediate: bytes, host: str, leaf: timedelta, now: datetime
) -> tuple[Fault, ...]:
    """What of a host's certificates is out of its time at `now`, or ends before a certificate of
    lifetime `leaf` that is issued now. They must have passed `check`."""
    faults = []
    for file, data in (("root.crt", root), (f"{host}.crt", intermediate)):
        found = _certificate(data)
        start, end = found.not_valid_before_utc, found.not_valid_after_utc
        if now < start:
            faults.append(Fault(file, f"is valid only from {start:%Y-%m-%d} on", "ca-too-early"))
        elif now >= end:
            faults.append(Fault(file, f"has expired on {end:%Y-%m-%d}", "ca-expired"))
        elif now + leaf > end:
            told = f"ends on {end:%Y-%m-%d}, before a certificate issued now would"
            faults.append(Fault(file, told, "ca-ends"))
    return tuple(sorted(faults))


def read(file: str, data: bytes) -> x509.Certificate | Fault:
    """The certificate in a PEM file that holds just that."""
    from cryptography import x509

    if data.count(b"-----BEGIN") != 1 or b"PRIVATE KEY" in data:
        return Fault(file, "is not exactly one PEM certificate", "ca-unreadable")
    try:
        return x509.load_pem_x509_certificate(data)
    except ValueError as error:
        return Fault(file, f"is no certificate: {error}", "ca-unreadable")


def _certificate(data: bytes) -> x509.Certificate:
    found = read("the certificate", data)
    if isinstance(found, Fault):
        raise UserError(f"{found.file} {found.message}")
    return found


def _check_root(root: x509.Certificate) -> Iterator[Fault]:
    depth = _depth(root)
    if depth is None or depth < 1 or not _issued(root, root):
        yield Fault("root.crt", "is no root that may sign intermediates", "ca-not-root")


def _check_intermediate(
    root: x509.Certificate, found: x509.Certificate, file: str
) -> Iterator[Fault]:
    if _depth(found) is None:
        yield Fault(file, "is no CA's certificate", "ca-not-intermediate")
    if found == root:
        yield Fault(file, "is the root itself", "ca-not-intermediate")
    elif not _issued(found, root):
        yield Fault(file, "was not signed by root.crt", "ca-not-issued")
    if found.not_valid_after_utc > root.not_valid_after_utc:
        yield Fault(file, "ends after root.crt", "ca-outlives-root")


def _depth(found: x509.Certificate) -> int | None:
    """How many CAs may stand below this one, 99 for any number; None where it is no CA."""
    from cryptography import x509

    try:
        basic = found.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = found.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return None
    if not basic.ca or not usage.key_cert_sign:
        return None
    return 99 if basic.path_length is None else basic.path_length


def _issued(found: x509.Certificate, by: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        found.verify_directly_issued_by(by)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _name(site: str, common: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, site),
            x509.NameAttribute(NameOID.COMMON_NAME, common),
        ]
    )


def _certify(
    name: x509.Name,
    key: EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: EllipticCurvePrivateKey,
    now: datetime,
    end: datetime,
    *,
    depth: int,
) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BEFORE)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=True, path_length=depth), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(above, critical=False)
        .sign(signer, hashes.SHA256())
    )


def _issuer(certificate: x509.Certificate, key: EllipticCurvePrivateKey, password: bytes) -> Issuer:
    from cryptography.hazmat.primitives import serialization

    assert password, "a CA's key without a password"
    return Issuer(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        ),
    )
