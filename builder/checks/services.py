"""Services, the names under which they are reached, and their certificates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from builder.checks.places import SITE, host_place, service_place
from builder.derive import fronted, inside_name
from builder.model import Backend, Guest, Host, Service, Site
from builder.network import RESERVED_PORTS, ends
from builder.problems import Finding, Place, known

_SHORTEST = 300
"""Seconds; a certificate that lives shorter leaves no time for a second try to renew it."""


def realised(site: Site, host: Host) -> list[Service]:
    """The site's services that a host realises."""
    return [s for s in site.services if host.services is None or s.name in host.services]


def unknown_names(site: Site, host: Host) -> Iterator[Finding]:
    """Backends, callers and services that nothing of the name is declared for."""
    every = [e.name for e in ends(host)]
    names = [s.name for s in site.services]
    for i, name in enumerate(host.services or ()):
        if name not in names:
            message = f"service '{name}' is not defined; {known(name, names)}"
            yield Finding(host_place(host) / "services" / i, message, "unknown-service")
    for service in realised(site, host):
        place = service_place(service)
        for i, backend in enumerate(service.backends):
            if backend.name and backend.name not in every:
                message = (
                    f"backend '{backend.name}' is no guest or machine of host '{host.name}'; "
                    f"{known(backend.name, every)}"
                )
                yield Finding(place / "backends" / i / "name", message, "unknown-backend")
        for i, caller in enumerate(service.inside.callers or () if service.inside else ()):
            if caller not in every:
                message = (
                    f"caller '{caller}' is no guest or machine of host '{host.name}'; "
                    f"{known(caller, every)}"
                )
                yield Finding(place / "inside" / "callers" / i, message, "unknown-guest")


def backends(site: Site) -> Iterator[Finding]:
    """Backends that say too little, too much, or the same twice."""
    for service in site.services:
        place = service_place(service) / "backends"
        seen: set[str] = set()
        for i, backend in enumerate(service.backends):
            yield from _backend(service, backend, place / i)
            target = f"{backend.name or backend.address}:{backend.port or service.port}"
            if target in seen:
                message = f"{target} is a backend of this service already; give it a `weight`"
                yield Finding(place / i, message, "duplicate-backend")
            seen.add(target)


def _backend(service: Service, backend: Backend, place: Place) -> Iterator[Finding]:
    if bool(backend.name) == (backend.address is not None):
        message = "a backend has a `name` or an `address`, and not both"
        yield Finding(place, message, "backend-target")
    plain = service.is_plain("backend")
    if backend.address is not None and not backend.server_name and not plain:
        message = "a backend given by address needs the `server_name` that its certificate bears"
        yield Finding(place, message, "missing-server-name")


def health(site: Site) -> Iterator[Finding]:
    """Several backends without a check, and checks that the protocol has no word for."""
    for service in site.services:
        place = service_place(service)
        if len(service.backends) > 1 and service.health is None:
            message = f"service '{service.name}' has several backends and no health check"
            hint = "a dead one would go on getting its share"
            yield Finding(place / "backends", f"{message}: {hint}", "missing-health")
        if service.health and service.health.timeout > service.health.interval:
            message = "a health check takes longer than the interval to the next one"
            yield Finding(place / "health" / "timeout", message, "health-timeout")


def protocol_fit(site: Site) -> Iterator[Finding]:
    """Options that a service's protocol has no meaning for."""
    for service in site.services:
        place = service_place(service)
        if service.protocol == "tcp":
            yield from _tcp(service, place)
        else:
            for i, exposure in enumerate(service.expose):
                if exposure.port is not None:
                    message = f"`port` is for tcp; protocol {service.protocol} is met on 443"
                    yield Finding(place / "expose" / i / "port", message, "protocol-option")
        yield from _plain(service, place)


