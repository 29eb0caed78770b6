"""Addresses, networks, bridges and routes of one host."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from builder.checks.places import bridge_place, guest_place, host_place, machine_place, nic_place
from builder.derive import mac
from builder.model import Address, Bridge, Guest, Host, Interface, Site
from builder.problems import Finding, Place, known

Net = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class _Used:
    """A value that must be unique on a host, where it stands, and whose it is."""

    value: str
    place: Place
    owner: str


def unknown_bridge(_: Site, host: Host) -> Iterator[Finding]:
    """A guest's interface or a VM on a bridge that is not declared."""
    bridges = [b.name for b in host.bridges]
    for guest in host.guests:
        for nic in guest.interfaces:
            if nic.bridge not in bridges:
                place = nic_place(host, guest, nic) / "bridge"
                yield _unknown_bridge(place, nic.bridge, bridges)
    for machine in host.machines:
        if machine.bridge and machine.bridge not in bridges:
            place = machine_place(host, machine) / "bridge"
            yield _unknown_bridge(place, machine.bridge, bridges)


def _unknown_bridge(place: Place, name: str, bridges: list[str]) -> Finding:
    return Finding(
        place, f"bridge '{name}' is not defined; {known(name, bridges)}", "unknown-bridge"
    )


def duplicate_address(_: Site, host: Host) -> Iterator[Finding]:
    """One address for two things of a host."""
    yield from _duplicates(_addresses(host), "address", "duplicate-address")


def duplicate_mac(site: Site, host: Host) -> Iterator[Finding]:
    """One MAC address for two interfaces; a derived one counts too."""
    used = [
        _Used(
            nic.mac or mac(site.name, host.name, guest.name, nic.name),
            nic_place(host, guest, nic) / "mac",
            f"guest '{guest.name}'",
        )
        for guest in host.guests
        for nic in guest.interfaces
    ]
    used += [
        _Used(m.mac, machine_place(host, m) / "mac", f"machine '{m.name}'")
        for m in host.machines
        if m.mac
    ]
    yield from _duplicates(used, "MAC address", "duplicate-mac")
    for one in used:
        if int(one.value[:2], 16) & 1:
            yield Finding(one.place, f"{one.value} is a multicast address", "wrong-mac")


def _duplicates(used: list[_Used], what: str, code: str) -> Iterator[Finding]:
    first: dict[str, _Used] = {}
    for one in used:
        other = first.setdefault(one.value, one)
        if other is not one:
            yield Finding(one.place, f"{what} {one.value} is also that of {other.owner}", code)


def _addresses(host: Host) -> list[_Used]:
    found: list[_Used] = []

    def use(address: Address | None, place: Place, owner: str) -> None:
        if address is not None:
            found.append(_Used(str(address), place, owner))

    for bridge in host.bridges:
        place, owner = bridge_place(host, bridge), f"bridge '{bridge.name}'"
        use(bridge.address and bridge.address.ip, place / "address", owner)
        use(bridge.address6 and bridge.address6.ip, place / "address6", owner)
        use(bridge.gateway, place / "gateway", f"the gateway of {owner}")
        use(bridge.gateway6, place / "gateway6", f"the gateway of {owner}")
        for i, extra in enumerate(bridge.addresses):
            use(extra.ip, place / "addresses" / i, owner)
        if uplink := bridge.uplink:
            owner = f"uplink '{uplink.interface}'"
            use(uplink.address and uplink.address.ip, place / "uplink" / "address", owner)
            use(uplink.gateway, place / "uplink" / "gateway", f"the gateway of {owner}")
    for guest in host.guests:
        for nic in guest.interfaces:
            place, owner = nic_place(host, guest, nic), f"guest '{guest.name}'"
            use(nic.address, place / "address", owner)
            use(nic.address6, place / "address6", owner)
    for machine in host.machines:
        place, owner = machine_place(host, machine), f"machine '{machine.name}'"
        use(machine.address, place / "address", owner)
        use(machine.address6, place / "address6", owner)
    return found


def address_in_network(_: Site, host: Host) -> Iterator[Finding]:
    """An address outside of its bridge's network, or one that the network keeps for itself."""
    bridges = {b.name: b for b in host.bridges}
    for guest in host.guests:
        for nic in guest.interfaces:
            if bridge := bridges.get(nic.bridge):
                yield from _nic_in(bridge, nic, nic_place(host, guest, nic))
    for machine in host.machines:
        if bridge := bridges.get(machine.bridge):
            place = machine_place(host, machine)
            yield from _inside(bridge, machine.address, place / "address")
            if machine.address6 is not None:
                yield from _inside(bridge, machine.address6, place / "address6")
    for bridge in host.bridges:
        yield from _own_addresses(host, bridge)


