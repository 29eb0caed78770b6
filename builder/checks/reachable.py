"""Who must talk to whom, and can't: on bridges or VLANs between which nothing leads, in another
address family, or with a way in that is closed.

A guest's traffic leaves its own bridges by the default gateway of its first interface, and what is
asked of it arrives at the address of its first interface. The host has its addresses on a bridge
outside of all VLANs; which VLAN a VM is in, only its own configuration knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from builder.checks.places import SITE, backend_place, host_place, machine_place, nic_place
from builder.checks.realised import certified, realised
from builder.model import Guest, Host, Interface, Machine, Role, Site
from builder.problems import Finding, Place

End = Guest | Machine

# To a bridge, a frame of its VLAN 1 is one without a tag.
_UNTAGGED = 1


def unreachable(site: Site, host: Host) -> Iterator[Finding]:
    """Guests and VMs of which one must reach the other, and can't."""
    bridges = {b.name for b in host.bridges}
    ways_out, astray = _ways_out(host), {guest.name for guest in _astray(host)}
    for one, other, why in dict.fromkeys(_pairs(site, host)):
        if not {*_bridges(one), *_bridges(other)} <= bridges or _reaches(one, other, ways_out):
            continue
        if {one.name, other.name} & astray:
            continue  # told as that
        cannot = f"'{one.name}' can't reach '{other.name}' ({why})"
        if _home(other) in _bridges(one):
            far = other if _vlan(other) != _UNTAGGED else one
            message = f"{cannot}: on bridge '{_home(other)}' they share no VLAN"
            yield Finding(_place(host, far, "vlan"), message, "unreachable")
        else:
            far = other if _home(other) not in ways_out else one
            message = (
                f"{cannot}: '{far.name}' is on bridge '{_home(far)}', which no gateway leads "
                f"out of, and they share no bridge"
            )
            yield Finding(_place(host, far, "bridge"), message, "unreachable")


def _ways_out(host: Host) -> set[str]:
    """The bridges that a gateway leads out of."""
    return {b.name for b in host.bridges if b.routed or b.bridged}


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
    for scraper in (ends[name] for name in host.scrapers if name in ends):
        yield scraper, mesh, "metrics"
    keep = certified(site, host)
    for guest in host.guests:
        if guest in (gateway, mesh) or (guest.name in keep and guest.interfaces):
            yield guest, ca, "certificates"


def _bridges(end: End) -> tuple[str, ...]:
    return (end.bridge,) if isinstance(end, Machine) else tuple(i.bridge for i in end.interfaces)


def _home(end: End) -> str:
    return _bridges(end)[0]


def _vlan(end: End) -> int | None:
    """The VLAN in which an end is met; None where only the end knows."""
    return None if isinstance(end, Machine) else _tag(end.interfaces[0])


def _tag(interface: Interface) -> int:
    return interface.vlan or _UNTAGGED


def _reaches(one: End, other: End, ways_out: set[str]) -> bool:
    if _home(other) in _bridges(one) and _meets(one, other):
        return True
    return _home(one) != _home(other) and {_home(one), _home(other)} <= ways_out


def _meets(one: End, other: End) -> bool:
    """Whether `one` has an interface in the VLAN, on the bridge, in which `other` is met."""
    vlan = _vlan(other)
    if vlan is None or isinstance(one, Machine):
        return True
    return any(nic.bridge == _home(other) and _tag(nic) == vlan for nic in one.interfaces)


def _place(host: Host, end: End, key: str) -> Place:
    if isinstance(end, Machine):
        return machine_place(host, end) / key
    return nic_place(host, end, end.interfaces[0]) / key


def vlan_gateways(_: Site, host: Host) -> Iterator[Finding]:
    """A guest in a VLAN that is to leave its bridge by the host, which is in none."""
    for guest in _astray(host):
        message = (
            f"'{guest.name}' can't reach its gateway: it is in VLAN {_vlan(guest)}, and the "
            f"host's address on '{_home(guest)}' is in none"
        )
        yield Finding(_place(host, guest, "vlan"), message, "unreachable")


def _astray(host: Host) -> list[Guest]:
    ways_out = _ways_out(host)
    by_host = [g for g in host.guests if g.interfaces and g.gateway == "host"]
    return [g for g in by_host if _home(g) in ways_out and _vlan(g) != _UNTAGGED]


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


def dns_families(site: Site, host: Host) -> Iterator[Finding]:
    """DNS servers of which a guest can ask none."""
    servers, place = (host.dns, host_place(host)) if host.dns else (site.dns, SITE)
    if any(address.version == 4 for address in servers):
        return
    for guest in host.guests:
        if guest.interfaces and not guest.address6:
            message = f"'{guest.name}' can't ask any of these: it has no `address6`"
            yield Finding((place / "dns").named(), message, "unreachable")
            return


def directories(site: Site, host: Host) -> Iterator[Finding]:
    """A public directory that is to prove a name by asking a host which lets nobody in."""
    if host.ingress4 or host.ingress6:
        return
    by_asking = {d.name for d in site.directories if d.challenge == "http-01"}
    names = dict.fromkeys(e.name for service in realised(site, host) for e in service.expose)
    for name in names:
        source = site.certificates.get(name)
        if source is not None and source.acme in by_asking:
            message = (
                f"'{source.acme}' proves '{name}' from outside, on port 80, which `ingress` "
                f"closes; take a directory with `challenge: dns-01`"
            )
            yield Finding(SITE / "certificates" / name / "acme", message, "unreachable")