def _tcp(service: Service, place: Place) -> Iterator[Finding]:
    for i, exposure in enumerate(service.expose):
        if exposure.port is None:
            message = "a tcp service is exposed with a `port` of the gateway of its own"
            yield Finding(place / "expose" / i, message, "missing-port")
        if exposure.path != "/" or exposure.strip:
            message = "tcp knows no paths"
            yield Finding(place / "expose" / i / "path", message, "protocol-option")
    used = {
        "sticky": bool(service.sticky),
        "headers": bool(service.request_headers or service.response_headers),
        "limits": service.limits.body is not None or service.limits.rate is not None,
    }
    for key, there in used.items():
        if there:
            message = f"tcp has no requests for `{key}` to apply to"
            if key == "limits":
                message = "tcp has no requests for `body` and `rate` to apply to"
            yield Finding((place / key).named(), message, "protocol-option")


def _plain(service: Service, place: Place) -> Iterator[Finding]:
    hops = Counter(p.hop for p in service.plain)
    for i, plain in enumerate(service.plain):
        at = place / "plain" / i / "hop"
        if hops[plain.hop] > 1 and [p.hop for p in service.plain].index(plain.hop) != i:
            yield Finding(at, f"hop '{plain.hop}' is plain already", "duplicate-plain")
        if plain.hop == "outside" and not service.expose:
            yield Finding(at, "the service is not exposed: there is no such hop", "protocol-option")
        if plain.hop == "mesh" and service.protocol == "tcp":
            message = "the mesh tells tcp services apart by the name in the TLS handshake"
            yield Finding(at, message, "protocol-option")
        if plain.hop == "outside" and service.protocol in {"grpc", "h2c"}:
            message = f"{service.protocol} from outside needs TLS to agree on HTTP/2"
            yield Finding(at, message, "protocol-option")
        if plain.hop == "backend" and service.protocol == "https":
            message = "protocol https is TLS: say `protocol: http` if the program speaks plain text"
            yield Finding(at, message, "protocol-option")


def exposed_names(site: Site, host: Host) -> Iterator[Finding]:
    """Exposed names that mean two things, and ports of the gateway that two services want."""
    paths: dict[tuple[str, str], str] = {}
    ports: dict[int, str] = {80: "the ACME challenge and the redirect", 443: "https"}
    own = internal_names(site, host)
    for service in realised(site, host):
        for i, exposure in enumerate(service.expose):
            place = service_place(service) / "expose" / i
            if exposure.name in own:
                message = f"'{exposure.name}' is the internal name of {own[exposure.name]}"
                yield Finding(place / "name", message, "duplicate-name")
            if service.protocol == "tcp":
                if exposure.port in ports:
                    message = (
                        f"port {exposure.port} of the gateway belongs to {ports[exposure.port]}"
                    )
                    yield Finding(place / "port", message, "duplicate-listener")
                elif exposure.port is not None:
                    ports[exposure.port] = f"service '{service.name}'"
                continue
            key = (exposure.name, exposure.path.rstrip("/"))
            if key in paths:
                message = (
                    f"'{exposure.name}{exposure.path}' leads to service '{paths[key]}' already"
                )
                yield Finding(place, message, "duplicate-exposed-name")
            paths.setdefault(key, service.name)


def internal_names(site: Site, host: Host) -> dict[str, str]:
    """Every internal name of a host's network, and whose it is."""
    found = {f"{e.name}.{site.domain}": f"guest '{e.name}'" for e in host.guests}
    found |= {f"{m.name}.{site.domain}": f"machine '{m.name}'" for m in host.machines}
    found |= {inside_name(site, s): f"service '{s.name}'" for s in site.services}
    return found | {f"{host.name}.{site.domain}": f"host '{host.name}'"}


