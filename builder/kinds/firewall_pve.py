"""NNN.fw for PVE's firewall: default drop both ways, filters of MAC and address, one rule a flow.

The rule of a flow names both ends, so it is of one family, and stands at both of them: out of the
one guest, into the other. PVE takes the first rule that matches; what is for the outside comes
after a drop of all that is inside or the host's own. An uplink's address by DHCP is not known here:
what a guest may call outside, it may call there.

`ndp` lets router advertisements in beside neighbour discovery, and the names of ICMPv6 types are
different ones in PVE's two firewalls; so guests without IPv6 go without it, and in the others the
advertisements meet accept_ra=0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal

from builder.kinds.conf import index
from builder.kinds.permits import EVERYONE, VERSIONS, Permit, Version, networks, permits
from builder.model import Guest
from builder.network import Network

# What is never further than the next link, the host among it.
_LINK: dict[Version, tuple[str, ...]] = {4: (), 6: ("fe80::/10",)}


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule; an empty end or protocol is any, and port 0 too."""

    direction: Literal["IN", "OUT"]
    action: str
    source: str = ""
    destination: str = ""
    protocol: str = ""
    port: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Set:
    """The addresses from which an interface may send."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Firewall:
    """A guest's file."""

    options: tuple[tuple[str, str], ...]
    sets: tuple[Set, ...]
    rules: tuple[Rule, ...]


def view(network: Network) -> tuple[tuple[Guest, Firewall], ...]:
    """The file of each guest, in their order."""
    every = permits(network)
    return tuple((m.guest, _firewall(network, m.guest, every)) for m in network.members)


def _firewall(network: Network, guest: Guest, every: tuple[Permit, ...]) -> Firewall:
    speaks6 = any(interface.address6 for interface in guest.interfaces)
    options = {
        "enable": "1",
        "dhcp": "0",
        "ipfilter": "1",
        "macfilter": "1",
        "ndp": str(int(speaks6)),
        "policy_in": "DROP",
        "policy_out": "DROP",
        "radv": "0",
    }
    rules = (*_in(network, guest, every), *_out(network, guest, every))
    return Firewall(tuple(options.items()), tuple(_sets(guest)), rules)


def _sets(guest: Guest) -> Iterator[Set]:
    for interface in sorted(guest.interfaces, key=lambda i: f"ipfilter-net{index(i)}"):
        own = [interface.address, *([interface.address6] if interface.address6 else [])]
        yield Set(f"ipfilter-net{index(interface)}", tuple(sorted(map(str, own))))


def _in(network: Network, guest: Guest, every: tuple[Permit, ...]) -> Iterator[Rule]:
    own = {str(address) for address in network.addresses(guest.name)}
    for p in every:
        if p.destination in own:
            yield Rule("IN", "ACCEPT", p.source, p.destination, p.protocol, p.port, p.reason)
    yield Rule("IN", "Ping(ACCEPT)", reason="reachability")


def _near(network: Network, version: Version) -> Iterator[Rule]:
    """What is not outside: the networks inside, one's own link, and the host at its uplink, where
    the gateway's ports lead to the gateway (hairpin)."""
    inside = networks(network, version)
    for net in (*inside, *(_LINK[version] if inside else ())):
        yield Rule("OUT", "DROP", destination=net, reason="nothing else inside")
    entering = network.host.ingress4 if version == 4 else network.host.ingress6
    for address in _uplinks(network, version):
        for listener in network.gateway.listeners if entering else ():
            yield Rule("OUT", "ACCEPT", "", address, "tcp", listener.port, "gateway from inside")
        yield Rule("OUT", "DROP", destination=address, reason="the host")


def _uplinks(network: Network, version: Version) -> Iterator[str]:
    """The host's own addresses outside, where they are declared."""
    for uplink in (bridge.uplink for bridge in network.host.bridges if bridge.uplink):
        for address in (uplink.address, uplink.address6):
            if isinstance(address, IPv4Interface | IPv6Interface) and address.version == version:
                yield str(address.ip)


def _out(network: Network, guest: Guest, every: tuple[Permit, ...]) -> Iterator[Rule]:
    addresses = network.addresses(guest.name)
    own = {str(address) for address in addresses}
    sent = [(a, p) for p in every for a in addresses if p.destination not in own and p.admits(a)]
    inside = [
        Rule("OUT", "ACCEPT", str(a), p.destination, p.protocol, p.port, p.reason)
        for a, p in sent
        if p.destination != EVERYONE
    ]
    yield from dict.fromkeys(inside)
    yield Rule("OUT", "Ping(ACCEPT)", reason="reachability")
    for version in VERSIONS:
        yield from _near(network, version)
    for a, p in sent:
        if p.destination == EVERYONE:
            yield Rule("OUT", "ACCEPT", str(a), "", p.protocol, p.port, p.reason)
