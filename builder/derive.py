"""From a site and one of its hosts to the network: every decision that follows from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Interface, IPv6Interface

from builder.model import (
    Address,
    CertificateSource,
    Exposure,
    Guest,
    Host,
    Role,
    Service,
    Site,
)
from builder.network import (
    METRICS_PORT,
    PLAIN_MESH_PORT,
    SLOT_A,
    SLOT_B,
    Backend,
    Certificate,
    Challenge,
    Exposed,
    Front,
    Listener,
    Member,
    Network,
    Routed,
    Secret,
    Trust,
    ends,
)


def derive(site: Site, host: Host, trust: Trust | None = None) -> Network:
    """The network of `host`; both values have passed all checks."""
    host = _with_macs(site, host)
    services = tuple(_realised(site, host))
    exposed = _exposed(services)
    members = tuple(_member(site, host, guest, services, exposed) for guest in host.guests)
    routed = tuple(_routed(site, service, members, host) for service in services)
    roles = {m.guest.role: m for m in members}
    return Network(
        site=site,
        host=host,
        members=members,
        gateway=roles["gateway"],
        mesh=roles["mesh"],
        ca=roles["ca"],
        services=routed,
        exposed=exposed,
        names=_names(site, host, exposed, roles),
        secrets=_secrets(site, host, members, roles["ca"]),
        trust=trust,
    )


def mac(site: str, host: str, guest: str, interface: str) -> str:
    """A locally administered unicast MAC that follows from these four names and nothing else."""
    seed = hashlib.sha256("\0".join((site, host, guest, interface)).encode()).hexdigest()
    return ":".join(("02", *(seed[i : i + 2] for i in range(0, 10, 2))))


def _with_macs(site: Site, host: Host) -> Host:
    def complete(guest: Guest) -> Guest:
        return replace(
            guest,
            interfaces=tuple(
                i if i.mac else replace(i, mac=mac(site.name, host.name, guest.name, i.name))
                for i in guest.interfaces
            ),
        )

    return replace(host, guests=tuple(complete(g) for g in host.guests))


def _realised(site: Site, host: Host) -> Iterable[Service]:
    return (s for s in site.services if host.services is None or s.name in host.services)


def listeners(ports: Iterable[int]) -> tuple[Listener, ...]:
    """The listeners of a slotted daemon with these public ports."""
    return tuple(Listener(p, SLOT_A + i, SLOT_B + i) for i, p in enumerate(sorted(set(ports))))


def fronted(guest: str, services: Iterable[Service]) -> list[tuple[Service, int]]:
    """(service, port) of each front of a guest, in the services' order.

    The port is its program's own number: the front is met there on the guest's address, the
    program on loopback. So no other service's coming or going ever moves it.
    """
    found: list[tuple[Service, int]] = []
    for service in services:
        if not service.front or service.is_plain("backend"):
            continue
        for backend in service.backends:
            if backend.name == guest:
                found.append((service, backend.port or service.port))
                break
    return found


def _own_tls(guest: str, services: Iterable[Service]) -> bool:
    return any(
        b.name == guest and not s.front and not s.is_plain("backend")
        for s in services
        for b in s.backends
    )


def _exposed(services: tuple[Service, ...]) -> tuple[Exposed, ...]:
    def one(service: Service, exposure: Exposure) -> Exposed:
        port = exposure.port if service.protocol == "tcp" and exposure.port else 443
        return Exposed(exposure.name, exposure.path, exposure.strip, port, service)

    every = [one(s, e) for s in services for e in s.expose]
    return tuple(sorted(every, key=lambda x: (x.name, x.port, x.path)))


def _member(
    site: Site,
    host: Host,
    guest: Guest,
    services: tuple[Service, ...],
    exposed: tuple[Exposed, ...],
) -> Member:
    fqdn = f"{guest.name}.{site.domain}"
    if guest.role == "gateway":
        ports = {80, 443, *(x.port for x in exposed)}
        certificates = tuple(
            _outside_certificate(site, name) for name in dict.fromkeys(x.name for x in exposed)
        )
        programs = ("nginx", "lego", "nftables")
        return Member(guest, fqdn, "nginx", listeners(ports), (), certificates, programs)
    if guest.role == "mesh":
        ports = {443}
        if any(s.is_plain("mesh") for s in services):
            ports.add(PLAIN_MESH_PORT)
        if host.scrapers:
            ports.add(METRICS_PORT)
        # tcp is told apart by the name in the handshake, so an exposed tcp service needs one too.
        named = (s for s in services if s.inside or s.protocol == "tcp")
        names = (fqdn, *(inside_name(site, s) for s in named))
        mesh = (Certificate(fqdn, names, "standalone"),)
        programs = ("traefik", "lego", "nftables")
        return Member(guest, fqdn, "traefik", listeners(ports), (), mesh, programs)
    if guest.role == "ca":
        return Member(guest, fqdn, "", (), (), (), ("step-ca",))
    return _service_member(guest, fqdn, services)


def _service_member(guest: Guest, fqdn: str, services: tuple[Service, ...]) -> Member:
    behind = fronted(guest.name, services)
    if behind:
        public = listeners([80, *(port for _, port in behind)])
        at = {x.port: x for x in public}
        fronts = tuple(Front(s, at[port]) for s, port in behind)
        own = (Certificate(fqdn, (fqdn,), "webroot"),)
        return Member(guest, fqdn, "nginx", public, fronts, own, ("nginx", "lego", "nftables"))
    if _own_tls(guest.name, services):
        own = (Certificate(fqdn, (fqdn,), "standalone"),)
        return Member(guest, fqdn, "", (), (), own, ("lego",))
    return Member(guest, fqdn, "", (), (), (), ())


def _outside_certificate(site: Site, name: str) -> Certificate:
    source = site.certificates.get(name, CertificateSource("site"))
    if source.kind == "files":
        return Certificate(name, (name,), "webroot", files=source)
    if source.kind == "acme":
        directory = next(d for d in site.directories if d.name == source.acme)
        challenge: Challenge = "dns-01" if directory.challenge == "dns-01" else "webroot"
        return Certificate(name, (name,), challenge, directory)
    return Certificate(name, (name,), "webroot")


def inside_name(site: Site, service: Service) -> str:
    """The name under which guests call a service through the mesh."""
    return f"{service.name}.svc.{site.domain}"


def _routed(site: Site, service: Service, members: tuple[Member, ...], host: Host) -> Routed:
    fronts = {(m.guest.name, f.service.name): f.listener.port for m in members for f in m.fronts}
    home = {end.name: end.address for end in ends(host)}
    plain, found = service.is_plain("backend"), []
    for b in service.backends:
        address = b.address if b.address is not None else home[b.name]
        port = fronts.get((b.name, service.name), b.port or service.port)
        verified = b.server_name or (f"{b.name}.{site.domain}" if b.name else str(address))
        found.append(
            Backend(b.name or str(address), address, port, "" if plain else verified, b.weight)
        )
    inside = service.inside
    return Routed(
        service,
        tuple(found),
        inside_name(site, service) if inside else "",
        inside.callers if inside else None,
    )


def _names(
    site: Site,
    host: Host,
    exposed: tuple[Exposed, ...],
    roles: Mapping[Role, Member],
) -> tuple[tuple[str, tuple[Address, ...]], ...]:
    table: dict[str, tuple[Address, ...]] = {}
    for end in ends(host):
        first = (end.address,) if end.address6 is None else (end.address, end.address6)
        table[f"{end.name}.{site.domain}"] = first
    mesh, gateway = roles["mesh"].guest, roles["gateway"].guest
    # All names of its certificate, since the CA asks for their proofs there.
    for name in (name for each in roles["mesh"].certificates for name in each.names):
        table[name] = table[f"{mesh.name}.{site.domain}"]
    for x in exposed:
        table[x.name] = table[f"{gateway.name}.{site.domain}"]
    home = next((b for b in host.bridges if b.name == gateway.interfaces[0].bridge), None)
    own: list[IPv4Interface | IPv6Interface | None] = [home.address, home.address6] if home else []
    table.setdefault(f"{host.name}.{site.domain}", tuple(a.ip for a in own if a is not None))
    return tuple(sorted((n, a) for n, a in table.items() if a))


def _secrets(site: Site, host: Host, members: tuple[Member, ...], ca: Member) -> tuple[Secret, ...]:
    home = f"file:~/.local/share/phoenix/{site.name}/{host.name}"
    found = [
        Secret(ca.guest.name, "intermediate.key", host.ca_key or f"{home}/intermediate.key"),
        Secret(
            ca.guest.name,
            "intermediate.password",
            host.ca_password or f"{home}/intermediate.password",
        ),
    ]
    for member in members:
        for c in member.certificates:
            if c.files:
                found.append(Secret(member.guest.name, f"{c.name}.crt", c.files.certificate))
                found.append(Secret(member.guest.name, f"{c.name}.key", c.files.key))
            if c.directory:
                for variable, reference in c.directory.environment:
                    name = f"{c.directory.name}.{variable}"
                    found.append(Secret(member.guest.name, name, reference))
    return tuple(dict.fromkeys(sorted(found, key=lambda s: (s.guest, s.name))))


def start_order(guest: Guest) -> int:
    """A guest's place in the order of starts, as declared or by its role."""
    return guest.start.order or _START[guest.role]


# Wide apart, so that a guest of the operator's own fits between.
_START: Mapping[Role, int] = {"ca": 10, "mesh": 20, "gateway": 30, "service": 40}