def listeners(site: Site, host: Host) -> Iterator[Finding]:
    """Programs of one guest that want the same port, or one that is not to be had."""
    services = realised(site, host)
    for guest in host.guests:
        used: dict[int, str] = {}
        behind = dict.fromkeys(s.name for s, _ in fronted(guest.name, services))
        for service in services:
            for i, backend in enumerate(service.backends):
                if backend.name != guest.name:
                    continue
                port = backend.port or service.port
                place = service_place(service) / "backends" / i
                yield from _port(
                    guest, port, used, place, certified=not service.is_plain("backend")
                )
                if service.name in behind and port in RESERVED_PORTS:
                    message = f"port {port} of a guest with fronts is one of its slots'"
                    yield Finding(place, message, "reserved-port")
                used[port] = service.name


def _port(
    guest: Guest, port: int, used: dict[int, str], place: Place, *, certified: bool
) -> Iterator[Finding]:
    if guest.role != "service":
        message = (
            f"guest '{guest.name}' is the {guest.role}; services run in guests of role service"
        )
        yield Finding(place, message, "wrong-role")
    elif port in used:
        message = f"port {port} of guest '{guest.name}' belongs to service '{used[port]}' already"
        yield Finding(place, message, "duplicate-listener")
    elif port == 80 and certified:
        message = f"port 80 of guest '{guest.name}' is for ACME challenges"
        yield Finding(place, message, "reserved-port")


def certificates(site: Site) -> Iterator[Finding]:
    """Certificate sources for names that nothing exposes, or from unknown directories."""
    exposed = {e.name for s in site.services for e in s.expose}
    directories = [d.name for d in site.directories]
    for name, source in site.certificates.items():
        place = SITE / "certificates" / name
        if name not in exposed:
            message = f"no service exposes '{name}'; {known(name, exposed)}"
            yield Finding(place.named(), message, "unknown-exposed-name")
        if source.kind == "acme" and source.acme not in directories:
            message = f"directory '{source.acme}' is not defined; {known(source.acme, directories)}"
            yield Finding(place / "acme", message, "unknown-directory")
    for directory in site.directories:
        place = SITE / "acme" / directory.name
        if directory.challenge == "dns-01" and not directory.provider:
            yield Finding(place, "dns-01 needs the `provider` of the zone", "missing-provider")
        if directory.challenge == "http-01" and (directory.provider or directory.environment):
            key = "provider" if directory.provider else "environment"
            message = f"`{key}` is for dns-01; the challenge is http-01"
            yield Finding((place / key).named(), message, "protocol-option")


def lifetimes(site: Site) -> Iterator[Finding]:
    """Certificates that would end before they can be renewed."""
    ca, place = site.ca, SITE / "ca"
    if ca.lifetime < _SHORTEST:
        message = f"a lifetime under {_SHORTEST // 60} minutes leaves no time to renew"
        yield Finding(place / "lifetime", message, "lifetime-too-short")
    elif ca.renew >= ca.lifetime:
        message = "a certificate would be due for renewal when it is given out"
        yield Finding(place / "renew", message, "lifetime-too-short")
    elif ca.renew < max(_SHORTEST // 3, ca.lifetime // 50):
        message = "too little time to renew: one failed attempt or two would end the certificate"
        yield Finding(place / "renew", message, "lifetime-too-short")
    if ca.intermediate_lifetime < 2 * ca.lifetime:
        message = (
            "the intermediate would end before what it signs; give it twice `lifetime` or more"
        )
        yield Finding(place / "intermediate_lifetime", message, "lifetime-too-short")
    if ca.root_lifetime < ca.intermediate_lifetime:
        message = "the root would end before the intermediates that it signs"
        yield Finding(place / "root_lifetime", message, "lifetime-too-short")


def mesh_ports(site: Site, host: Host) -> Iterator[Finding]:
    """A tcp exposure on a port that the slots of the gateway use."""
    for service in realised(site, host):
        for i, exposure in enumerate(service.expose):
            if exposure.port is not None and exposure.port in RESERVED_PORTS:
                place = service_place(service) / "expose" / i / "port"
                message = f"port {exposure.port} of the gateway is one of its slots'"
                yield Finding(place, message, "reserved-port")
