"""Rules on a document's own keys, of which its values show nothing any more: what stands beside
something that makes it mean nothing, and what says the same twice.

Documents are those that the schemas have accepted, a host's with what it takes over merged in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from builder.problems import Finding, Place, known

Document = Mapping[str, Any]

_SINGLE = ("bridge", "address", "address6", "mac", "vlan")


def host_document(site: Document, name: str, host: Document) -> Iterator[Finding]:
    """All rules for the document of the host `name`."""
    place = Place(f"hosts/{name}")
    yield from _services(site, host, place / "services")
    if host["platform"]["kind"] == "lxc" and "version" in host["platform"]:
        message = "`version` is Proxmox's; this host is plain LXC"
        yield Finding((place / "platform" / "version").named(), message, "platform-option")
    for guest, data in host["guests"].items():
        yield from _guest(data, place / "guests" / guest)
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
    seen: set[str] = set()
    for i, device in enumerate(data.get("devices", ())):
        path = f"/dev/{device}" if isinstance(device, str) else device["path"]
        if path in seen:
            message = f"{path} is a device of this guest already"
            yield Finding(place / "devices" / i, message, "duplicate-device")
        seen.add(path)
        if {"", ".", ".."} & set(path.removeprefix("/").split("/")):
            message = f"'{path}' is no plain path of a node below /dev"
            yield Finding(place / "devices" / i / "path", message, "wrong-device")


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
