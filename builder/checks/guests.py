"""Guests and machines: roles, ids, names, start order, interfaces, sizes and mounts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.checks.places import (
    bridge_place,
    guest_place,
    host_place,
    machine_place,
    nic_place,
)
from builder.derive import start_order
from builder.model import Bridge, Host, Interface, Mount, Role, Site
from builder.problems import Finding, Place

_MIB, _GIB, _TIB = 1 << 20, 1 << 30, 1 << 40
_SINGLE: tuple[tuple[Role, str], ...] = (
    ("gateway", "nginx"),
    ("mesh", "Traefik"),
    ("ca", "Step-CA"),
)
_NEEDS: dict[Role, tuple[Role, ...]] = {
    "mesh": ("ca",),
    "gateway": ("ca", "mesh"),
    "service": ("ca",),
}
_OURS = ("/opt/phoenix", "/opt/phoenix-secrets", "/usr/local/lib/systemd", "/var/lib/phoenix")
# Filled by the kernel, by systemd at its start, which hides what was mounted there before, or by
# PVE before each start.
_FILLED = ("/dev", "/etc/network", "/etc/systemd", "/proc", "/run", "/sys", "/tmp")
# Of the guest's own system; /usr itself holds a folder of ours.
_TOP = ("/bin", "/boot", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/sbin")
_SYSTEM = frozenset((*_TOP, *(f"/usr{path}" for path in _TOP)))
_STATE = "/var/lib/phoenix"


def roles(_: Site, host: Host) -> Iterator[Finding]:
    """Each of gateway, mesh and ca is there once."""
    for role, program in _SINGLE:
        having = [g for g in host.guests if g.role == role]
        if not having:
            message = f"no guest has role {role} ({program}); each host needs one"
            yield Finding((host_place(host) / "guests").named(), message, "missing-role")
        for guest in having[1:]:
            message = f"guest '{having[0].name}' has role {role} already; a host has one"
            yield Finding(guest_place(host, guest) / "role", message, "duplicate-role")


def duplicate_id(_: Site, host: Host) -> Iterator[Finding]:
    """One VMID for two guests, or for a guest and a VM."""
    seen: dict[int, str] = {}
    for number, name, place in ids(host):
        if number in seen:
            message = f"id {number} is also that of '{seen[number]}'"
            yield Finding(place, message, "duplicate-id")
        seen.setdefault(number, name)


def ids(host: Host) -> Iterator[tuple[int, str, Place]]:
    """Each VMID of a host, whose it is, and its place."""
    for guest in host.guests:
        yield guest.id, guest.name, guest_place(host, guest) / "id"
    for machine in host.machines:
        if machine.vm is not None:
            yield machine.vm, machine.name, machine_place(host, machine) / "vm"


def duplicate_name(_: Site, host: Host) -> Iterator[Finding]:
    """One name for a guest and a machine, or for one of them and the host."""
    seen = {host.name: "the host"}
    ends = [(g.name, guest_place(host, g), "guest") for g in host.guests]
    ends += [(m.name, machine_place(host, m), "machine") for m in host.machines]
    for name, place, what in ends:
        if name in seen:
            message = f"{seen[name]} is called '{name}' too"
            yield Finding(place.named(), message, "duplicate-name")
        seen.setdefault(name, f"a {what}")


def names(site: Site, host: Host) -> Iterator[Finding]:
    """Names that are too long with the domain behind, or taken."""
    ends = [(g.name, guest_place(host, g)) for g in host.guests]
    ends += [(m.name, machine_place(host, m)) for m in host.machines]
    for name, place in ends:
        if name == "localhost":
            message = "'localhost' is what each machine calls itself"
            yield Finding(place.named(), message, "reserved-name")
        length = len(f"{name}.{site.domain}")
        if length > 253:
            message = f"the name '{name}' has {length} characters with the domain; 253 are possible"
            yield Finding(place.named(), message, "name-too-long")
    for machine in host.machines:
        if machine.name == "site":
            message = "'site' is the name of the operator's own kit; call the machine otherwise"
            yield Finding(machine_place(host, machine).named(), message, "reserved-name")


def templates(_: Site, host: Host) -> Iterator[Finding]:
    """Guests that are not there, and that there is nothing to make them from."""
    for guest in host.guests:
        if not guest.adopt and not guest.template:
            message = (
                f"guest '{guest.name}' can't be created without a `template`; "
                f"say `adopt: true` if its id exists already"
            )
            yield Finding(guest_place(host, guest).named(), message, "missing-template")


def disks(_: Site, host: Host) -> Iterator[Finding]:
    """Guests to be created on Proxmox that would get their disk where it chooses."""
    for guest in host.guests:
        if host.platform.kind == "proxmox" and not guest.adopt and guest.disk is None:
            message = (
                f"guest '{guest.name}' can't be created without a `disk`, such as 8GiB; "
                f"say `adopt: true` if its id exists already"
            )
            yield Finding(guest_place(host, guest).named(), message, "missing-disk")


def order(_: Site, host: Host) -> Iterator[Finding]:
    """A declared start order that starts a guest before what it needs."""
    by_role = {g.role: g for g in host.guests}
    for guest in host.guests:
        for role in _NEEDS.get(guest.role, ()):
            needed = by_role.get(role)
            if needed is None or not (guest.start.order or needed.start.order):
                continue
            if start_order(guest) <= start_order(needed):
                blamed = guest if guest.start.order else needed
                message = (
                    f"guest '{guest.name}' would start at {start_order(guest)}, not after "
                    f"'{needed.name}' at {start_order(needed)}, which it needs"
                )
                place = guest_place(host, blamed) / "start" / "order"
                yield Finding(place, message, "start-order")


def interfaces(_: Site, host: Host) -> Iterator[Finding]:
    """Guests without an address, and interfaces that can't be called so."""
    for guest in host.guests:
        place = guest_place(host, guest)
        if not guest.interfaces:
            message = f"guest '{guest.name}' needs an `address`, or `interfaces`"
            yield Finding(place.named(), message, "missing-address")
        elif guest.interfaces[0].name != "eth0":
            message = "eth0 is missing: the interface by which the guest is known"
            yield Finding((place / "interfaces").named(), message, "interface-name")
        for nic in guest.interfaces:
            number = int(nic.name[3:])
            if nic.name != f"eth{number}" or number > 31:
                message = f"'{nic.name}' can't be an interface here; they are eth0 to eth31"
                yield Finding(nic_place(host, guest, nic).named(), message, "interface-name")


