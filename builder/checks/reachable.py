"""Guests that must talk to each other, on bridges between which nothing leads.

A guest's traffic leaves its own bridges by the default gateway of its first interface, and what is
asked of it arrives at the address of its first interface.
"""

from __future__ import annotations

from collections.abc import Iterator

from builder.checks.places import backend_place, machine_place, nic_place
from builder.checks.realised import certified, realised
from builder.model import Guest, Host, Machine, Role, Site
from builder.problems import Finding, Place

End = Guest | Machine


def unreachable(site: Site, host: Host) -> Iterator[Finding]:
    """Guests and VMs of which one must reach the other, and can't."""
    bridges = {b.name for b in host.bridges}
    ways_out = {b.name for b in host.bridges if b.routed or b.bridged}
    for one, other, why in dict.fromkeys(_pairs(site, host)):
        if not {*_bridges(one), *_bridges(other)} <= bridges or _reaches(one, other, ways_out):
            continue
        far = other if _home(other) not in ways_out else one
        message = (
            f"'{one.name}' can't reach '{other.name}' ({why}): '{far.name}' is on bridge "
            f"'{_home(far)}', which no gateway leads out of, and they share no bridge"
        )
        yield Finding(_place(host, far), message, "unreachable")


def _pairs(site: Site, host: Host) -> Iterator[tuple[End, End, str]]:
    roles: dict[Role, Guest] = {g.role: g for g in host.guests if g.interfaces}
    ends: dict[str, End] = {g.name: g for g in host.guests if g.interfaces}
    ends |= {m.name: m for m in host.machines if m.vm is not None}
    gateway, mesh, ca = (roles.get(role) for role in ("gateway", "mesh", "ca"))
    if not (gateway and mesh and ca):
        return
    yield gateway, mesh, "clients' requests"
    for service in realised(site, host):
        for backend in service.backends:
            if backend.name in ends:
                yield mesh, ends[backend.name], f"service '{service.name}'"
        for caller in (service.inside.callers or ()) if service.inside else ():
            if caller in ends:
                yield ends[caller], mesh, f"calls of service '{service.name}'"
    keep = certified(site, host)
    for guest in host.guests:
        if guest in (gateway, mesh) or (guest.name in keep and guest.interfaces):
            yield guest, ca, "certificates"


def _bridges(end: End) -> tuple[str, ...]:
    return (end.bridge,) if isinstance(end, Machine) else tuple(i.bridge for i in end.interfaces)


def _home(end: End) -> str:
    return _bridges(end)[0]


def _reaches(one: End, other: End, ways_out: set[str]) -> bool:
    return _home(other) in _bridges(one) or {_home(one), _home(other)} <= ways_out


def _place(host: Host, end: End) -> Place:
    if isinstance(end, Machine):
        return machine_place(host, end) / "bridge"
    return nic_place(host, end, end.interfaces[0]) / "bridge"


def mesh_families(site: Site, host: Host) -> Iterator[Finding]:
    """A backend with an IPv6 address, where the mesh has none."""
    mesh = next((g for g in host.guests if g.role == "mesh" and g.interfaces), None)
    if mesh is None or mesh.address6 is not None:
        return
    for service in realised(site, host):
        for i, backend in enumerate(service.backends):
            if backend.address is not None and backend.address.version == 6:
                message = f"'{mesh.name}' can't reach {backend.address}: it has no `address6`"
                yield Finding(backend_place(service, i) / "address", message, "unreachable")
