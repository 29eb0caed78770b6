"""Flows as addresses: which connections may begin, over one family each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import product
from typing import Literal

from builder.flows import ANY, DNS, OUTSIDE, Flow, flows
from builder.kinds.conf import own_addresses
from builder.model import Address
from builder.network import Network

EVERYONE = ""
"""As the source of a permit: whoever it is; as its destination: what is outside."""

Version = Literal[4, 6]
Family = Literal["ip", "ip6"]
"""A version's name in nftables."""

VERSIONS: tuple[Version, ...] = (4, 6)
FAMILY: dict[Version, Family] = {4: "ip", 6: "ip6"}


@dataclass(frozen=True, slots=True)
class Permit:
    """`source` is an address, a network or EVERYONE; `destination` an address, or EVERYONE for all
    that is in no network of the host's bridges."""

    version: Version
    source: str
    destination: str
    protocol: Literal["tcp", "udp"]
    port: int
    reason: str

    def admits(self, address: Address) -> bool:
        """Whether this address is among its sources."""
        if address.version != self.version:
            return False
        if self.source in {EVERYONE, str(address)}:
            return True
        return "/" in self.source and address in _network(self.source)


@lru_cache(maxsize=64)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)


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
    own = (address for bridge in network.host.bridges for address in own_addresses(bridge))
    found = {address.network for address in own if address.version == version}
    return tuple(str(each) for each in sorted(found, key=lambda n: (int(n[0]), n.prefixlen)))
