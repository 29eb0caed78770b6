"""Which connections may begin, and why: derived from what is declared, nothing else is allowed; and
which of them go unencrypted.

The firewall kinds write these down; docs and `diff` show them, and each build what is plain.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from builder.model import Hop
from builder.network import CA_PORT, METRICS_PORT, PLAIN_MESH_PORT, Network, PlainHop, Routed

ANY, OUTSIDE, DNS = "(any)", "(outside)", "(dns)"
"""Ends that are no member, and that no name can be: everyone; what is in no network of the host's
bridges; the declared DNS servers."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Packets that may begin a connection.

    An end is a guest, a machine, a literal address of a backend, or one of the above.
    """

    source: str
    destination: str
    protocol: Literal["tcp", "udp"]
    port: int
    reason: str


def flows(network: Network) -> tuple[Flow, ...]:
    """All flows of a host's network, in the order of the way from outside to the services."""
    found = [*_from_outside(network), *_between_services(network), *_certificates(network)]
    found += [
        Flow(scraper, network.mesh.guest.name, "tcp", METRICS_PORT, "metrics")
        for scraper in sorted(network.host.scrapers)
    ]
    for member in network.members:
        found += _upkeep(member.guest.name)
    return tuple(dict.fromkeys(found))


def _from_outside(network: Network) -> Iterator[Flow]:
    gateway, mesh = network.gateway.guest.name, network.mesh.guest.name
    for listener in network.gateway.listeners:
        yield Flow(ANY, gateway, "tcp", listener.port, "clients")
    for listener in network.mesh.listeners:
        if listener.port != METRICS_PORT:
            yield Flow(gateway, mesh, "tcp", listener.port, "gateway to mesh")


def _between_services(network: Network) -> Iterator[Flow]:
    mesh = network.mesh.guest.name
    for routed in network.services:
        for backend in routed.backends:
            yield Flow(mesh, backend.name, "tcp", backend.port, "mesh to services")
        port = PLAIN_MESH_PORT if routed.service.is_plain("mesh") else 443
        for caller in callers(network, routed):
            yield Flow(caller, mesh, "tcp", port, "calls through the mesh")


def callers(network: Network, routed: Routed) -> tuple[str, ...]:
    """The guests and machines that may call a service inside, in the host's order."""
    if not routed.inside_name:
        return ()
    if routed.callers is not None:
        return tuple(sorted(routed.callers))
    infrastructure = {m.guest.name for m in (network.gateway, network.mesh, network.ca)}
    return tuple(end.name for end in network.ends if end.name not in infrastructure)


def _certificates(network: Network) -> Iterator[Flow]:
    ca = network.ca.guest.name
    holders = [m.guest.name for m in network.members if m.certificates]
    for holder in (*holders, *(machine.name for machine in network.host.machines)):
        yield Flow(ca, holder, "tcp", 80, "ACME challenges")
        yield Flow(holder, ca, "tcp", CA_PORT, "ACME orders")
    for member in network.members:
        for directory in (c.directory for c in member.certificates if c.directory):
            port = urlsplit(directory.url).port or 443
            if port != 443:  # That one is open to all.
                yield Flow(member.guest.name, OUTSIDE, "tcp", port, "public ACME orders")


def _upkeep(guest: str) -> Iterator[Flow]:
    yield Flow(guest, DNS, "udp", 53, "names")
    yield Flow(guest, DNS, "tcp", 53, "names")
    yield Flow(guest, OUTSIDE, "tcp", 80, "updates")
    yield Flow(guest, OUTSIDE, "tcp", 443, "updates")
    yield Flow(guest, OUTSIDE, "udp", 123, "time")


_CHALLENGE = "proofs for certificates, /.well-known/acme-challenge/ on port 80 alone"
_REDIRECT = "the redirect from http to https, on port 80 alone"


def plain(network: Network) -> tuple[PlainHop, ...]:
    """All that goes unencrypted: first what was asked for, then what every network has.

    What guests fetch from outside (updates, DNS, time) is their programs' own.
    """
    found = [
        PlainHop(routed.service.name, asked.hop, asked.reason, *ends)
        for routed in network.services
        for asked in routed.service.plain
        for ends in _ends(network, routed, asked.hop)
    ]
    gateway, ca = network.gateway.guest.name, network.ca.guest.name
    for flow in _certificates(network):
        if flow.source == ca:
            found.append(PlainHop("", "challenge", _CHALLENGE, ca, flow.destination, flow.port))
    if any(c.directory and c.challenge == "webroot" for c in network.gateway.certificates):
        found.append(PlainHop("", "challenge", _CHALLENGE, ANY, gateway, 80))
    found.append(PlainHop("", "redirect", _REDIRECT, ANY, gateway, 80))
    return tuple(found)


def _ends(network: Network, routed: Routed, hop: Hop) -> Iterator[tuple[str, str, int]]:
    gateway, mesh = network.gateway.guest.name, network.mesh.guest.name
    if hop == "outside":
        exposed = [x for x in network.exposed if x.service.name == routed.service.name]
        tcp = routed.service.protocol == "tcp"
        for port in dict.fromkeys(x.port if tcp else 80 for x in exposed):
            yield ANY, gateway, port
    elif hop == "mesh":
        for source in (*([gateway] if routed.service.expose else []), *callers(network, routed)):
            yield source, mesh, PLAIN_MESH_PORT
    else:
        for backend in routed.backends:
            yield mesh, backend.name, backend.port
