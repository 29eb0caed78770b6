"""Services by themselves: backends, health, what their protocol has no meaning for."""

from __future__ import annotations

from collections.abc import Iterator

from builder.checks.addresses import end_addresses, whole
from builder.checks.places import backend_place, exposure_place, host_place, service_place
from builder.checks.realised import realised
from builder.derive import inside_name
from builder.model import Backend, Host, Limits, Plain, Service, Site
from builder.network import ends
from builder.problems import Finding, Place, known

_LONGEST_INTERVAL = 3600
_LARGEST_BODY = 1 << 50
_NO_LIMITS = Limits(None, None, 0, None, ())
# Of one connection, not of a request: a proxy that passes them on breaks the next message.
_HOP_HEADERS = frozenset(
    {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)


def unknown_names(site: Site, host: Host) -> Iterator[Finding]:
    """Backends and callers that nothing of the name is declared for."""
    every = [e.name for e in ends(host)]
    for service in realised(site, host):
        for i, backend in enumerate(service.backends):
            if backend.name and backend.name not in every:
                message = (
                    f"backend '{backend.name}' is no guest or machine; {known(backend.name, every)}"
                )
                yield Finding(backend_place(service, i) / "name", message, "unknown-backend")
        for i, caller in enumerate(service.inside.callers or () if service.inside else ()):
            if caller not in every:
                message = f"caller '{caller}' is no guest or machine; {known(caller, every)}"
                place = service_place(service) / "inside" / "callers" / i
                yield Finding(place, message, "unknown-guest")


def unknown_scrapers(_: Site, host: Host) -> Iterator[Finding]:
    """Scrapers that nothing of the name is declared for."""
    every = [e.name for e in ends(host)]
    for i, name in enumerate(host.scrapers):
        if name not in every:
            message = f"scraper '{name}' is no guest or machine; {known(name, every)}"
            yield Finding(host_place(host) / "watch" / "scrapers" / i, message, "unknown-guest")


def backends(site: Site) -> Iterator[Finding]:
    """Backends that say too little, too much, or the same twice."""
    for service in site.services:
        seen: set[str] = set()
        fronted = service.front and not service.is_plain("backend")
        for i, backend in enumerate(service.backends):
            place = backend_place(service, i)
            yield from _backend(service, backend, place)
            target = f"{backend.name or backend.address}:{backend.port or service.port}"
            if target in seen:
                message = f"{target} is a backend of this service already; give it a `weight`"
                yield Finding(place, message, "duplicate-backend")
            elif backend.name in seen and fronted:
                message = f"'{backend.name}' is a backend already; a guest has one front a service"
                yield Finding(place, message, "duplicate-backend")
            seen |= {target, backend.name} - {""}


def _backend(service: Service, backend: Backend, place: Place) -> Iterator[Finding]:
    plain = service.is_plain("backend")
    if bool(backend.name) == (backend.address is not None):
        message = "a backend has a `name` or an `address`, and not both"
        yield Finding(place, message, "backend-target")
    elif backend.address is not None and not backend.server_name and not plain:
        message = "a backend given by address needs the `server_name` that its certificate bears"
        yield Finding(place, message, "missing-server-name")
    elif backend.server_name and (backend.name or plain):
        message = "`server_name` is for a backend given by `address`, over TLS"
        yield Finding((place / "server_name").named(), message, "no-effect")


def addressed_backends(site: Site, host: Host) -> Iterator[Finding]:
    """A backend given by the address of something that has a name."""
    named = {address: owner for address, _, owner in end_addresses(host)}
    for service in realised(site, host):
        for i, backend in enumerate(service.backends):
            if backend.address in named:
                message = f"{backend.address} is {named[backend.address]}: give it by its `name`"
                yield Finding(backend_place(service, i) / "address", message, "backend-target")


def health(site: Site) -> Iterator[Finding]:
    """Several backends without a check, and checks that come too late."""
    for service in site.services:
        place = service_place(service)
        if len(service.backends) > 1 and service.health is None:
            message = (
                f"service '{service.name}' has several backends and no `health` check: "
                f"a dead one would go on getting its share"
            )
            yield Finding((place / "backends").named(), message, "missing-health")
        if service.health and service.health.interval > _LONGEST_INTERVAL:
            message = "a check less than once in an hour finds a dead backend too late"
            yield Finding(place / "health" / "interval", message, "health-interval")
        if service.health and service.health.timeout > service.health.interval:
            message = (
                f"a check may take {service.health.timeout} s, "
                f"but the next one begins after {service.health.interval} s"
            )
            yield Finding(place / "health" / "timeout", message, "health-interval")


def protocol_fit(site: Site) -> Iterator[Finding]:
    """Options that a service's protocol has no meaning for."""
    for service in site.services:
        if service.protocol == "tcp":
            yield from _tcp(service)
        else:
            for i, exposure in enumerate(service.expose):
                if exposure.port is not None:
                    message = f"`port` is for tcp; protocol {service.protocol} is met on 443"
                    place = (exposure_place(service, i) / "port").named()
                    yield Finding(place, message, "protocol-option")
        yield from _asked(service)
        seen: set[str] = set()
        for i, plain in enumerate(service.plain):
            place = service_place(service) / "plain" / i / "hop"
            if message := _plain(service, plain):
                yield Finding(place, message, "protocol-option")
            if plain.hop in seen:
                message = f"hop '{plain.hop}' is plain by an entry above already"
                yield Finding(place, message, "duplicate-plain")
            seen.add(plain.hop)


def _asked(service: Service) -> Iterator[Finding]:
    if service.health is None or service.protocol not in {"grpc", "tcp"}:
        return
    how = "by connecting" if service.protocol == "tcp" else "by gRPC's own health protocol"
    there = {"path": service.health.path != "/", "status": service.health.status is not None}
    for key in (key for key, given in there.items() if given):
        message = f"a {service.protocol} service is asked {how}, which has no `{key}`"
        place = service_place(service) / "health" / key
        yield Finding(place.named(), message, "protocol-option")


def _tcp(service: Service) -> Iterator[Finding]:
    place = service_place(service)
    for i, exposure in enumerate(service.expose):
        at = exposure_place(service, i)
        if exposure.port is None:
            message = "a tcp service is exposed on a `port` of its own: `{name: …, port: …}`"
            yield Finding(at, message, "missing-port")
        if exposure.path != "/" or exposure.strip:
            key = "path" if exposure.path != "/" else "strip"
            yield Finding((at / key).named(), "tcp knows no paths", "protocol-option")
    if service.inside and service.inside.path != "/":
        at = (place / "inside" / "path").named()
        yield Finding(at, "tcp knows no paths", "protocol-option")
    limits = service.limits
    used = {
        place / "sticky": bool(service.sticky),
        place / "headers": bool(service.request_headers or service.response_headers),
        place / "limits" / "body": limits.body is not None,
        place / "limits" / "rate": limits.rate is not None,
    }
    for at, there in used.items():
        if there:
            message = f"`{at.path[-1]}` is about requests, which tcp has none of"
            yield Finding(at.named(), message, "protocol-option")


def _plain(service: Service, plain: Plain) -> str:
    """Why a hop can't be plain, "" where it can."""
    match plain.hop, service.protocol:
        case "outside", _ if not service.expose:
            return "the service is not exposed, so there is no hop from outside"
        case "mesh", "tcp":
            return "the mesh tells tcp services apart by the name in the TLS handshake"
        case "outside", ("grpc" | "h2c") as protocol:
            return f"{protocol} from outside needs TLS to agree on HTTP/2"
        case "backend", "https":
            return "protocol https is TLS: say `protocol: http` if the program speaks plain text"
    return ""


def ways(site: Site) -> Iterator[Finding]:
    """Services that nothing leads to, and prefixes to strip that are none."""
    for service in site.services:
        if not service.expose and service.inside is None:
            message = f"nothing leads to '{service.name}': it has neither `expose` nor `inside`"
            yield Finding(service_place(service).named(), message, "no-effect")
        for i, exposure in enumerate(service.expose):
            if exposure.strip and exposure.path == "/" and service.protocol != "tcp":
                message = "`strip` takes the `path` off, and none is given"
                place = exposure_place(service, i) / "strip"
                yield Finding(place.named(), message, "no-effect")


def limits(site: Site) -> Iterator[Finding]:
    """Limits that mean nothing, or something else than they say."""
    for service in site.services:
        place, given = service_place(service) / "limits", service.limits
        if given != _NO_LIMITS and not service.expose:
            message = "limits are for clients outside, and nothing exposes the service to them"
            yield Finding(place.named(), message, "no-effect")
        if given.burst and given.rate is None:
            message = "`burst` is what is let through above `rate`, which is not given"
            yield Finding((place / "burst").named(), message, "no-effect")
        if given.body is not None and given.body > _LARGEST_BODY:
            message = "`body` can be 1024TiB at most; say `unlimited` if none is meant"
            yield Finding(place / "body", message, "out-of-range")
        for i, clients in enumerate(given.clients):
            yield from whole(clients, place / "clients" / i)


def names_and_headers(site: Site) -> Iterator[Finding]:
    """Names that are too long, and headers that are no one's to set."""
    for service in site.services:
        place = service_place(service)
        yield from _headers(service.request_headers, place / "headers" / "request")
        yield from _headers(service.response_headers, place / "headers" / "response")
        length = len(inside_name(site, service))
        if length > 253:
            message = f"'{inside_name(site, service)}' has {length} characters; 253 are possible"
            yield Finding(place.named(), message, "name-too-long")


def _headers(headers: tuple[tuple[str, str], ...], place: Place) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name, _ in headers:
        at, lower = (place / name).named(), name.lower()
        if lower in seen:
            message = f"'{name}' and '{seen[lower]}' are the same header"
            yield Finding(at, message, "duplicate-header")
        if lower in _HOP_HEADERS:
            message = f"'{name}' is the proxies' own affair on each connection"
            yield Finding(at, message, "reserved-header")
        seen.setdefault(lower, name)
