"""Rules that no single value shows. A rule takes values and yields Findings; it reads no file.

SITE_RULES look at the site alone, HOST_RULES at the site and one of its hosts, FLEET_RULES at all
hosts together; `documents` holds those on the keys as written. A rule may rely on the schemas
having accepted the documents, and on nothing else: other rules may fail in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from builder.checks import (
    addresses,
    bridges,
    certificates,
    documents,
    exposure,
    fleet,
    guests,
    platform,
    reachable,
    services,
)
from builder.checks.documents import Document
from builder.checks.places import SITE
from builder.model import Host, Site
from builder.problems import Finding

SiteRule = Callable[[Site], Iterable[Finding]]
HostRule = Callable[[Site, Host], Iterable[Finding]]
FleetRule = Callable[[Site, tuple[Host, ...]], Iterable[Finding]]

SITE_RULES: tuple[SiteRule, ...] = (
    services.backends,
    services.health,
    services.protocol_fit,
    services.ways,
    services.limits,
    services.names_and_headers,
    certificates.sources,
    certificates.directories,
    certificates.lifetimes,
    addresses.unusable_elsewhere,
)
HOST_RULES: tuple[HostRule, ...] = (
    addresses.duplicate_address,
    addresses.gateway_taken,
    addresses.duplicate_mac,
    addresses.unusable,
    addresses.address_in_network,
    addresses.gateway_in_network,
    addresses.outside_machines,
    addresses.overlapping_networks,
    bridges.unknown_bridge,
    bridges.names,
    bridges.ports,
    bridges.mode,
    bridges.guest_gateway,
    bridges.ingress,
    bridges.reach,
    bridges.routes,
    guests.roles,
    guests.duplicate_id,
    guests.duplicate_name,
    guests.names,
    guests.templates,
    guests.disks,
    guests.order,
    guests.interfaces,
    guests.vlans,
    guests.sizes,
    guests.mounts,
    platform.platform,
    reachable.unreachable,
    reachable.vlan_gateways,
    reachable.mesh_families,
    reachable.dns_families,
    reachable.directories,
    services.unknown_names,
    services.unknown_scrapers,
    services.addressed_backends,
    exposure.names,
    exposure.cookies,
    exposure.gateway_ports,
    exposure.listeners,
)
FLEET_RULES: tuple[FleetRule, ...] = (fleet.reaches, fleet.cluster_ids)


def findings(
    site: Site,
    hosts: tuple[Host, ...],
    site_document: Document,
    host_documents: Mapping[str, Document],
) -> Iterator[Finding]:
    """What is wrong with a site and its hosts, each once.

    A host's document is the whole one, with what it takes over. What is wrong with the site for
    some of the hosts only is told once, and names them.
    """
    for site_rule in SITE_RULES:
        yield from site_rule(site)
    yield from documents.site_document(site_document)
    blamed: dict[Finding, list[str]] = {}
    for host in hosts:
        document = host_documents[host.name]
        yield from documents.host_document(site_document, host.name, document)
        for found in dict.fromkeys(f for rule in HOST_RULES for f in rule(site, host)):
            if found.place.document == SITE.document:
                blamed.setdefault(found, []).append(host.name)
            else:
                yield documents.written(found, document)
    for found, names in blamed.items():
        every = len(names) == len(hosts) > 1
        where = " (every host)" if every else on_hosts(names)
        yield Finding(found.place, found.message + where, found.code)
    for fleet_rule in FLEET_RULES:
        yield from fleet_rule(site, hosts)


def on_hosts(names: Sequence[str]) -> str:
    """The tail of a message about something that is wrong for these hosts only."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f" (host{'s' if len(names) > 1 else ''} {shown}{more})"
