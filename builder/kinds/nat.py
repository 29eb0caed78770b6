"""What the NAT table of a host with routed bridges does, as values.

It judges only packets between an uplink and a routed bridge of ours; all others pass. From an
uplink nothing enters but answers, and what is translated: the gateway's ports at the uplink's
address lead to the gateway guest, also for the host itself and for guests (hairpin).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Interface, IPv6Network
from typing import Literal

from builder.model import Bridge
from builder.network import Network

_UNIQUE_LOCAL = IPv6Network("fc00::/7")


@dataclass(frozen=True, slots=True)
class Crossing:
    """A routed bridge and the uplink that it reaches the outside by."""

    bridge: str
    uplink: str


@dataclass(frozen=True, slots=True)
class Masquerade:
    """A network that is hidden behind the uplink's address."""

    family: Literal["ip", "ip6"]
    network: str
    uplink: str


@dataclass(frozen=True, slots=True)
class Ingress:
    """A way in over one family. `address` is the uplink's, "" where only the kernel knows it:
    then `others` are the host's addresses that are certainly not meant. `home` is the host's
    address on the gateway guest's bridge."""

    family: Literal["ip", "ip6"]
    protocol: Literal["ipv4", "ipv6"]
    uplink: str
    address: str
    others: tuple[str, ...]
    target: str
    bridge: str
    network: str
    home: str


@dataclass(frozen=True, slots=True)
class Direct:
    """A guest that is reached from outside at its own, global address."""

    bridge: str
    target: str


@dataclass(frozen=True, slots=True)
class Nat:
    """The whole table. `entries` are the interfaces from which the uplink's address is
    translated; `zoned` sets the connections of PVE's firewall bridges apart."""

    zoned: bool
    ports: tuple[int, ...]
    entries: tuple[str, ...]
    crossings: tuple[Crossing, ...]
    masquerades: tuple[Masquerade, ...]
    ingresses: tuple[Ingress, ...]
    direct: tuple[Direct, ...]


def routed6(bridge: Bridge) -> bool:
    """Whether the host forwards IPv6 between this bridge and its uplink."""
    return bridge.address6 is not None and bool(bridge.uplink and bridge.uplink.address6)


def view(network: Network) -> Nat:
    """The table of a host with at least one routed bridge."""
    routed = [bridge for bridge in network.host.bridges if bridge.uplink]
    home = network.bridge(network.gateway.guest.interfaces[0].bridge)
    uplinks = [bridge.uplink.interface for bridge in routed if bridge.uplink]
    entries = (*uplinks, *(bridge.name for bridge in network.host.bridges))
    return Nat(
        # Bridges of PVE's firewall are there wherever a guest has firewall=1; the connections in
        # them, tracked together with the host's own, would not be masqueraded (admin guide).
        zoned=network.host.platform.kind == "proxmox",
        ports=tuple(listener.port for listener in network.gateway.listeners),
        entries=tuple(dict.fromkeys(entries)),
        crossings=tuple(Crossing(b.name, b.uplink.interface) for b in routed if b.uplink),
        masquerades=tuple(m for bridge in routed for m in _masquerades(bridge)),
        ingresses=tuple(_ingresses(network, home)) if home.uplink else (),
        direct=tuple(_direct(network, home)) if home.uplink else (),
    )


def _masquerades(bridge: Bridge) -> Iterator[Masquerade]:
    assert bridge.uplink
    if bridge.address:
        yield Masquerade("ip", str(bridge.address.network), bridge.uplink.interface)
    if bridge.address6 and routed6(bridge) and _local(bridge.address6):
        yield Masquerade("ip6", str(bridge.address6.network), bridge.uplink.interface)


def _local(address: IPv6Interface) -> bool:
    return address.network.subnet_of(_UNIQUE_LOCAL)


def _ingresses(network: Network, home: Bridge) -> Iterator[Ingress]:
    guest, uplink = network.gateway.guest, home.uplink
    assert uplink
    if network.host.ingress4 and home.address:
        yield Ingress(
            family="ip",
            protocol="ipv4",
            uplink=uplink.interface,
            address=str(uplink.address.ip) if uplink.address else "",
            others=("127.0.0.0/8", *_own(network, 4)),
            target=str(guest.address),
            bridge=home.name,
            network=str(home.address.network),
            home=str(home.address.ip),
        )
    if network.host.ingress6 and home.address6 and routed6(home) and guest.address6:
        static = uplink.address6 if isinstance(uplink.address6, IPv6Interface) else None
        yield Ingress(
            family="ip6",
            protocol="ipv6",
            uplink=uplink.interface,
            address=str(static.ip) if static else "",
            others=("::1", "fe80::/10", *_own(network, 6)),
            target=str(guest.address6),
            bridge=home.name,
            network=str(home.address6.network),
            home=str(home.address6.ip),
        )


def _own(network: Network, version: int) -> Iterator[str]:
    for bridge in network.host.bridges:
        for address in (bridge.address, bridge.address6, *bridge.addresses):
            if address and address.version == version:
                yield str(address.ip)


def _direct(network: Network, home: Bridge) -> Iterator[Direct]:
    guest = network.gateway.guest
    if not (network.host.ingress6 and guest.address6 and home.address6 and routed6(home)):
        return
    if not _local(home.address6):
        yield Direct(home.name, str(guest.address6))
