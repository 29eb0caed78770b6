"""The guests' firewall on plain LXC: nftables on the host.

Two tables. In `bridge`, each guest's port lets in only what bears the guest's own MAC and
addresses, in ARP and neighbour discovery too, and no other port may use them; it lets out only what
is for an address of ours, ARP and neighbour discovery. Of IPv6's link-local addresses a guest has
the one that the kernel makes of its MAC, as with PVE's filter. In `inet`, the flows: a packet from
or to an address of ours is an answer, or begins a declared flow, or is dropped; all others pass
untouched. Packets that are only bridged come there by br_netfilter, since connection tracking in
`bridge` itself is not in every kernel.

In `bridge`, `ether type` is only met by frames without a VLAN tag, and `meta protocol` by both. nft
puts the former before what belongs to ARP or ICMPv6, unless the latter stands there: so it does in
what drops. A fragment of a neighbour advertisement may hide of what it speaks, until connection
tracking puts it together; it is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address
from typing import Literal

from builder.kinds.conf import veth
from builder.kinds.permits import (
    EVERYONE,
    FAMILY,
    VERSIONS,
    Family,
    Permit,
    Version,
    networks,
    permits,
)
from builder.model import Interface, Machine
from builder.network import Network


@dataclass(frozen=True, slots=True)
class Port:
    """The host's end of a guest's interface, and what may come out of it. `local` is its IPv6
    link-local address; targets are the numbers that neighbour advertisements bear for these."""

    name: str
    mac: str
    four: str
    six: str
    target: str
    local: str
    local_target: str


@dataclass(frozen=True, slots=True)
class Known:
    """A VM's address, which only its MAC may use; `target` as in Port, "" for IPv4."""

    family: Family
    address: str
    mac: str
    target: str


@dataclass(frozen=True, slots=True)
class Judged:
    """The flows of one family. `entrances` may be called by all, or (`open` False) from inside."""

    family: Family
    type: Literal["ipv4_addr", "ipv6_addr"]
    version: Version
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
    known = tuple(k for machine in network.host.machines for k in _known(machine))
    every = permits(network)
    judged = tuple(_judged(network, version, ports, every) for version in VERSIONS)
    return Firewall(ports, known, tuple(one for one in judged if one.guests))


def _port(name: str, interface: Interface) -> Port:
    six, local = interface.address6, _local(interface.mac)
    return Port(
        name=name,
        mac=interface.mac,
        four=str(interface.address),
        six=str(six or ""),
        target=_target(six),
        local=str(local),
        local_target=_target(local),
    )


def _target(address: IPv6Address | None) -> str:
    return "" if address is None else f"0x{int(address):032x}"


def _local(mac: str) -> IPv6Address:
    """The link-local address that the kernel makes of a MAC (EUI-64, RFC 4291 appendix A)."""
    raw = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(
        b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    )


def _known(machine: Machine) -> Iterator[Known]:
    if machine.vm is not None and machine.mac:
        yield Known("ip", str(machine.address), machine.mac, "")
        if machine.address6:
            yield Known("ip6", str(machine.address6), machine.mac, _target(machine.address6))


def _judged(
    network: Network, version: Version, ports: tuple[Port, ...], every: tuple[Permit, ...]
) -> Judged:
    own = [p for p in every if p.version == version]
    entering = network.host.ingress4 if version == 4 else network.host.ingress6
    inside = networks(network, version)
    # Closed, each entrance is there once for each network inside; in a set it stands once.
    calls = [p for p in own if p.source == EVERYONE or p.source in inside]
    entrances = {(p.destination, p.protocol, p.port): p for p in calls}
    return Judged(
        family=FAMILY[version],
        type="ipv4_addr" if version == 4 else "ipv6_addr",
        version=version,
        guests=tuple(a for p in ports if (a := p.four if version == 4 else p.six)),
        networks=inside,
        open=entering,
        entrances=tuple(entrances.values()),
        flows=tuple(p for p in own if p not in calls and p.destination != EVERYONE),
        outside=tuple(p for p in own if p.destination == EVERYONE),
    )
