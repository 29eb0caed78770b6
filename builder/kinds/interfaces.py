"""The host's network: interfaces for ifupdown2, forwarding, NAT, and kernel modules.

/etc/network/interfaces holds the stanzas that we own, complete by itself, in the order and style
in which PVE's own writer leaves it (PVE::INotify), so that an edit in the GUI changes nothing else.
PVE's parser keeps one address a family, the last: so the host's own address comes last, after the
further ones. Debian's ifupdown2 (3.0) does not know `inet6 auto`, which PVE's needs, and takes the
guests off a bridge unless it is told not to.

Forwarding makes the kernel ignore router advertisements unless accept_ra is 2; a bridge accepts
none, and an uplink only where it is to learn its address or route from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from typing import Literal

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds import nat
from builder.kinds.artifact import Artifact, HostFile
from builder.model import Bridge, Uplink
from builder.network import Network

KIND = "interfaces"

MODULES = (
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_nat",
    "nf_tables",
    "nft_chain_nat",
    "nft_ct",
    "nft_fib_inet",
    "nft_masq",
    "nft_redir",
    "nft_reject_inet",
)
"""What nftables needs on the host and in the guests; nothing is loaded on a guest's behalf."""

# The mark by which the host program knows our routes (host/network.py): ifupdown2 runs what brings
# a route, and takes none away.
_OURS = "proto 80"
# Debian's ifupdown2 takes what it did not enslave off the bridge at each reload; PVE's does not.
_GUESTS_PORTS = "^(tap|veth|fwpr)[0-9]+.*"

Option = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Family:
    """One `iface NAME FAMILY METHOD` line and its options, in order."""

    name: Literal["inet", "inet6"]
    method: Literal["static", "manual", "dhcp", "auto"]
    options: tuple[Option, ...] = ()


@dataclass(frozen=True, slots=True)
class Stanza:
    """All of one interface."""

    name: str
    auto: bool
    families: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One kernel setting; the key with slashes, since an interface's name may hold a dot."""

    key: str
    value: int


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """interfaces, sysctl drop-in and modules of every host; NAT where a bridge is routed."""
    text = emit.template("host/etc/network/interfaces.j2")(stanzas=view(network))
    sysctl = emit.template("host/etc/sysctl.d/90-phoenix.conf.j2")(settings=settings(network))
    modules = "".join(f"{name}\n" for name in MODULES).encode()
    found = [
        HostFile(KIND, "/etc/network/interfaces", text, merge="interfaces"),
        HostFile(KIND, "/etc/sysctl.d/90-phoenix.conf", sysctl),
        HostFile(KIND, "/etc/modules-load.d/phoenix.conf", modules),
    ]
    if any(bridge.routed for bridge in network.host.bridges):
        rules = emit.template("host/etc/phoenix/nat.nft.j2")(nat=nat.view(network))
        unit = "etc/systemd/system/phoenix-nat.service"
        found.append(HostFile(KIND, "/etc/phoenix/nat.nft", rules))
        found.append(HostFile(KIND, f"/{unit}", fixed(f"host/{unit}")))
    return tuple(found)


def view(network: Network) -> tuple[Stanza, ...]:
    """Physical interfaces, then bridges, each in the order of the description."""
    proxmox = network.host.platform.kind == "proxmox"
    physical: dict[str, Stanza] = {}
    for bridge in network.host.bridges:
        for port in bridge.ports:
            physical.setdefault(port, _port(port, bridge))
        if bridge.uplink:
            stanza = _uplink(bridge.uplink, proxmox)
            physical.setdefault(bridge.uplink.interface, stanza)
    bridges = (_bridge(bridge, proxmox) for bridge in network.host.bridges)
    return (*physical.values(), *bridges)


def _port(name: str, bridge: Bridge) -> Stanza:
    return Stanza(name, False, (Family("inet", "manual", tuple(_mtu(bridge.mtu))),))


def _mtu(mtu: int | None) -> Iterator[Option]:
    if mtu is not None:
        yield "mtu", str(mtu)


def _uplink(uplink: Uplink, proxmox: bool) -> Stanza:
    families = [Family("inet", "dhcp", tuple(_mtu(uplink.mtu)))]
    if uplink.address is not None:
        options = (*_addresses([uplink.address], uplink.gateway), *_mtu(uplink.mtu))
        families = [Family("inet", "static", options)]
    if isinstance(uplink.address6, IPv6Interface):
        own = _addresses([uplink.address6], uplink.gateway6)
        families.append(Family("inet6", "static", tuple(own)))
    elif uplink.address6 is not None:
        families.append(_learning(uplink, proxmox))
    return Stanza(uplink.interface, True, tuple(families))


