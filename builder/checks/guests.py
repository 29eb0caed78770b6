"""Guests and machines: roles, ids, names, order, and what the platform would not take."""

from __future__ import annotations

from collections.abc import Iterator

from builder.checks.places import (
    bridge_place,
    guest_place,
    host_place,
    machine_place,
    nic_place,
)
from builder.derive import start_order
from builder.model import Bridge, Guest, Host, Interface, Role, Site
from builder.problems import Finding, Place

_MIB, _GIB = 1 << 20, 1 << 30
_SINGLE: tuple[tuple[Role, str], ...] = (
    ("gateway", "nginx"),
    ("mesh", "Traefik"),
    ("ca", "Step-CA"),
)
_OURS = ("/opt/phoenix", "/opt/phoenix-secrets", "/usr/local/lib/systemd")


def roles(_: Site, host: Host) -> Iterator[Finding]:
    """Each of gateway, mesh and ca is there once."""
    for role, program in _SINGLE:
        having = [g for g in host.guests if g.role == role]
        if not having:
            message = f"no guest has role {role} ({program})"
            yield Finding((host_place(host) / "guests").named(), message, "missing-role")
        for guest in having[1:]:
            message = f"guest '{having[0].name}' has role {role} already"
            yield Finding(guest_place(host, guest) / "role", message, "duplicate-role")


def duplicate_id(_: Site, host: Host) -> Iterator[Finding]:
    """One VMID for two guests, or a guest and a VM."""
    seen: dict[int, str] = {}
    ids = [(g.id, g.name, guest_place(host, g) / "id") for g in host.guests]
    ids += [
        (m.vm, m.name, machine_place(host, m) / "vm") for m in host.machines if m.vm is not None
    ]
    for number, name, place in ids:
        if number in seen:
            message = f"id {number} is also that of '{seen[number]}'"
            yield Finding(place, message, "duplicate-id")
        seen.setdefault(number, name)


def duplicate_name(_: Site, host: Host) -> Iterator[Finding]:
    """One name for a guest and a machine, or for one of them and the host."""
    seen = {host.name: f"the host '{host.name}'"}
    for guest in host.guests:
        if guest.name in seen:
            message = f"'{guest.name}' is also the name of {seen[guest.name]}"
            yield Finding(guest_place(host, guest).named(), message, "duplicate-name")
        seen[guest.name] = f"guest '{guest.name}'"
    for machine in host.machines:
        if machine.name in seen:
            message = f"'{machine.name}' is also the name of {seen[machine.name]}"
            yield Finding(machine_place(host, machine).named(), message, "duplicate-name")


def order(_: Site, host: Host) -> Iterator[Finding]:
    """A declared start order that starts a guest before what it needs."""
    by_role = {g.role: g for g in host.guests}
    needs: dict[Role, tuple[Role, ...]] = {
        "mesh": ("ca",),
        "gateway": ("ca", "mesh"),
        "service": ("ca",),
    }
    for guest in host.guests:
        for role in needs.get(guest.role, ()):
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


def vlans(_: Site, host: Host) -> Iterator[Finding]:
    """VLAN tags on bridges that do not filter VLANs, and MTUs that do not fit."""
    bridges = {b.name: b for b in host.bridges}
    for guest in host.guests:
        for nic in guest.interfaces:
            if bridge := bridges.get(nic.bridge):
                yield from _nic_fits(bridge, nic, nic_place(host, guest, nic))
    for bridge in host.bridges:
        if bridge.vlans != "2-4094" and not bridge.vlan_aware:
            place = (bridge_place(host, bridge) / "vlans").named()
            yield Finding(place, "`vlans` is for a bridge with `vlan_aware: true`", "vlan-unaware")


def _nic_fits(bridge: Bridge, nic: Interface, place: Place) -> Iterator[Finding]:
    if nic.vlan is not None and not bridge.vlan_aware:
        message = f"bridge '{bridge.name}' is not VLAN-aware: say `vlan_aware: true` there"
        yield Finding(place / "vlan", message, "vlan-unaware")
    if nic.mtu is not None and nic.mtu > (bridge.mtu or 1500):
        message = (
            f"an MTU of {nic.mtu} does not fit bridge '{bridge.name}' with {bridge.mtu or 1500}"
        )
        yield Finding(place / "mtu", message, "mtu-too-large")


