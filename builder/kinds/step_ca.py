"""The CA: step-ca's configuration, which lets it sign the declared names and no other.

step-ca ignores what it does not know, so a misspelt key is a rule that is not there; the tests
compare what it shows of itself with what stands here. Lifetimes stand in `authority.claims` alone:
a mistake there ends its start, the same mistake in a provisioner only breaks its directory.
"""

from __future__ import annotations

from typing import Any

from builder import emit
from builder.kinds.artifact import Artifact, GuestFiles
from builder.network import CA_PORT, Network
from builder.tree import File, Tree

KIND = "step-ca"


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """The files of the CA's guest; without a CA yet, its intermediate certificate is left out."""
    files = [File("step-ca/ca.json", emit.json_text(configuration(network)))]
    if network.trust:
        files.append(File("step-ca/intermediate.crt", network.trust.intermediate))
    return (GuestFiles(KIND, network.ca.guest.name, Tree.of(files)),)


def allowed(network: Network) -> tuple[str, ...]:
    """Every name that a certificate of this CA may bear, sorted: those of the guests' orders, and
    those of machines, which order theirs by the join kit."""
    ordered = {
        name
        for member in network.members
        for certificate in member.certificates
        if certificate.directory is None and certificate.files is None
        for name in certificate.names
    }
    machines = {network.fqdn(machine.name) for machine in network.host.machines}
    # An empty list would allow every name.
    assert ordered
    return tuple(sorted(ordered | machines))


def configuration(network: Network) -> dict[str, Any]:
    """ca.json (https://smallstep.com/docs/step-ca/configuration), as plain data."""
    authority = network.site.ca
    return {
        "root": "/opt/phoenix/current/trust/root.crt",
        "crt": "/opt/phoenix/current/step-ca/intermediate.crt",
        "key": "/run/credentials/phoenix-step-ca.service/intermediate.key",
        "address": f":{CA_PORT}",
        "dnsNames": [network.ca.fqdn, *map(str, network.addresses(network.ca.guest.name))],
        "commonName": network.ca.fqdn,
        "logger": {"format": "json"},
        # Badger does not open again after half a record, which a full disk or a power cut leaves.
        "db": {"type": "bbolt", "dataSource": "/var/lib/phoenix/step-ca/bolt.db"},
        "authority": {
            "claims": _claims(authority.lifetime),
            "policy": {"x509": {"allow": {"dns": list(allowed(network))}}},
            "provisioners": [{"type": "ACME", "name": "acme", "challenges": ["http-01"]}],
        },
    }


def _claims(lifetime: int) -> dict[str, Any]:
    """Without a longest, a client might ask for a day.

    The shortest is left at five minutes: it too binds those only who ask, and ours do not.
    """
    return {
        "maxTLSCertDuration": f"{lifetime}s",
        "defaultTLSCertDuration": f"{lifetime}s",
        # A new order proves the name anew; renewal by the old certificate would not.
        "disableRenewal": True,
    }
