"""Names and ports under which services are met: from outside, inside, and in their guests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from builder.checks.places import backend_place, exposure_place, service_place
from builder.checks.realised import certified, fronts, realised
from builder.derive import inside_name
from builder.model import Exposure, Guest, Host, Service, Site
from builder.network import RESERVED_PORTS, ends
from builder.problems import Finding, Place

# What comes in for these ports at a routed host's own address is meant for the host.
_HOST_PORTS = {22: "ssh, by which it is reached"}
_PROXMOX_PORTS = {3128: "Proxmox's consoles", 8006: "Proxmox's web interface"}


def names(site: Site, host: Host) -> Iterator[Finding]:
    """Exposed names that mean two things."""
    internal = _internal_names(site, host)
    first: dict[tuple[str, str], Service] = {}
    for service in realised(site, host):
        for i, exposure in enumerate(service.expose):
            place, key = exposure_place(service, i), _met_at(service, exposure)
            if exposure.name in internal:
                message = f"'{exposure.name}' is {internal[exposure.name]}"
                yield Finding(place / "name", message, "duplicate-name")
            if key in first and (service.protocol != "tcp" or first[key] is service):
                # Two tcp services on one port are a matter of the port.
                shown = f"'{exposure.name}{exposure.path}'"
                message = f"{shown} leads to service '{first[key].name}' already"
                yield Finding(place, message, "duplicate-exposed-name")
            first.setdefault(key, service)


def cookies(site: Site, host: Host) -> Iterator[Finding]:
    """Services under one name of which each would overwrite the other's cookie."""
    first: dict[tuple[str, str], Service] = {}
    for service in realised(site, host):
        for name in dict.fromkeys(e.name for e in service.expose if service.sticky):
            other = first.setdefault((name, service.sticky), service)
            if other is not service:
                message = (
                    f"at '{name}', service '{other.name}' has the cookie '{service.sticky}' too; "
                    f"say `sticky: {{cookie: …}}` with another name"
                )
                yield Finding(service_place(service) / "sticky", message, "duplicate-cookie")


def _met_at(service: Service, exposure: Exposure) -> tuple[str, str]:
    """A name with the port, or with the prefix: a slash at its end says nothing."""
    if service.protocol == "tcp":
        return exposure.name, f":{exposure.port}"
    return exposure.name, exposure.path.rstrip("/")


def _internal_names(site: Site, host: Host) -> dict[str, str]:
    """Every internal name of a host's network, and whose it is."""
    found = {site.domain: "the internal domain itself"}
    for service in site.services:
        found[inside_name(site, service)] = f"the internal name of service '{service.name}'"
    for name in (host.name, *(end.name for end in ends(host))):
        found[f"{name}.{site.domain}"] = f"the internal name of '{name}'"
    return found


def gateway_ports(site: Site, host: Host) -> Iterator[Finding]:
    """Ports of the gateway that two services want, or that are not to be had."""
    taken = {80: "the ACME challenge and the redirect to https", 443: "https"}
    owners = {port: f"port {port} of the gateway is for {what}" for port, what in taken.items()}
    users: dict[int, Service] = {}
    for service in realised(site, host):
        for i, exposure in enumerate(service.expose):
            if service.protocol != "tcp" or exposure.port is None:
                continue
            port, place = exposure.port, exposure_place(service, i) / "port"
            other = users.setdefault(port, service)
            if port in owners:
                yield Finding(place, owners[port], "duplicate-listener")
            elif other is not service:
                message = f"port {port} of the gateway belongs to service '{other.name}'"
                yield Finding(place, message, "duplicate-listener")
            elif port in RESERVED_PORTS:
                message = f"port {port} of the gateway is one of its slots', {_SLOTS}"
                yield Finding(place, message, "reserved-port")
            elif what := _host_port(host, port):
                message = f"port {port} of the host is {what}: it can't lead to the gateway guest"
                yield Finding(place, message, "reserved-port")


_SLOTS = f"{RESERVED_PORTS.start} to {RESERVED_PORTS.stop - 1}"


def _host_port(host: Host, port: int) -> str:
    """What a routed host itself has at this port."""
    if not any(bridge.routed for bridge in host.bridges):
        return ""
    proxmox = _PROXMOX_PORTS if host.platform.kind == "proxmox" else {}
    return {**_HOST_PORTS, **proxmox}.get(port, "")


@dataclass(frozen=True, slots=True)
class _Met:
    """Where a program of a guest is met."""

    service: Service
    port: int
    place: Place


def listeners(site: Site, host: Host) -> Iterator[Finding]:
    """Programs of one guest that want the same port, or one that is not to be had."""
    met: dict[str, list[_Met]] = {}
    for service in realised(site, host):
        for i, backend in enumerate(service.backends):
            one = _Met(service, backend.port or service.port, backend_place(service, i))
            met.setdefault(backend.name, []).append(one)
    keep, fronted = certified(site, host), fronts(site, host)
    for guest in host.guests:
        if guest.role != "service":
            yield from _wrong_role(guest, met.get(guest.name, []))
            continue
        used: dict[int, Service] = {}
        for one in met.get(guest.name, ()):
            taken = _ours(one.port, guest.name in keep, guest.name in fronted)
            other = used.setdefault(one.port, one.service)
            if taken:
                message = f"port {one.port} of guest '{guest.name}' is {taken}"
                yield Finding(one.place, message, "reserved-port")
            elif other is not one.service:
                message = f"port {one.port} of '{guest.name}' belongs to service '{other.name}'"
                yield Finding(one.place, message, "duplicate-listener")


def _wrong_role(guest: Guest, met: list[_Met]) -> Iterator[Finding]:
    for one in met:
        message = f"guest '{guest.name}' is the {guest.role}; services run in guests of their own"
        yield Finding(one.place, message, "wrong-role")


def _ours(port: int, keeps_certificate: bool, fronted: bool) -> str:
    """What of ours has this port in a guest, "" where nothing does."""
    if keeps_certificate and port == 80:
        return "for the challenges of its certificate"
    if fronted and port in RESERVED_PORTS:
        return f"one of its front's slots', {_SLOTS}"
    return ""
