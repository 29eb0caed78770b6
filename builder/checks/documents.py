"""Rules on a document's own keys, of which its values show nothing any more: what stands beside
something that makes it mean nothing, and what says the same twice.

Documents are those that the schemas have accepted, a host's with what it takes over merged in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.problems import Finding, Place, known

Document = Mapping[str, Any]

# What nvidiaN brings along.
_NVIDIA = frozenset({"/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"})
# Of named devices, the node whose major number is given out when the host loads the driver.
_DYNAMIC = {"kfd": "/dev/kfd", "nvidia": "/dev/nvidia-uvm"}
_SINGLE = ("bridge", "address", "address6", "mac", "vlan")


def site_document(site: Document) -> Iterator[Finding]:
    """All rules for the site's document."""
    for name, service in site["services"].items():
        if "tls" not in service:
            continue
        place = (Place("site") / "services" / name / "tls").named()
        if service.get("protocol") == "https" and service["tls"] == "front":
            message = "a program with protocol https does TLS itself, and has no front"
            yield Finding(place, message, "protocol-option")
        elif any(plain["hop"] == "backend" for plain in service.get("plain", ())):
            message = "`tls` says who does TLS on the hop `backend`, which is plain"
            yield Finding(place, message, "no-effect")


def host_document(site: Document, name: str, host: Document) -> Iterator[Finding]:
    """All rules for the document of the host `name`."""
    place = Place(f"hosts/{name}")
    yield from _services(site, host, place / "services")
    kind = host["platform"]["kind"]
    if kind == "lxc" and "version" in host["platform"]:
        message = "`version` is Proxmox's; this host is plain LXC"
        yield Finding((place / "platform" / "version").named(), message, "platform-option")
    for guest, data in host["guests"].items():
        yield from _guest(data, place / "guests" / guest)
        whole = {**host.get("defaults", {}), **data}
        yield from _device_options(kind, whole, place / "guests" / guest / "devices")
    for machine, data in host.get("machines", {}).items():
        yield from _machine(data, place / "machines" / machine)


def _services(site: Document, host: Document, place: Place) -> Iterator[Finding]:
    for i, name in enumerate(host.get("services", ())):
        if name not in site["services"]:
            message = f"service '{name}' is not defined; {known(name, site['services'])}"
            yield Finding(place / i, message, "unknown-service")


def _guest(data: Document, place: Place) -> Iterator[Finding]:
    for key in _SINGLE:
        if key in data and "interfaces" in data:
            message = f"`{key}` says nothing beside `interfaces`; say it of one of them"
            yield Finding((place / key).named(), message, "no-effect")
    devices = data.get("devices", ())
    seen = set(_NVIDIA) if any(str(d).startswith("nvidia") for d in devices) else set()
    for i, device in enumerate(devices):
        path = f"/dev/{device}" if isinstance(device, str) else device["path"]
        if path in seen:
            message = f"{path} is a device of this guest already"
            yield Finding(place / "devices" / i, message, "duplicate-device")
        seen.add(path)
        if {"", ".", ".."} & set(path.removeprefix("/").split("/")):
            message = f"'{path}' is no plain path of a node below /dev"
            yield Finding(place / "devices" / i / "path", message, "wrong-device")


def _device_options(kind: str, guest: Document, place: Place) -> Iterator[Finding]:
    """What of a device the platform has no use for, or can't do without."""
    ruled = kind == "lxc" and not guest.get("unprivileged", True)
    for i, device in enumerate(guest.get("devices", ())):
        if ruled:
            yield from _major(device, place / i)
        if isinstance(device, str):
            continue
        if "major" in device and not ruled:
            message = "`major` is for the device rule of a privileged guest on plain LXC"
            yield Finding((place / i / "major").named(), message, "platform-option")
        for key in ("uid", "gid", "mode"):
            if key in device and kind == "lxc":
                message = f"on plain LXC a node keeps the `{key}` that it has on the host"
                yield Finding((place / i / key).named(), message, "platform-option")


def _major(device: str | Document, place: Place) -> Iterator[Finding]:
    """A device without the number that the rule of a privileged guest on plain LXC needs."""
    if isinstance(device, str):
        path = next((p for name, p in _DYNAMIC.items() if device.startswith(name)), "")
        if path:
            message = (
                f"the major number of {path}, part of '{device}', is not fixed: list each node "
                f"as `{{path: …, major: …}}`, or let the guest be unprivileged"
            )
            yield Finding(place, message, "missing-major")
    elif "major" not in device:
        message = (
            f"a privileged guest on plain LXC needs the `major` of {device['path']}, "
            f"the first number that `ls -l {device['path']}` shows"
        )
        yield Finding(place, message, "missing-major")


def _machine(data: Document, place: Place) -> Iterator[Finding]:
    for key in ("bridge", "mac"):
        if key in data and "vm" not in data:
            message = f"`{key}` is for a VM of this host, which has its id as `vm`"
            yield Finding((place / key).named(), message, "no-effect")


def written(finding: Finding, host: Document) -> Finding:
    """The finding at `defaults`, where the guest has its value from there."""
    path = finding.place.path
    if len(path) < 3 or path[0] != "guests" or path[2] not in host.get("defaults", {}):
        return finding
    if path[2] in host["guests"][path[1]]:
        return finding
    place = Place(finding.place.document, ("defaults", *path[2:]), finding.place.key)
    return Finding(place, finding.message, finding.code)
