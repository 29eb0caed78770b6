"""Rules that no single value shows. A rule takes values and yields Findings; it reads no file.

SITE_RULES look at the site alone, HOST_RULES at the site and one of its hosts, FLEET_RULES at all
hosts together. A rule may rely on the schemas having accepted the
documents, and on nothing else: other rules may fail in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from builder.checks import addresses, guests, services
from builder.model import Host, Site
from builder.problems import Finding

SiteRule = Callable[[Site], Iterable[Finding]]
HostRule = Callable[[Site, Host], Iterable[Finding]]
FleetRule = Callable[[Site, tuple[Host, ...]], Iterable[Finding]]

SITE_RULES: tuple[SiteRule, ...] = (
    services.backends,
    services.health,
    services.protocol_fit,
    services.certificates,
    services.lifetimes,
)
HOST_RULES: tuple[HostRule, ...] = (
    addresses.unknown_bridge,
    addresses.duplicate_address,
    addresses.duplicate_mac,
    addresses.address_in_network,
    addresses.overlapping_bridges,
    addresses.routes,
    addresses.bridge_mode,
    addresses.duplicate_port,
    addresses.guest_addresses,
    addresses.reach,
    guests.roles,
    guests.duplicate_id,
    guests.duplicate_name,
    guests.order,
    guests.vlans,
    guests.whole,
    guests.mounts,
    guests.platform,
    services.unknown_names,
    services.exposed_names,
    services.mesh_ports,
    services.listeners,
)
FLEET_RULES: tuple[FleetRule, ...] = (guests.fleet,)


def site_findings(site: Site) -> Iterator[Finding]:
    """What is wrong with the site's own document."""
    for rule in SITE_RULES:
        yield from rule(site)


def host_findings(site: Site, host: Host) -> Iterator[Finding]:
    """What is wrong with one host, and with the site's services on it."""
    for rule in HOST_RULES:
        yield from rule(site, host)


def fleet_findings(site: Site, hosts: tuple[Host, ...]) -> Iterator[Finding]:
    """What is wrong between hosts."""
    for rule in FLEET_RULES:
        yield from rule(site, hosts)
