"""What a guest orders, and what of it is installed."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from builder.kinds import acme
from builder.network import Network
from tests.kinds.step_ca.running import Site, tree

DAY = 86400


def lines(net: Network, guest: str) -> list[list[str]]:
    """The fields of each line of a guest."""
    text = tree(acme, net, guest).file("acme/certificates").data.decode()
    return [line.split() for line in text.splitlines() if not line.startswith("#")]


def write(running: Site, fields: list[str], **changes: str) -> None:
    """Have the client order just this line, with some fields changed."""
    names = ("name", "challenge", "folder", "renew", "url", "email", "provider", "root")
    changed = [changes.get(name, field) for name, field in zip(names, fields, strict=False)]
    more = changes["names"].split() if "names" in changes else fields[9:]
    running.list(" ".join([*changed, changes.get("variables", fields[8]), *more]) + "\n")


def whole(pair: tuple[bytes, bytes]) -> x509.Certificate:
    """The leaf of an installed pair, of which both halves must fit each other."""
    leaf = x509.load_pem_x509_certificates(pair[0])[0]
    key = serialization.load_pem_private_key(pair[1], None)
    assert leaf.public_key() == key.public_key()
    return leaf


def names(leaf: x509.Certificate) -> set[str]:
    found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return set(found.value.get_values_for_type(x509.DNSName))


def good(running: Site) -> None:
    done = running.order()
    assert done.code == 0, done.err
