"""Where things stand in the documents."""

from __future__ import annotations

from builder.model import Bridge, Guest, Host, Interface, Machine, Service
from builder.problems import Place

SITE = Place("site")


def host_place(host: Host) -> Place:
    """The document of a host."""
    return Place(f"hosts/{host.name}")


def bridge_place(host: Host, bridge: Bridge) -> Place:
    """A bridge of a host."""
    return host_place(host) / "bridges" / bridge.name


def guest_place(host: Host, guest: Guest) -> Place:
    """A guest of a host."""
    return host_place(host) / "guests" / guest.name


def nic_place(host: Host, guest: Guest, nic: Interface) -> Place:
    """An interface of a guest; the guest itself where it has just one address."""
    place = guest_place(host, guest)
    for step in nic.at:
        place = place / step
    return place


def machine_place(host: Host, machine: Machine) -> Place:
    """A machine of a host."""
    return host_place(host) / "machines" / machine.name


def service_place(service: Service) -> Place:
    """A service of the site."""
    return SITE / "services" / service.name


def exposure_place(service: Service, index: int) -> Place:
    """The entry of a service's `expose` with this index."""
    return service_place(service) / "expose" / index


def backend_place(service: Service, index: int) -> Place:
    """The entry of a service's `backends` with this index."""
    return service_place(service) / "backends" / index
