"""Bridges of one host: their mode, names and ports, routes, and the way from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

from builder.checks.addresses import (
    Net,
    Used,
    inside,
    own_addresses,
    repeated,
    special,
    static6,
    whole,
)
from builder.checks.places import bridge_place, guest_place, host_place, machine_place, nic_place
from builder.model import Bridge, Guest, Host, RouteTo, Site, Uplink
from builder.problems import Finding, Place, known

# lo is the kernel's; NAME.NUMBER is a VLAN to ifupdown2; the others are made by Proxmox.
_TAKEN = re.compile(r"lo|.+\.[0-9]+|(tap|veth|fwbr|fwln|fwpr)[0-9].*")
_BRIDGE = re.compile(r"vmbr[0-9]+")


def unknown_bridge(_: Site, host: Host) -> Iterator[Finding]:
    """A guest's interface or a VM on a bridge that is not declared."""
    bridges = [b.name for b in host.bridges]
    used = [
        (nic.bridge, nic_place(host, guest, nic) / "bridge")
        for guest in host.guests
        for nic in guest.interfaces
    ]
    used += [(m.bridge, machine_place(host, m) / "bridge") for m in host.machines if m.bridge]
    for name, place in used:
        if name not in bridges:
            message = f"bridge '{name}' is not defined; {known(name, bridges)}"
            yield Finding(place, message, "unknown-bridge")


def names(_: Site, host: Host) -> Iterator[Finding]:
    """A bridge whose name means something else to the kernel, ifupdown2 or Proxmox."""
    for bridge in host.bridges:
        if _TAKEN.fullmatch(bridge.name):
            place = bridge_place(host, bridge).named()
            message = f"a bridge can't be called '{bridge.name}'; take a name such as vmbr1"
            yield Finding(place, message, "bridge-name")


def ports(_: Site, host: Host) -> Iterator[Finding]:
    """A physical interface in two bridges, or a bridge in the place of one."""
    used: list[Used] = []
    for bridge in host.bridges:
        place, owner = bridge_place(host, bridge), f"bridge '{bridge.name}'"
        used += [Used(p, place / "ports" / i, owner) for i, p in enumerate(bridge.ports)]
        if bridge.uplink:
            at = place / "uplink" / "interface"
            used.append(Used(bridge.uplink.interface, at, f"the uplink of {owner}"))
    yield from repeated(used, "interface", "duplicate-port")
    bridges = {b.name for b in host.bridges}
    for one in used:
        if one.value in bridges or _BRIDGE.fullmatch(one.value):
            message = f"'{one.value}' is a bridge; what is meant here is a physical interface"
            yield Finding(one.place, message, "bridge-port")


def mode(_: Site, host: Host) -> Iterator[Finding]:
    """Bridges that are routed and bridged at once, or lack what their mode needs."""
    yield from _one_way_out(host)
    for bridge in host.bridges:
        place = bridge_place(host, bridge)
        if bridge.uplink and bridge.bridged:
            message = "a bridge has an uplink (routed) or a gateway (bridged), not both"
            yield Finding((place / "uplink").named(), message, "bridge-mode")
        if bridge.bridged and not bridge.ports:
            key = "gateway" if bridge.gateway else "gateway6"
            message = f"bridge '{bridge.name}' has the LAN's gateway, but no port that leads there"
            yield Finding((place / key).named(), message, "bridge-mode")
        if bridge.uplink:
            yield from _uplink(bridge, bridge.uplink, place / "uplink")


def _one_way_out(host: Host) -> Iterator[Finding]:
    leading = [b for b in host.bridges if b.uplink or b.bridged]
    for bridge in leading[1:]:
        key = "uplink" if bridge.uplink else "gateway" if bridge.gateway else "gateway6"
        message = f"the host's way out is on bridge '{leading[0].name}' already; it has one"
        yield Finding((bridge_place(host, bridge) / key).named(), message, "bridge-mode")


def _uplink(bridge: Bridge, uplink: Uplink, place: Place) -> Iterator[Finding]:
    if bridge.address is None:
        message = f"bridge '{bridge.name}' has an uplink, but no address to be its guests' gateway"
        yield Finding(place.named(), message, "bridge-mode")
    if uplink.address and not uplink.gateway:
        message = "a static uplink needs its router as `gateway`"
        yield Finding((place / "address").named(), message, "bridge-mode")
    if uplink.gateway and not uplink.address:
        message = "with `address: dhcp` the router is DHCP's matter; leave `gateway` out"
        yield Finding((place / "gateway").named(), message, "bridge-mode")
    if static6(uplink) and not uplink.gateway6:
        message = "a static `address6` needs its router as `gateway6`"
        yield Finding((place / "address6").named(), message, "bridge-mode")
    if uplink.gateway6 and not static6(uplink):
        message = "`gateway6` belongs to a static `address6`; another learns its router"
        yield Finding((place / "gateway6").named(), message, "bridge-mode")


