"""Addresses of one host: each used once, in its bridge's network, and one that can be given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import (
    IPv4Interface,
    IPv4Network,
    IPv6Interface,
    IPv6Network,
    ip_interface,
)

from builder.checks.places import (
    SITE,
    backend_place,
    bridge_place,
    host_place,
    machine_place,
    nic_place,
)
from builder.derive import mac
from builder.model import Address, Bridge, Host, Site, Uplink
from builder.problems import Finding, Place

Net = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Used:
    """A value that must be unique on a host, where it stands, and whose it is."""

    value: str
    place: Place
    owner: str


def repeated(used: Iterable[Used], what: str, code: str) -> Iterator[Finding]:
    """A finding for each value that was used before."""
    first: dict[str, Used] = {}
    for one in used:
        other = first.setdefault(one.value, one)
        if other is not one:
            yield Finding(one.place, f"{what} {one.value} is also that of {other.owner}", code)


def networks(bridge: Bridge) -> tuple[Net, ...]:
    """The networks that a bridge is in, by its own addresses."""
    own = (bridge.address, bridge.address6, *bridge.addresses)
    return tuple(dict.fromkeys(a.network for a in own if a is not None))


def special(address: Address) -> str:
    """What keeps an address from being anyone's; "" where nothing does."""
    kinds = {
        "no address at all": address.is_unspecified,
        "a loopback address, which each machine has for itself": address.is_loopback,
        "a multicast address": address.is_multicast,
        "a link-local address, which says nothing beyond one link": address.is_link_local,
        "of a range that nobody uses": address.version == 4 and address.is_reserved,
    }
    return next((kind for kind, fits in kinds.items() if fits), "")


def static6(uplink: Uplink) -> IPv6Interface | None:
    """An uplink's IPv6 address where it is declared, and not learnt."""
    return uplink.address6 if isinstance(uplink.address6, IPv6Interface) else None


Own = tuple[IPv4Interface | IPv6Interface, Place, str]


def own_addresses(host: Host) -> Iterator[Own]:
    """Each address of the host itself with its network, its place and what it is of."""
    for bridge in host.bridges:
        place, owner = bridge_place(host, bridge), f"bridge '{bridge.name}'"
        for key, own in (("address", bridge.address), ("address6", bridge.address6)):
            if own is not None:
                yield own, place / key, owner
        for i, extra in enumerate(bridge.addresses):
            yield extra, place / "addresses" / i, owner
        if uplink := bridge.uplink:
            owner = f"uplink '{uplink.interface}'"
            for key, own in (("address", uplink.address), ("address6", static6(uplink))):
                if own is not None:
                    yield own, place / "uplink" / key, owner


def gateways(host: Host) -> Iterator[tuple[Address, Place, str]]:
    """Each router that the host is told of, its place and whose it is."""
    for bridge in host.bridges:
        place, owner = bridge_place(host, bridge), f"bridge '{bridge.name}'"
        yield from _gateways(bridge.gateway, bridge.gateway6, place, owner)
        if uplink := bridge.uplink:
            owner = f"uplink '{uplink.interface}'"
            yield from _gateways(uplink.gateway, uplink.gateway6, place / "uplink", owner)


def _gateways(
    four: Address | None, six: Address | None, place: Place, owner: str
) -> Iterator[tuple[Address, Place, str]]:
    if four is not None:
        yield four, place / "gateway", owner
    if six is not None:
        yield six, place / "gateway6", owner


def end_addresses(host: Host) -> Iterator[tuple[Address, Place, str]]:
    """Each address of a guest or machine, its place and whose it is."""
    yield from _guests(host)
    yield from _machines(host)


def _guests(host: Host) -> Iterator[tuple[Address, Place, str]]:
    for guest in host.guests:
        for nic in guest.interfaces:
            place, owner = nic_place(host, guest, nic), f"guest '{guest.name}'"
            yield nic.address, place / "address", owner
            if nic.address6 is not None:
                yield nic.address6, place / "address6", owner


def _machines(host: Host) -> Iterator[tuple[Address, Place, str]]:
    for machine in host.machines:
        place, owner = machine_place(host, machine), f"machine '{machine.name}'"
        yield machine.address, place / "address", owner
        if machine.address6 is not None:
            yield machine.address6, place / "address6", owner


