"""What the stated platform would ignore or refuse (HOST-FACTS: PVE swallows nearly everything)."""

from __future__ import annotations

from collections.abc import Iterator

from builder.checks.places import guest_place, host_place
from builder.model import Guest, Host, Site
from builder.problems import Finding, Place

_FEATURES = ("keyctl", "fuse", "mknod")


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
    for key in ("cluster", "firewall"):
        if getattr(host.platform, key):
            message = f"`{key}` is for Proxmox; this host is plain LXC"
            place = host_place(host) / "platform" / key
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
    message = "`{}` is Proxmox's; plain LXC has no such option"
    if guest.tags:
        yield Finding((place / "tags").named(), message.format("tags"), "platform-option")
    for key in _FEATURES:
        if getattr(guest.features, key):
            at = (place / "features" / key).named()
            yield Finding(at, message.format(key), "platform-option")