def guest_gateway(_: Site, host: Host) -> Iterator[Finding]:
    """A guest that is to use the LAN's router where there is none."""
    bridges = {b.name: b for b in host.bridges}
    for guest in host.guests:
        home = bridges.get(guest.interfaces[0].bridge) if guest.interfaces else None
        if guest.gateway == "lan" and home is not None and not home.bridged:
            message = f"bridge '{home.name}' is not bridged, so there is no LAN gateway"
            yield Finding(guest_place(host, guest) / "gateway", message, "bridge-mode")


def ingress(_: Site, host: Host) -> Iterator[Finding]:
    """A way in from outside that ends nowhere."""
    bridges = {b.name: b for b in host.bridges}
    for guest in host.guests:
        if guest.role != "gateway" or not guest.interfaces:
            continue
        home = bridges.get(guest.interfaces[0].bridge)
        if home is not None and not home.routed and not home.bridged and host.ingress4:
            message = (
                f"no way from outside leads to '{guest.name}': bridge '{home.name}' has no "
                f"`uplink` and no `gateway`; say `ingress: {{ipv4: false}}` if none is meant"
            )
            place = nic_place(host, guest, guest.interfaces[0]) / "bridge"
            yield Finding(place, message, "ingress-nowhere")
        if host.ingress6:
            yield from _ingress6(host, guest, home)


def _ingress6(host: Host, guest: Guest, home: Bridge | None) -> Iterator[Finding]:
    place = host_place(host) / "ingress" / "ipv6"
    if not guest.address6:
        message = f"guest '{guest.name}' has no `address6` for ingress over IPv6 to lead to"
        yield Finding(place, message, "ingress-nowhere")
    if home is not None and home.uplink and not home.uplink.address6:
        message = f"uplink '{home.uplink.interface}' has no `address6` for clients to come in by"
        yield Finding(place, message, "ingress-nowhere")


def reach(_: Site, host: Host) -> Iterator[Finding]:
    """An address to reach the host by that the new configuration would not give it."""
    place = host_place(host) / "reach"
    address = literal(host.reach)
    if address is None and (":" in host.reach or not re.search("[A-Za-z]", host.reach)):
        message = (
            f"'{host.reach}' is neither an address nor a name; a port is the matter of ssh's own "
            f"configuration, such as ~/.ssh/config"
        )
        yield Finding(place, message, "wrong-reach")
    if address is None or any(_learns(b.uplink) for b in host.bridges):
        return
    own = [str(each.ip) for each, _, _ in own_addresses(host)]
    if address not in own:
        message = f"the host would not have the address {host.reach}; {known(host.reach, own)}"
        yield Finding(place, message, "reach-lost")


def _learns(uplink: Uplink | None) -> bool:
    """Whether an uplink has addresses that are not declared."""
    return uplink is not None and (uplink.address is None or uplink.address6 in {"auto", "dhcp"})


def literal(text: str) -> str | None:
    """An address in its one usual form; None where the text is a name."""
    try:
        return str(ip_address(text))
    except ValueError:
        return None


def routes(_: Site, host: Host) -> Iterator[Finding]:
    """Routes that hide a network or another route, or lead nowhere."""
    connected = [(own.network, owner) for own, _, owner in own_addresses(host)]
    seen: dict[Net, str] = {}
    for bridge in host.bridges:
        for i, route in enumerate(bridge.routes):
            place = bridge_place(host, bridge) / "routes" / i
            yield from _next_hop(bridge, route, place)
            yield from whole(route.to, place / "to")
            net = ip_interface(route.to).network
            if net.prefixlen and (why := special(net.network_address)):
                yield Finding(place / "to", f"{net} is {why}", "address-special")
            yield from _shadows(net, connected, place / "to")
            if net in seen:
                message = f"the route to {net} shadows the one on bridge '{seen[net]}'"
                yield Finding(place / "to", message, "shadowed-route")
            seen[net] = bridge.name


def _next_hop(bridge: Bridge, route: RouteTo, place: Place) -> Iterator[Finding]:
    if route.via.version != ip_interface(route.to).version:
        message = f"{route.via} can't be the next hop to {route.to}: one is IPv4, the other IPv6"
        yield Finding(place / "via", message, "wrong-family")
    elif any(route.via == own.ip for own in (bridge.address, bridge.address6) if own):
        message = f"{route.via} is the host itself; the next hop is another router"
        yield Finding(place / "via", message, "address-reserved")
    else:
        yield from inside(bridge, route.via, place / "via")


def _shadows(net: Net, connected: list[tuple[Net, str]], place: Place) -> Iterator[Finding]:
    if net.prefixlen == 0:
        message = "a default route is given as `gateway` of the bridge or of its uplink"
        yield Finding(place, message, "shadowed-route")
        return
    for other, whose in connected:
        # A wider route is fine: the network itself is nearer.
        if net.version == other.version and net.subnet_of(other):  # type: ignore[arg-type]
            message = f"the route to {net} shadows {other}, the network of {whose}"
            yield Finding(place, message, "shadowed-route")
            return