def whole(_: Site, host: Host) -> Iterator[Finding]:
    """Sizes that the platform counts in larger units."""
    for guest in host.guests:
        place = guest_place(host, guest)
        for key, value in (("memory", guest.memory), ("swap", guest.swap)):
            if value is not None and value % _MIB:
                yield Finding(place / key, f"`{key}` is counted in whole MiB", "not-whole")
        if guest.memory is not None and guest.memory < 16 * _MIB:
            yield Finding(place / "memory", "Proxmox gives a guest 16MiB or more", "not-whole")
        if guest.disk is not None and guest.disk.size % _GIB:
            yield Finding(place / "disk", "`disk` is counted in whole GiB", "not-whole")


def mounts(_: Site, host: Host) -> Iterator[Finding]:
    """Mounts over each other, or over what is ours in a guest."""
    for guest in host.guests:
        seen = dict.fromkeys(_OURS, "Phoenix")
        for i, mount in enumerate(guest.mounts):
            target = mount.target.rstrip("/")
            for other, whose in seen.items():
                if f"{target}/".startswith(f"{other}/") or f"{other}/".startswith(f"{target}/"):
                    place = guest_place(host, guest) / "mounts" / i / "target"
                    message = f"'{mount.target}' and '{other}' ({whose}) lie within each other"
                    yield Finding(place, message, "mount-conflict")
            seen[target] = "another mount"


def platform(_: Site, host: Host) -> Iterator[Finding]:
    """What the stated platform would ignore or refuse."""
    kind, place = host.platform.kind, host_place(host) / "platform"
    if kind == "lxc":
        for key in ("cluster", "firewall"):
            if getattr(host.platform, key):
                message = f"`{key}` is for Proxmox; this host is plain LXC"
                yield Finding((place / key).named(), message, "platform-option")
    for guest in host.guests:
        at = guest_place(host, guest)
        yield from _template(kind, guest, at)
        yield from _features(guest, at)
        if kind == "lxc":
            yield from _plain_lxc(guest, at)


def _template(kind: str, guest: Guest, place: Place) -> Iterator[Finding]:
    if guest.template and (":vztmpl/" in guest.template) != (kind == "proxmox"):
        form = "STORAGE:vztmpl/FILE" if kind == "proxmox" else "a file's name"
        message = f"a template is given as {form} on this platform"
        yield Finding(place / "template", message, "platform-option")


def _features(guest: Guest, place: Place) -> Iterator[Finding]:
    at = place / "features"
    for key in ("keyctl", "mknod"):
        if getattr(guest.features, key) and not guest.unprivileged:
            message = f"Proxmox gives `{key}` to unprivileged guests only"
            yield Finding(at / key, message, "platform-option")
    if guest.features.mount and guest.unprivileged:
        message = "the kernel lets no unprivileged guest mount these: `unprivileged: false`"
        yield Finding(at / "mount", message, "platform-option")


def _plain_lxc(guest: Guest, place: Place) -> Iterator[Finding]:
    used = {
        "tags": bool(guest.tags),
        "features": guest.features.keyctl or guest.features.fuse or guest.features.mknod,
    }
    for key, there in used.items():
        if there:
            message = f"`{key}` is Proxmox's; plain LXC has no such option"
            yield Finding((place / key).named(), message, "platform-option")


def fleet(_: Site, hosts: tuple[Host, ...]) -> Iterator[Finding]:
    """One VMID twice in a Proxmox cluster."""
    seen: dict[tuple[str, int], Host] = {}
    for host in hosts:
        cluster = host.platform.cluster
        if not cluster:
            continue
        ids = [(g.id, guest_place(host, g) / "id") for g in host.guests]
        ids += [(m.vm, machine_place(host, m) / "vm") for m in host.machines if m.vm is not None]
        for number, place in ids:
            other = seen.setdefault((cluster, number), host)
            if other is not host:
                message = (
                    f"id {number} is taken on host '{other.name}' of the same cluster '{cluster}'"
                )
                yield Finding(place, message, "duplicate-id")
