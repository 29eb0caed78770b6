"""Which connections may begin, and why: derived from what is declared, nothing else is allowed.

The firewall kinds write these down; docs and `diff` show them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from builder.network import CA_PORT, PLAIN_MESH_PORT, Network, Routed

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
    for member in network.members:
        found += _upkeep(member.guest.name)
    return tuple(dict.fromkeys(found))


def _from_outside(network: Network) -> Iterator[Flow]:
    gateway, mesh = network.gateway.guest.name, network.mesh.guest.name
    for listener in network.gateway.listeners:
        yield Flow(ANY, gateway, "tcp", listener.port, "clients")
    for listener in network.mesh.listeners:
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


def _upkeep(guest: str) -> Iterator[Flow]:
    yield Flow(guest, DNS, "udp", 53, "names")
    yield Flow(guest, DNS, "tcp", 53, "names")
    yield Flow(guest, OUTSIDE, "tcp", 80, "updates")
    yield Flow(guest, OUTSIDE, "tcp", 443, "updates")
    yield Flow(guest, OUTSIDE, "udp", 123, "time")