def vlans(_: Site, host: Host) -> Iterator[Finding]:
    """VLANs that a bridge does not carry, and MTUs that do not fit."""
    bridges = {b.name: b for b in host.bridges}
    for guest in host.guests:
        for nic in guest.interfaces:
            if bridge := bridges.get(nic.bridge):
                yield from _nic_fits(bridge, nic, nic_place(host, guest, nic))
    for bridge in host.bridges:
        place = bridge_place(host, bridge) / "vlans"
        if bridge.vlans != "2-4094" and not bridge.vlan_aware:
            message = "`vlans` is for a bridge with `vlan_aware: true`"
            yield Finding(place.named(), message, "vlan-unaware")
        for low, high in _ranges(bridge):
            if not 1 <= low <= high <= 4094:
                message = f"VLANs {low}-{high}: a range goes upward, from 1 to 4094 at most"
                yield Finding(place, message, "wrong-vlans")


def _ranges(bridge: Bridge) -> list[tuple[int, int]]:
    pairs = (part.partition("-") for part in bridge.vlans.split(" "))
    return [(int(low), int(high or low)) for low, _, high in pairs]


def _nic_fits(bridge: Bridge, nic: Interface, place: Place) -> Iterator[Finding]:
    if nic.vlan is not None and not bridge.vlan_aware:
        message = f"bridge '{bridge.name}' is not VLAN-aware: say `vlan_aware: true` there"
        yield Finding(place / "vlan", message, "vlan-unaware")
    elif nic.vlan is not None and not any(a <= nic.vlan <= b for a, b in _ranges(bridge)):
        message = f"bridge '{bridge.name}' carries VLANs {bridge.vlans}, and not {nic.vlan}"
        yield Finding(place / "vlan", message, "vlan-not-carried")
    if nic.mtu is not None and nic.mtu > (bridge.mtu or 1500):
        message = (
            f"an MTU of {nic.mtu} does not fit bridge '{bridge.name}' with {bridge.mtu or 1500}"
        )
        yield Finding(place / "mtu", message, "mtu-too-large")


def sizes(_: Site, host: Host) -> Iterator[Finding]:
    """Sizes that the platform counts in larger units, or that no machine has."""
    for guest in host.guests:
        place = guest_place(host, guest)
        for key, value in (("memory", guest.memory), ("swap", guest.swap)):
            if value is not None:
                yield from _size(place / key, key, value, _MIB, "MiB", 64 * _TIB)
        if guest.memory is not None and guest.memory < 16 * _MIB:
            yield Finding(place / "memory", "a guest needs 16MiB or more", "out-of-range")
        if guest.disk is not None:
            yield from _size(place / "disk", "disk", guest.disk.size, _GIB, "GiB", 1024 * _TIB)


def _size(place: Place, key: str, value: int, unit: int, name: str, most: int) -> Iterator[Finding]:
    if value % unit:
        yield Finding(place, f"`{key}` is counted in whole {name}", "not-whole")
    if value > most:
        yield Finding(place, f"`{key}` can be {most // _TIB}TiB at most", "out-of-range")


def mounts(_: Site, host: Host) -> Iterator[Finding]:
    """Mounts over each other, over the system, or over what is ours in a guest."""
    for guest in host.guests:
        seen = dict.fromkeys(_OURS, "Phoenix's own")
        for i, mount in enumerate(guest.mounts):
            place = guest_place(host, guest) / "mounts" / i
            yield from _paths(mount, place)
            target = mount.target.rstrip("/")
            for other, whose in seen.items():
                if _within(target, other) or _within(other, target):
                    message = f"'{mount.target}' and '{other}', {whose}, lie within each other"
                    yield Finding(place / "target", message, "mount-conflict")
                    break
            seen[target] = "another mount"


def _paths(mount: Mount, place: Place) -> Iterator[Finding]:
    for key, path in (("source", mount.source), ("target", mount.target)):
        if re.search(r"/\.{1,2}(/|$)", path):
            message = f"'{path}' has '.' or '..' in it; Proxmox takes plain paths"
            yield Finding(place / key, message, "mount-path")
    target = mount.target.rstrip("/")
    if target in _SYSTEM or any(_within(target, filled) for filled in _FILLED):
        message = f"'{mount.target}' belongs to the guest's system; mount it somewhere else"
        yield Finding(place / "target", message, "mount-path")
    source = mount.source.rstrip("/")
    if _within(source, _STATE) or _within(_STATE, source):
        message = f"'{mount.source}' holds other guests' files and secrets"
        yield Finding(place / "source", message, "mount-path")


def _within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")
