"""The guests' firewall on plain LXC: nftables on the host.

Two tables. In `bridge`, each guest's port lets through only what bears the guest's own MAC and
addresses, in ARP and neighbour discovery too, and no other port may use them. In `inet`, the flows:
a packet from or to an address of ours is an answer, or begins a declared flow, or is dropped; all
others pass untouched. Packets that are only bridged come there by br_netfilter, since connection
tracking in `bridge` itself is not in every kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from builder.kinds.conf import veth
from builder.kinds.permits import EVERYONE, VERSIONS, Permit, networks, permits
from builder.model import Interface
from builder.network import Network


@dataclass(frozen=True, slots=True)
class Port:
    """The host's end of a guest's interface, and what may come out of it. `target` is `six` as
    the number that a neighbour advertisement bears."""

    name: str
    mac: str
    four: str
    six: str
    target: str


@dataclass(frozen=True, slots=True)
class Known:
    """A VM's address, which only its MAC may use."""

    family: Literal["ip", "ip6"]
    address: str
    mac: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The flows of one family. `entrances` may be called by all, or (`open` False) from inside."""

    family: Literal["ip", "ip6"]
    type: Literal["ipv4_addr", "ipv6_addr"]
    version: Literal[4, 6]
    guests: tuple[str, ...]
    networks: tuple[str, ...]
    open: bool
    entrances: tuple[Permit, ...]
    flows: tuple[Permit, ...]
    outside: tuple[Permit, ...]


@dataclass(frozen=True, slots=True)
class Firewall:
    """Both tables."""

    ports: tuple[Port, ...]
    known: tuple[Known, ...]
    judged: tuple[Judged, ...]


def view(network: Network) -> Firewall:
    """The firewall of a host's guests."""
    ports = tuple(_port(veth(m.guest, i), i) for m in network.members for i in m.guest.interfaces)
    known: list[Known] = []
    for machine in network.host.machines:
        if machine.vm is not None and machine.mac:
            known.append(Known("ip", str(machine.address), machine.mac))
            if machine.address6:
                known.append(Known("ip6", str(machine.address6), machine.mac))
    every = permits(network)
    judged = tuple(_judged(network, version, ports, every) for version in VERSIONS)
    return Firewall(ports, tuple(known), tuple(one for one in judged if one.guests))


def _port(name: str, interface: Interface) -> Port:
    six = interface.address6
    target = "" if six is None else f"0x{int(six):032x}"
    return Port(name, interface.mac, str(interface.address), str(six or ""), target)


def _judged(
    network: Network, version: Literal[4, 6], ports: tuple[Port, ...], every: tuple[Permit, ...]
) -> Judged:
    own = [p for p in every if p.version == version]
    entering = network.host.ingress4 if version == 4 else network.host.ingress6
    inside = networks(network, version)
    # Closed, each entrance is there once for each network inside; in a set it stands once.
    calls = [p for p in own if p.source == EVERYONE or p.source in inside]
    entrances = {(p.destination, p.protocol, p.port): p for p in calls}
    return Judged(
        family="ip" if version == 4 else "ip6",
        type="ipv4_addr" if version == 4 else "ipv6_addr",
        version=version,
        guests=tuple(a for p in ports if (a := p.four if version == 4 else p.six)),
        networks=inside,
        open=entering,
        entrances=tuple(entrances.values()),
        flows=tuple(p for p in own if p not in calls and p.destination != EVERYONE),
        outside=tuple(p for p in own if p.destination == EVERYONE),
    )
