"""What the stated platform would ignore or refuse (HOST-FACTS: PVE swallows nearly everything)."""

from __future__ import annotations

from collections.abc import Iterator

from builder.checks.places import bridge_place, guest_place, host_place
from builder.model import Guest, Host, Site
from builder.problems import Finding, Place

_FEATURES = ("keyctl", "fuse", "mknod", "mount")


def platform(_: Site, host: Host) -> Iterator[Finding]:
    """Options of the other platform, and of another sort of guest."""
    kind = host.platform.kind
    if kind == "lxc":
        yield from _lxc(host)
    for guest in host.guests:
        place = guest_place(host, guest)
        yield from _template(kind, guest, place)
        yield from _features(guest, place)
        if kind == "lxc":
            yield from _lxc_guest(guest, place)
        elif guest.unprivileged and not guest.features.nesting:
            # HOST-FACTS, "Traps known to operators": AppArmor then denies mount namespaces.
            message = "our units are sandboxed, which an unprivileged guest needs nesting for"
            at = (place / "features" / "nesting").named()
            yield Finding(at, message, "platform-option")


def _lxc(host: Host) -> Iterator[Finding]:
    if host.platform.cluster:
        message = "`cluster` is for Proxmox; this host is plain LXC"
        place = host_place(host) / "platform" / "cluster"
        yield Finding(place.named(), message, "platform-option")
    # `multiple_vlan_aware_bridge_support` of its ifupdown2.conf, which only Proxmox switches on.
    aware = [bridge for bridge in host.bridges if bridge.vlan_aware]
    for bridge in aware[1:]:
        message = f"Debian's ifupdown2 takes one bridge with VLANs, which is '{aware[0].name}'"
        place = bridge_place(host, bridge) / "vlan_aware"
        yield Finding(place.named(), message, "platform-option")


def _template(kind: str, guest: Guest, place: Place) -> Iterator[Finding]:
    if guest.template and (":vztmpl/" in guest.template) != (kind == "proxmox"):
        form = "STORAGE:vztmpl/FILE" if kind == "proxmox" else "a file's name"
        message = f"a template is given as {form} on this platform"
        yield Finding(place / "template", message, "platform-option")


def _features(guest: Guest, place: Place) -> Iterator[Finding]:
    at = place / "features"
    for key in ("keyctl", "mknod"):
        if getattr(guest.features, key) and not guest.unprivileged:
            message = f"`{key}` is for unprivileged guests, and this one has `unprivileged: false`"
            yield Finding((at / key).named(), message, "platform-option")
    if guest.features.mount and guest.unprivileged:
        message = "the kernel lets no unprivileged guest mount these: `unprivileged: false`"
        yield Finding((at / "mount").named(), message, "platform-option")


def _lxc_guest(guest: Guest, place: Place) -> Iterator[Finding]:
    given = {
        place / "tags": bool(guest.tags),
        place / "disk": guest.disk is not None,
        place / "start" / "down": guest.start.down is not None,
    }
    given |= {place / "features" / key: bool(getattr(guest.features, key)) for key in _FEATURES}
    for at, there in given.items():
        if there:
            message = f"`{at.path[-1]}` is Proxmox's; plain LXC has no such option"
            yield Finding(at.named(), message, "platform-option")
