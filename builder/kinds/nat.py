"""What the NAT table of a host with routed bridges does, as values.

It judges only packets between an uplink and a bridge of ours; all others pass, and none that is for
the host itself is ever dropped. From an uplink nothing enters but answers, and what is translated:
the gateway's ports at the uplink's address lead to the gateway guest, also for the host itself and
for guests (hairpin). A declared machine outside has a route to the guests, and enters for what it
is declared for: calls, orders of its certificate, metrics.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, IPv6Network
from typing import Literal

from builder.kinds.conf import home, own_addresses
from builder.kinds.permits import FAMILY, Family, permits
from builder.model import Address, Bridge, Uplink
from builder.network import Network

_UNIQUE_LOCAL = IPv6Network("fc00::/7")


@dataclass(frozen=True, slots=True)
class Crossing:
    """A bridge, and an uplink from which nothing may begin towards it."""

    bridge: str
    uplink: str


@dataclass(frozen=True, slots=True)
class Masquerade:
    """A network that is hidden behind the uplink's address."""

    family: Family
    network: str
    uplink: str


@dataclass(frozen=True, slots=True)
class Ingress:
    """A way in over one family. `address` is the uplink's, "" where only the kernel knows it:
    then `others` are the host's addresses that are certainly not meant. `home` is the host's
    address in the gateway guest's network."""

    family: Family
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
class Admitted:
    """What a machine outside may begin, which comes to a guest's own address by its routes."""

    family: Family
    source: str
    target: str
    port: int
    reason: str


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
    admitted: tuple[Admitted, ...]


def routed6(bridge: Bridge) -> bool:
    """Whether the host forwards IPv6 between this bridge and its uplink."""
    return bridge.address6 is not None and bool(bridge.uplink and bridge.uplink.address6)


def view(network: Network) -> Nat:
    """The table of a host with at least one routed bridge."""
    guest, bridges = network.gateway.guest, network.host.bridges
    ways = [(bridge, bridge.uplink.interface) for bridge in bridges if bridge.uplink]
    bridge = network.bridge(guest.interfaces[0].bridge)
    entries = (*(uplink for _, uplink in ways), *(each.name for each in bridges))
    return Nat(
        # Bridges of PVE's firewall are there wherever a guest has firewall=1; the connections in
        # them, tracked together with the host's own, would not be masqueraded (admin guide).
        zoned=network.host.platform.kind == "proxmox",
        ports=tuple(listener.port for listener in network.gateway.listeners),
        entries=tuple(dict.fromkeys(entries)),
        crossings=tuple(Crossing(each.name, uplink) for _, uplink in ways for each in bridges),
        masquerades=tuple(dict.fromkeys(m for each, up in ways for m in _masquerades(each, up))),
        ingresses=tuple(_ingresses(network, bridge, bridge.uplink)) if bridge.uplink else (),
        direct=tuple(_direct(network, bridge)),
        admitted=tuple(_admitted(network)),
    )


def _masquerades(bridge: Bridge, uplink: str) -> Iterator[Masquerade]:
    for own in own_addresses(bridge):
        if own.version == 4 or (routed6(bridge) and _local(own)):
            yield Masquerade(FAMILY[own.version], str(own.network), uplink)


def _local(address: IPv4Interface | IPv6Interface) -> bool:
    """Whether an IPv6 address is a private one, which nobody outside can answer to."""
    return address.ip in _UNIQUE_LOCAL


def _ingresses(network: Network, bridge: Bridge, uplink: Uplink) -> Iterator[Ingress]:
    guest, host = network.gateway.guest, network.host
    if host.ingress4:
        others = ("127.0.0.0/8", *_own(network, 4))
        yield _ingress(uplink, uplink.address, bridge, guest.address, others)
    if host.ingress6 and routed6(bridge) and guest.address6:
        others = ("::1", "fe80::/10", *_own(network, 6))
        static = uplink.address6 if isinstance(uplink.address6, IPv6Interface) else None
        yield _ingress(uplink, static, bridge, guest.address6, others)


def _ingress(
    uplink: Uplink,
    static: IPv4Interface | IPv6Interface | None,
    bridge: Bridge,
    target: Address,
    others: tuple[str, ...],
) -> Ingress:
    own = home(bridge, target)
    return Ingress(
        family=FAMILY[own.version],
        protocol="ipv4" if own.version == 4 else "ipv6",
        uplink=uplink.interface,
        address=str(static.ip) if static else "",
        others=others,
        target=str(target),
        bridge=bridge.name,
        network=str(own.network),
        home=str(own.ip),
    )


def _own(network: Network, version: int) -> Iterator[str]:
    for bridge in network.host.bridges:
        yield from (str(own.ip) for own in own_addresses(bridge) if own.version == version)


def _direct(network: Network, bridge: Bridge) -> Iterator[Direct]:
    target = network.gateway.guest.address6
    if network.host.ingress6 and target and routed6(bridge) and not _local(home(bridge, target)):
        yield Direct(bridge.name, str(target))


def _admitted(network: Network) -> Iterator[Admitted]:
    outside = {
        str(address)
        for machine in network.host.machines
        if machine.vm is None
        for address in network.addresses(machine.name)
    }
    for p in permits(network):
        if p.source in outside and p.protocol == "tcp":
            yield Admitted(FAMILY[p.version], p.source, p.destination, p.port, p.reason)