def duplicate_address(_: Site, host: Host) -> Iterator[Finding]:
    """One address for two things of a host. A router may well be a machine: a VM, or outside."""
    used = [Used(str(own.ip), place, owner) for own, place, owner in own_addresses(host)]
    used += [Used(str(address), place, owner) for address, place, owner in end_addresses(host)]
    yield from repeated(used, "address", "duplicate-address")


def gateway_taken(_: Site, host: Host) -> Iterator[Finding]:
    """A router's address that the host or one of its guests would have."""
    routers = {str(address): whose for address, _, whose in gateways(host)}
    taken = [(own.ip, place) for own, place, _ in own_addresses(host)]
    taken += [(address, place) for address, place, _ in _guests(host)]
    for address, place in taken:
        if str(address) in routers:
            message = f"{address} is the router's, the gateway of {routers[str(address)]}"
            yield Finding(place, message, "address-reserved")


def duplicate_mac(site: Site, host: Host) -> Iterator[Finding]:
    """One MAC address for two interfaces; a derived one counts too."""
    used = [
        Used(
            nic.mac or mac(site.name, host.name, guest.name, nic.name),
            nic_place(host, guest, nic) / "mac",
            f"guest '{guest.name}'",
        )
        for guest in host.guests
        for nic in guest.interfaces
    ]
    used += [
        Used(m.mac, machine_place(host, m) / "mac", f"machine '{m.name}'")
        for m in host.machines
        if m.mac
    ]
    yield from repeated(used, "MAC address", "duplicate-mac")
    for one in used:
        if int(one.value[:2], 16) & 1:
            message = f"{one.value} is a multicast address; the first byte must be even"
            yield Finding(one.place, message, "wrong-mac")
        elif not int(one.value.replace(":", ""), 16):
            yield Finding(one.place, f"{one.value} is no interface's address", "wrong-mac")


def unusable(_: Site, host: Host) -> Iterator[Finding]:
    """An address that nothing can have. An IPv6 router may be known by its link-local one."""
    every = [(own.ip, place) for own, place, _ in own_addresses(host)]
    every += [(address, place) for address, place, _ in end_addresses(host)]
    every += [(address, host_place(host) / "dns" / i) for i, address in enumerate(host.dns)]
    routers = [(address, place) for address, place, _ in gateways(host)]
    for bridge in host.bridges:
        at = bridge_place(host, bridge) / "routes"
        routers += [(route.via, at / i / "via") for i, route in enumerate(bridge.routes)]
    every += [one for one in routers if not _link_local6(one[0])]
    yield from _unusable(every)


def unusable_elsewhere(site: Site) -> Iterator[Finding]:
    """The same of what the site names: DNS servers, and backends given by address."""
    every = [(address, SITE / "dns" / i) for i, address in enumerate(site.dns)]
    every += [
        (backend.address, backend_place(service, i) / "address")
        for service in site.services
        for i, backend in enumerate(service.backends)
        if backend.address is not None
    ]
    yield from _unusable(every)


def _unusable(every: Iterable[tuple[Address, Place]]) -> Iterator[Finding]:
    for address, place in every:
        if why := special(address):
            yield Finding(place, f"{address} is {why}", "address-special")


def _link_local6(address: Address) -> bool:
    """Whether an address is one of IPv6 that is good on one link only, such as fe80::1."""
    return address.version == 6 and address.is_link_local


def address_in_network(_: Site, host: Host) -> Iterator[Finding]:
    """An address outside of its bridge's network, or one that the network keeps for itself."""
    bridges = {b.name: b for b in host.bridges}
    for guest in host.guests:
        for nic in guest.interfaces:
            if bridge := bridges.get(nic.bridge):
                yield from _both(bridge, nic.address, nic.address6, nic_place(host, guest, nic))
    for machine in host.machines:
        if bridge := bridges.get(machine.bridge):
            place = machine_place(host, machine)
            yield from _both(bridge, machine.address, machine.address6, place)
    for own, place, _whose in own_addresses(host):
        yield from reserved(own.network, own.ip, place)