def _nic_in(bridge: Bridge, nic: Interface, place: Place) -> Iterator[Finding]:
    yield from _inside(bridge, nic.address, place / "address")
    if nic.address6 is not None:
        yield from _inside(bridge, nic.address6, place / "address6")


def _inside(bridge: Bridge, address: Address, place: Place) -> Iterator[Finding]:
    nets = [n for n in networks(bridge) if n.version == address.version]
    home = next((n for n in nets if address in n), None)
    if home is None:
        where = ", ".join(map(str, nets)) or f"none for IPv{address.version}"
        message = f"{address} is outside of bridge '{bridge.name}', whose network is {where}"
        yield Finding(place, message, "address-outside")
    else:
        yield from _reserved(home, address, place)


def _reserved(net: Net, address: Address, place: Place) -> Iterator[Finding]:
    if net.num_addresses <= 2:
        return
    if address == net.network_address:
        yield Finding(
            place, f"{address} is the address of the network {net} itself", "address-reserved"
        )
    elif net.version == 4 and address == net.broadcast_address:
        yield Finding(place, f"{address} is the broadcast address of {net}", "address-reserved")


def _own_addresses(host: Host, bridge: Bridge) -> Iterator[Finding]:
    place = bridge_place(host, bridge)
    for key, own in (("address", bridge.address), ("address6", bridge.address6)):
        if own is not None:
            yield from _reserved(own.network, own.ip, place / key)
    for key, gateway in (("gateway", bridge.gateway), ("gateway6", bridge.gateway6)):
        if gateway is not None:
            yield from _inside(bridge, gateway, place / key)
    uplink = bridge.uplink
    if uplink is None or uplink.address is None:
        return
    at = place / "uplink"
    yield from _reserved(uplink.address.network, uplink.address.ip, at / "address")
    if uplink.gateway is not None and uplink.gateway not in uplink.address.network:
        message = f"{uplink.gateway} is outside of the uplink's network {uplink.address.network}"
        yield Finding(at / "gateway", message, "address-outside")


def networks(bridge: Bridge) -> tuple[Net, ...]:
    """The networks that a bridge is in, by its own addresses."""
    own = (bridge.address, bridge.address6, *bridge.addresses)
    return tuple(dict.fromkeys(a.network for a in own if a is not None))


def overlapping_bridges(_: Site, host: Host) -> Iterator[Finding]:
    """Two bridges, or a bridge and an uplink, that share addresses."""
    seen: list[tuple[Net, str]] = []
    for bridge in host.bridges:
        place = bridge_place(host, bridge)
        each = [(n, place, f"bridge '{bridge.name}'") for n in networks(bridge)]
        if bridge.uplink and bridge.uplink.address:
            owner = f"uplink '{bridge.uplink.interface}'"
            each.append((bridge.uplink.address.network, place / "uplink" / "address", owner))
        for net, at, owner in each:
            for other, whose in seen:
                if whose != owner and net.version == other.version and net.overlaps(other):
                    message = f"{net} overlaps {other} of {whose}"
                    yield Finding(at, message, "overlapping-networks")
        seen += [(net, owner) for net, _, owner in each]


def routes(_: Site, host: Host) -> Iterator[Finding]:
    """Routes that hide a network or another route, or lead nowhere."""
    seen: list[tuple[Net, str]] = [
        (net, f"the network of bridge '{b.name}'") for b in host.bridges for net in networks(b)
    ]
    seen += [
        (b.uplink.address.network, f"the network of uplink '{b.uplink.interface}'")
        for b in host.bridges
        if b.uplink and b.uplink.address
    ]
    for bridge in host.bridges:
        for i, route in enumerate(bridge.routes):
            place = bridge_place(host, bridge) / "routes" / i
            net = ip_network(route.to, strict=False)
            if str(net) != str(route.to):
                message = f"{route.to} has host bits set; the network is {net}"
                yield Finding(place / "to", message, "not-a-network")
            for other, whose in seen:
                if net.version == other.version and net.overlaps(other):
                    message = f"the route to {net} shadows {whose}, {other}"
                    yield Finding(place / "to", message, "shadowed-route")
            if not any(route.via in n for n in networks(bridge) if n.version == route.via.version):
                message = f"next hop {route.via} is in no network of bridge '{bridge.name}'"
                yield Finding(place / "via", message, "address-outside")
            seen.append((net, "another route"))


