"""NNN.conf in the form in which PVE itself writes it (PVE::LXC::Config, write_pct_config).

Comments, keys by their ASCII order, raw lxc.* lines. In a property string the one key without a
name comes first, a required one next, the others by name (PVE::JSONSchema, print_property_string).
Every interface has `firewall=1`: whether PVE's firewall filters is the cluster's switch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from builder.derive import start_order
from builder.emit import pve
from builder.kinds.conf import MIB, Line, addressed, binds, index
from builder.model import Device, Features, Guest, Interface
from builder.network import Network


@dataclass(frozen=True, slots=True)
class Conf:
    """A container's file; `description` is "" where none is declared."""

    description: str
    keys: tuple[Line, ...]
    raw: tuple[Line, ...]


def view(network: Network, guest: Guest) -> Conf:
    """What is declared of a guest."""
    keys = dict(_keys(network, guest))
    raw = tuple(Line("lxc.mount.entry", bind.entry()) for bind in binds(guest))
    return Conf(guest.description, tuple(Line(key, keys[key]) for key in sorted(keys)), raw)


def _keys(network: Network, guest: Guest) -> Iterator[tuple[str, str]]:
    yield "arch", "amd64"
    yield "features", _features(guest.features)
    yield "hostname", guest.name
    yield "nameserver", " ".join(map(str, network.dns))
    yield "onboot", str(int(guest.onboot))
    yield "ostype", "debian"
    yield "searchdomain", network.site.domain
    yield "startup", _startup(guest)
    if guest.cores is not None:
        yield "cores", str(guest.cores)
    if guest.memory is not None:
        yield "memory", str(guest.memory // MIB)
    if guest.swap is not None:
        yield "swap", str(guest.swap // MIB)
    if guest.tags:
        yield "tags", ";".join(guest.tags)
    if guest.unprivileged:
        yield "unprivileged", "1"
    for interface in guest.interfaces:
        yield f"net{index(interface)}", _net(network, guest, interface)
    for number, device in enumerate(guest.devices):
        yield f"dev{number}", _device(device)


def _properties(parts: Mapping[str, str | int | None], first: str = "") -> str:
    """A property string; what is None or empty is left out."""
    named = (
        f"{key}={pve(value)}" for key, value in sorted(parts.items()) if value not in {None, ""}
    )
    return ",".join((first, *named) if first else named)


def _net(network: Network, guest: Guest, interface: Interface) -> str:
    four, six = addressed(network, interface)
    gateway = network.default_gateway(guest, interface)
    gateway6 = network.default_gateway6(guest, interface)
    return _properties(
        {
            "bridge": interface.bridge,
            "firewall": 1,
            "gw": str(gateway or ""),
            "gw6": str(gateway6 or ""),
            "hwaddr": interface.mac.upper(),
            "ip": four,
            "ip6": six,
            "mtu": interface.mtu,
            "tag": interface.vlan,
            "type": "veth",
        },
        f"name={pve(interface.name)}",
    )


def _device(device: Device) -> str:
    parts = {"gid": device.gid or None, "mode": device.mode, "uid": device.uid or None}
    return _properties(parts, pve(device.path))


def _features(features: Features) -> str:
    return _properties(
        {
            "fuse": int(features.fuse) or None,
            "keyctl": int(features.keyctl) or None,
            "mknod": int(features.mknod) or None,
            "mount": ";".join(features.mount),
            "nesting": int(features.nesting),
        }
    )


def _startup(guest: Guest) -> str:
    parts = [f"order={start_order(guest)}"]
    parts += [] if guest.start.up is None else [f"up={guest.start.up}"]
    parts += [] if guest.start.down is None else [f"down={guest.start.down}"]
    return ",".join(parts)
