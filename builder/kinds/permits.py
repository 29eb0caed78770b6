"""Flows as addresses: which connections may begin, over one family each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from itertools import product
from typing import Literal

from builder.flows import ANY, DNS, OUTSIDE, Flow, flows
from builder.model import Address
from builder.network import Network

EVERYONE = ""
"""As the source of a permit: whoever it is; as its destination: what is outside."""

VERSIONS: tuple[Literal[4, 6], ...] = (4, 6)


@dataclass(frozen=True, slots=True)
class Permit:
    """`source` is an address, a network or EVERYONE; `destination` an address, or EVERYONE for all
    that is in no network of the host's bridges."""

    version: Literal[4, 6]
    source: str
    destination: str
    protocol: Literal["tcp", "udp"]
    port: int
    reason: str

    def admits(self, address: Address) -> bool:
        """Whether this address is among its sources."""
        if address.version != self.version:
            return False
        return self.source == EVERYONE or address in ip_network(self.source)


def permits(network: Network) -> tuple[Permit, ...]:
    """All flows of a network; one that is there for several reasons bears the first."""
    found: dict[tuple[object, ...], Permit] = {}
    for flow in flows(network):
        for permit in _permits(network, flow):
            key = (permit.source, permit.destination, permit.protocol, permit.port, permit.version)
            found.setdefault(key, permit)
    return tuple(found.values())


def _permits(network: Network, flow: Flow) -> Iterator[Permit]:
    if flow.source == flow.destination:
        return
    for version in VERSIONS:
        ends = product(
            _sources(network, flow.source, version),
            _destinations(network, flow.destination, version),
        )
        for source, destination in ends:
            yield Permit(version, source, destination, flow.protocol, flow.port, flow.reason)


def _sources(network: Network, end: str, version: int) -> tuple[str, ...]:
    if end != ANY:
        return _addresses(network, end, version)
    entering = network.host.ingress4 if version == 4 else network.host.ingress6
    return (EVERYONE,) if entering else networks(network, version)


def _destinations(network: Network, end: str, version: int) -> tuple[str, ...]:
    if end == OUTSIDE:
        return (EVERYONE,)
    if end == DNS:
        return tuple(str(a) for a in network.dns if a.version == version)
    return _addresses(network, end, version)


def _addresses(network: Network, end: str, version: int) -> tuple[str, ...]:
    """The addresses of a guest or machine; a service's backend may be a mere address."""
    if any(one.name == end for one in network.ends):
        return tuple(str(a) for a in network.addresses(end) if a.version == version)
    return tuple(str(a) for a in (ip_address(end),) if a.version == version)


def networks(network: Network, version: int) -> tuple[str, ...]:
    """The networks of the host's bridges; what is in none of them is outside."""
    own = (a for b in network.host.bridges for a in (b.address, b.address6, *b.addresses))
    found = {a.network for a in own if a is not None and a.version == version}
    return tuple(str(each) for each in sorted(found, key=lambda n: (int(n[0]), n.prefixlen)))
