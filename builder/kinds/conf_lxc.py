"""A guest's `config` for liblxc, on any Debian machine.

The profile stands before the includes, so that a machine which can't load AppArmor profiles (one
that is a container itself) says so for all guests in a file of common.conf.d, and the last word
counts. A lower lxc.start.order starts earlier, as on PVE. Device nodes are bound with the owner and
mode that they have on the host; in an unprivileged guest its root can't give them others.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.derive import start_order
from builder.kinds.conf import Line, addressed, binds, index, veth
from builder.model import Device, Guest, Interface
from builder.network import Network

HOME = "/var/lib/lxc"
_INCLUDES = "/usr/share/lxc/config"
_PERIOD = 100_000
_NUMBERED = {195: {"/dev/nvidiactl": 255, "/dev/nvidia-modeset": 254}}
_NVIDIA, _DRI = 195, 226


def view(network: Network, guest: Guest) -> tuple[Line, ...]:
    """What is declared of a guest, in liblxc's keys."""
    return tuple(Line(f"lxc.{key}", value) for key, value in _keys(network, guest))


def _keys(network: Network, guest: Guest) -> Iterator[tuple[str, str]]:
    yield "apparmor.profile", "generated"
    yield "apparmor.allow_nesting", str(int(guest.features.nesting))
    yield "include", f"{_INCLUDES}/common.conf"
    if guest.unprivileged:
        yield "include", f"{_INCLUDES}/userns.conf"
        yield "idmap", "u 0 100000 65536"
        yield "idmap", "g 0 100000 65536"
    yield "arch", "amd64"
    yield "uts.name", guest.name
    yield "rootfs.path", f"dir:{HOME}/{guest.id}/rootfs"
    for interface in guest.interfaces:
        yield from _net(network, guest, interface)
    for bind in binds(guest):
        yield "mount.entry", bind.entry()
    for device in guest.devices:
        yield from _device(guest, device)
    yield from _limits(guest)
    yield "start.auto", str(int(guest.onboot))
    yield "start.order", str(start_order(guest))
    if guest.start.up is not None:
        yield "start.delay", str(guest.start.up)


def _net(network: Network, guest: Guest, interface: Interface) -> Iterator[tuple[str, str]]:
    four, six = addressed(network, interface)
    gateway = network.default_gateway(guest, interface)
    gateway6 = network.default_gateway6(guest, interface)
    pairs = {
        "type": "veth",
        "veth.pair": veth(guest, interface),
        "veth.vlan.id": "" if interface.vlan is None else str(interface.vlan),
        "link": interface.bridge,
        "flags": "up",
        "name": interface.name,
        "hwaddr": interface.mac,
        "mtu": "" if interface.mtu is None else str(interface.mtu),
        "ipv4.address": four,
        "ipv4.gateway": str(gateway or ""),
        "ipv6.address": six,
        "ipv6.gateway": str(gateway6 or ""),
    }
    for key, value in pairs.items():
        if value:
            yield f"net.{index(interface)}.{key}", value


def _device(guest: Guest, device: Device) -> Iterator[tuple[str, str]]:
    # NVIDIA's control nodes come up late, and a missing one must not keep the guest from starting.
    target = device.path.removeprefix("/")
    yield "mount.entry", f"{device.path} {target} none bind,optional,create=file 0 0"
    # An unprivileged guest can make no node, and userns.conf lifts all device rules.
    if device.major is not None and not guest.unprivileged:
        yield "cgroup2.devices.allow", f"c {device.major}:{_minor(device)} rwm"


def _minor(device: Device) -> str:
    fixed = _NUMBERED.get(device.major or 0, {}).get(device.path)
    if fixed is not None:
        return str(fixed)
    numbered = re.search(r"/(?:nvidia|card|renderD)(\d+)$", device.path)
    return numbered.group(1) if numbered and device.major in {_NVIDIA, _DRI} else "*"


def _limits(guest: Guest) -> Iterator[tuple[str, str]]:
    if guest.cores is not None:
        yield "cgroup2.cpu.max", f"{guest.cores * _PERIOD} {_PERIOD}"
    if guest.memory is not None:
        yield "cgroup2.memory.max", str(guest.memory)
    if guest.swap is not None:
        yield "cgroup2.memory.swap.max", str(guest.swap)