def bridge_mode(_: Site, host: Host) -> Iterator[Finding]:
    """Bridges that are routed and bridged at once, or lack what their mode needs."""
    routed = [b for b in host.bridges if b.uplink]
    for bridge in routed[1:]:
        message = f"bridge '{routed[0].name}' has the uplink already; a host has one"
        yield Finding(bridge_place(host, bridge) / "uplink", message, "bridge-mode")
    for bridge in host.bridges:
        place = bridge_place(host, bridge)
        if bridge.uplink and bridge.bridged:
            message = "a bridge has an uplink (routed) or a gateway (bridged), not both"
            yield Finding((place / "uplink").named(), message, "bridge-mode")
        if bridge.bridged and not bridge.ports:
            message = f"bridge '{bridge.name}' has the LAN's gateway, but no port that leads there"
            yield Finding((place / "gateway").named(), message, "bridge-mode")
        yield from _uplink_whole(bridge, place / "uplink")


def _uplink_whole(bridge: Bridge, place: Place) -> Iterator[Finding]:
    uplink = bridge.uplink
    if uplink is None:
        return
    if bridge.address is None:
        message = f"bridge '{bridge.name}' has an uplink, but no address to be its guests' gateway"
        yield Finding(place.named(), message, "bridge-mode")
    if uplink.address and not uplink.gateway:
        yield Finding(place, "a static uplink needs its router as `gateway`", "bridge-mode")
    if uplink.gateway and not uplink.address:
        yield Finding(place / "gateway", "with dhcp, the router is DHCP's matter", "bridge-mode")
    if uplink.gateway6 and uplink.address6 in {None, "auto", "dhcp"}:
        message = "the IPv6 router is advertised; `gateway6` belongs to a static `address6`"
        yield Finding(place / "gateway6", message, "bridge-mode")


def duplicate_port(_: Site, host: Host) -> Iterator[Finding]:
    """A physical interface in two bridges."""
    used: list[_Used] = []
    for bridge in host.bridges:
        place, owner = bridge_place(host, bridge), f"bridge '{bridge.name}'"
        used += [_Used(p, place / "ports" / i, owner) for i, p in enumerate(bridge.ports)]
        if bridge.uplink:
            at = place / "uplink" / "interface"
            used.append(_Used(bridge.uplink.interface, at, f"the uplink of {owner}"))
    yield from _duplicates(used, "interface", "duplicate-port")


def guest_addresses(_: Site, host: Host) -> Iterator[Finding]:
    """A guest without an address, and IPv6 ingress without one to lead to."""
    for guest in host.guests:
        if not guest.interfaces:
            message = f"guest '{guest.name}' needs an `address`, or `interfaces`"
            yield Finding(guest_place(host, guest).named(), message, "missing-address")
        yield from _lan_gateway(host, guest)
        if guest.role == "gateway" and host.ingress6 and guest.interfaces and not guest.address6:
            message = f"guest '{guest.name}' has no `address6` for ingress over IPv6 to lead to"
            yield Finding(host_place(host) / "ingress" / "ipv6", message, "missing-address")


def _lan_gateway(host: Host, guest: Guest) -> Iterator[Finding]:
    bridges = {b.name: b for b in host.bridges}
    home = bridges.get(guest.interfaces[0].bridge) if guest.interfaces else None
    if guest.gateway == "lan" and home is not None and not home.bridged:
        message = f"bridge '{home.name}' is not bridged, so there is no LAN gateway"
        yield Finding(guest_place(host, guest) / "gateway", message, "bridge-mode")


def reach(_: Site, host: Host) -> Iterator[Finding]:
    """A literal address to reach the host by that the new configuration would not give it."""
    if not _literal(host.reach) or any(b.uplink and b.uplink.address is None for b in host.bridges):
        return
    own = [a.ip for b in host.bridges for a in (b.address, b.address6, *b.addresses) if a]
    own += [b.uplink.address.ip for b in host.bridges if b.uplink and b.uplink.address]
    if host.reach not in map(str, own):
        message = (
            f"the host would not have the address {host.reach}; {known(host.reach, map(str, own))}"
        )
        yield Finding(host_place(host) / "reach", message, "reach-lost")


def _literal(text: str) -> bool:
    return ":" in text or all(part.isdigit() for part in text.split("."))