def _both(bridge: Bridge, four: Address, six: Address | None, place: Place) -> Iterator[Finding]:
    yield from inside(bridge, four, place / "address")
    if six is not None:
        yield from inside(bridge, six, place / "address6")


def inside(bridge: Bridge, address: Address, place: Place) -> Iterator[Finding]:
    """Nothing where `address` may be given to something on `bridge`."""
    nets = [n for n in networks(bridge) if n.version == address.version]
    home = next((n for n in nets if address in n), None)
    if home is not None:
        yield from reserved(home, address, place)
    elif special(address):
        return  # told as that, or IPv6's way to name a router
    elif nets:
        where = " and ".join(map(str, nets))
        message = f"{address} is outside of {where}, the network of bridge '{bridge.name}'"
        yield Finding(place, message, "address-outside")
    else:
        key = "address" if address.version == 4 else "address6"
        message = f"bridge '{bridge.name}' has no `{key}`, so {address} is in no network of it"
        yield Finding(place, message, "address-outside")


def reserved(net: Net, address: Address, place: Place) -> Iterator[Finding]:
    """Nothing where `net` does not keep `address` for itself."""
    if net.num_addresses <= 2:
        return
    if address == net.network_address:
        message = f"{address} is the address of the network {net} itself"
        yield Finding(place, message, "address-reserved")
    elif net.version == 4 and address == net.broadcast_address:
        yield Finding(place, f"{address} is the broadcast address of {net}", "address-reserved")


def whole(text: str, place: Place) -> Iterator[Finding]:
    """Nothing where `text` is a network, and not an address in one."""
    given = ip_interface(text)
    if given.ip != given.network.network_address:
        message = f"{text} is an address, not a network; the network is {given.network}"
        yield Finding(place, message, "not-a-network")


def gateway_in_network(_: Site, host: Host) -> Iterator[Finding]:
    """A router that is not met on the network that it is the way out of."""
    for bridge in host.bridges:
        place = bridge_place(host, bridge)
        for gateway, at, _whose in _gateways(bridge.gateway, bridge.gateway6, place, ""):
            yield from inside(bridge, gateway, at)
        if uplink := bridge.uplink:
            yield from _uplink_gateways(uplink, place / "uplink")


def _uplink_gateways(uplink: Uplink, place: Place) -> Iterator[Finding]:
    nets = {a.version: a.network for a in (uplink.address, static6(uplink)) if a is not None}
    for gateway, at, _whose in _gateways(uplink.gateway, uplink.gateway6, place, ""):
        net = nets.get(gateway.version)
        if net is None:
            continue  # without a static address of its own, told as `bridge-mode`
        if gateway in net:
            yield from reserved(net, gateway, at)
        elif not special(gateway):
            message = f"{gateway} is outside of {net}, the uplink's network"
            yield Finding(at, message, "address-outside")


def outside_machines(_: Site, host: Host) -> Iterator[Finding]:
    """A machine outside with an address that only guests and VMs can have."""
    closed = [b for b in host.bridges if not b.ports and not b.bridged]
    for machine in host.machines:
        if machine.vm is not None:
            continue
        place = machine_place(host, machine)
        for key, address in (("address", machine.address), ("address6", machine.address6)):
            home = next((b for b in closed if _holds(b, address)), None)
            if home is not None:
                message = (
                    f"{address} is in the network of bridge '{home.name}', "
                    f"which no machine outside is on; a VM there has its id as `vm`"
                )
                yield Finding(place / key, message, "address-inside")


def _holds(bridge: Bridge, address: Address | None) -> bool:
    return address is not None and any(
        address in net for net in networks(bridge) if net.version == address.version
    )


def overlapping_networks(_: Site, host: Host) -> Iterator[Finding]:
    """Two bridges, or a bridge and an uplink, that share addresses."""
    seen: list[tuple[Net, str]] = []
    for own, place, owner in own_addresses(host):
        net = own.network
        for other, whose in seen:
            if whose != owner and net.version == other.version and net.overlaps(other):
                message = f"{net} overlaps {other} of {whose}"
                yield Finding(place, message, "overlapping-networks")
        seen.append((net, owner))