def _learning(uplink: Uplink, proxmox: bool) -> Family:
    """IPv6 by DHCP, or by the kernel alone (`auto`)."""
    # PVE's ifupdown2 sets accept_ra to 1 for `auto`, and to 0 elsewhere.
    learns = [
        ("post-up", f"echo {value} | tee /proc/sys/{key}") for key, value in _advertised(uplink)
    ]
    if uplink.address6 == "dhcp":
        return Family("inet6", "dhcp", tuple(learns))
    # A reload would take away what the kernel made, until the router's next word.
    own = (("address-purge", "no"), *learns)
    return Family("inet6", "auto" if proxmox else "manual", own)


def _addresses(
    addresses: Iterable[IPv4Interface | IPv6Interface], gateway: object
) -> Iterator[Option]:
    yield from (("address", str(address)) for address in addresses)
    if gateway is not None:
        yield "gateway", str(gateway)


def _bridge(bridge: Bridge, proxmox: bool) -> Stanza:
    four = [*_further(bridge, 4), *([bridge.address] if bridge.address else [])]
    six = [*_further(bridge, 6), *([bridge.address6] if bridge.address6 else [])]
    options = (*_addresses(four, bridge.gateway), *_options(bridge, proxmox), *_routes(bridge, 4))
    families = [Family("inet", "static" if four else "manual", options)]
    if six:
        options = (*_addresses(six, bridge.gateway6), *_routes(bridge, 6))
        families.append(Family("inet6", "static", options))
    return Stanza(bridge.name, True, tuple(families))


def _further(bridge: Bridge, version: int) -> Iterator[IPv4Interface | IPv6Interface]:
    """The further addresses. One of the host's own network is a mere address of it: with the
    network's prefix, the first one given would become the source of what the host sends."""
    for address in bridge.addresses:
        if address.version == version:
            home = bridge.address
            inside = home is not None and address.ip in home.network
            yield IPv4Interface(f"{address.ip}/32") if inside else address


def _options(bridge: Bridge, proxmox: bool) -> Iterator[Option]:
    yield "bridge-ports", " ".join(sorted(bridge.ports)) or "none"
    yield "bridge-stp", "off"
    yield "bridge-fd", "0"
    if bridge.vlan_aware:
        yield "bridge-vlan-aware", "yes"
        yield "bridge-vids", bridge.vlans
    yield from _mtu(bridge.mtu)
    if not proxmox:
        yield "bridge-ports-condone-regex", _GUESTS_PORTS


def _routes(bridge: Bridge, version: int) -> Iterator[Option]:
    # `replace`, since the command runs at every reload.
    command = "ip route replace" if version == 4 else "ip -6 route replace"
    for route in bridge.routes:
        if route.via.version == version:
            yield "post-up", f"{command} {route.to} via {route.via} dev {bridge.name} {_OURS}"


def _advertised(uplink: Uplink) -> Iterator[tuple[str, int]]:
    """What the uplink takes from router advertisements: its address, its route, or nothing."""
    learns = uplink.address6 in {"auto", "dhcp"}
    yield f"net/ipv6/conf/{uplink.interface}/accept_ra", 2 if learns else 0
    yield f"net/ipv6/conf/{uplink.interface}/autoconf", int(uplink.address6 == "auto")


def settings(network: Network) -> tuple[Setting, ...]:
    """Kernel settings of the declared interfaces, in the order in which they are to be made.

    Forwarding over IPv4 resets others. Forwarding over IPv6 takes away the routes that the kernel
    has learnt, but not where accept_ra is 2 already: so it comes last, or the host is cut off until
    its router's next word.
    """
    return tuple(Setting(key, value) for key, value in dict(_settings(network)).items())


def _settings(network: Network) -> Iterator[tuple[str, int]]:
    bridges = network.host.bridges
    routed = [bridge for bridge in bridges if bridge.routed]
    if routed:
        yield "net/ipv4/ip_forward", 1
        # Of "all" and an interface's own either suffices to send; foreign ones keep their own.
        yield "net/ipv4/conf/all/send_redirects", 0
    for bridge in routed:
        yield f"net/ipv4/conf/{bridge.name}/send_redirects", 0
    for bridge in bridges:
        if not bridge.ports:
            # It has the lowest MAC of the guests that run; when that one goes, the others are told,
            # and don't lose their gateway for half a minute.
            yield f"net/ipv4/conf/{bridge.name}/arp_notify", 1
            yield f"net/ipv6/conf/{bridge.name}/ndisc_notify", 1
        yield f"net/ipv6/conf/{bridge.name}/accept_ra", 0
        yield f"net/ipv6/conf/{bridge.name}/autoconf", 0
    for bridge in routed:
        assert bridge.uplink
        yield from _advertised(bridge.uplink)
    if any(nat.routed6(bridge) for bridge in routed):
        yield "net/ipv6/conf/all/forwarding", 1
