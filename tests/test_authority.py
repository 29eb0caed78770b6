"""What a build and a deploy look at in a CA's certificates."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from builder import authority, ca
from builder.problems import UserError
from tests.test_ca import NOW, WORD, YEAR, ask, both, plan

__all__ = ["plan"]  # the fixture


def test_a_fresh_clone_has_no_certificates(tmp_path: Path):
    assert ca.certificates(tmp_path, "pve1") == (None, None)


def test_a_private_key_in_their_place_is_refused(plan: ca.Plan):
    ca.init(plan, ask, NOW)
    path = plan.configs / "ca/pve1.crt"
    path.write_bytes((plan.data / "phoenix/pve1/intermediate.key").read_bytes())
    with pytest.raises(UserError, match="holds a private key"):
        ca.certificates(plan.configs, "pve1")


def test_check_names_what_is_wrong(plan: ca.Plan, tmp_path: Path):
    ca.init(plan, ask, NOW)
    root, intermediate = both(plan, "pve1")
    other = replace(plan, configs=tmp_path / "other", data=tmp_path / "o")
    ca.init(other, ask, NOW)
    stranger = both(other, "pve1")[1]

    def codes(root: bytes, intermediate: bytes) -> set[tuple[str, str]]:
        return {(one.file, one.code) for one in authority.check(root, intermediate, "pve1")}

    assert codes(root, intermediate) == set()
    assert codes(root, stranger) == {("pve1.crt", "ca-not-issued")}
    assert codes(root, root) == {("pve1.crt", "ca-not-intermediate")}
    assert ("root.crt", "ca-not-root") in codes(intermediate, root)
    assert codes(b"x", b"y") == {("root.crt", "ca-unreadable"), ("pve1.crt", "ca-unreadable")}
    assert codes(root, intermediate * 2) == {("pve1.crt", "ca-unreadable")}
    torn = intermediate.replace(intermediate[100:140], b"A" * 40)
    assert codes(root, torn) <= {("pve1.crt", "ca-unreadable"), ("pve1.crt", "ca-not-issued")}
    assert codes(root, torn)


def test_check_refuses_what_is_no_ca_or_outlives_its_root():
    root = authority.make_root("s", WORD, YEAR, NOW)
    name, key = authority.opened(root, WORD)
    leaf = authority._certify(name.subject, key, name.subject, key, NOW, NOW + 2 * YEAR, depth=0)
    data = authority._issuer(leaf, key, WORD).certificate
    assert "ca-outlives-root" in {one.code for one in authority.check(root.certificate, data, "h")}
    plain = (
        x509.CertificateBuilder()
        .subject_name(name.subject)
        .issuer_name(name.subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + YEAR / 2)
        .sign(key, hashes.SHA256())
    )
    data = authority._issuer(plain, key, WORD).certificate
    faults = authority.check(root.certificate, data, "h")
    assert [one.message for one in faults] == ["is no CA's certificate"]


@pytest.mark.parametrize(
    ("day", "codes"),
    [
        (NOW, set()),
        (NOW - YEAR, {("root.crt", "ca-too-early"), ("h.crt", "ca-too-early")}),
        (NOW + YEAR - timedelta(days=8), set()),
        (NOW + YEAR - timedelta(days=6), {("h.crt", "ca-ends")}),
        (NOW + YEAR, {("h.crt", "ca-expired")}),
        (NOW + 3 * YEAR, {("h.crt", "ca-expired"), ("root.crt", "ca-expired")}),
    ],
)
def test_lifetimes_are_checked_against_a_day(day: datetime, codes: set[tuple[str, str]]):
    root = authority.make_root("s", WORD, 2 * YEAR, NOW)
    opened = authority.opened(root, WORD)
    below = authority.make_intermediate("s", "h", opened, b"password", YEAR, NOW)
    faults = authority.check_lifetimes(
        root.certificate, below.certificate, "h", timedelta(days=7), day
    )
    assert {(one.file, one.code) for one in faults} == codes


def test_a_key_of_another_kind_is_refused():
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    pem = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(WORD),
    )
    with pytest.raises(UserError, match="ECDSA"):
        authority.opened(authority.Issuer(b"", pem), WORD)
