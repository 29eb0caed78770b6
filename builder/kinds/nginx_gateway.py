"""nginx on the gateway: TLS for clients outside, limits, and verified TLS to the mesh.

A name is one server, a service one file that its locations include. A declared prefix is matched
by whole segments, and a slash at its end says nothing, as in the mesh: `/v1` and `/v1/` are both
`/v1` and all below `/v1/`, not `/v1beta`; the longest declared prefix wins. It stays in what the
mesh gets, which routes by it and takes it off (`strip`).

The mesh decides anew which service a request is for. Where several share a name, it therefore gets
the path as nginx understood it, with escapes and dot segments resolved: the limits of one service
can't be walked around under the prefix of another. A sole service gets the path as it was sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_network

from builder import emit
from builder.derive import inside_name
from builder.emit.fixed import fixed
from builder.kinds import nginx_common as common
from builder.kinds.nginx_common import Handling, Public, Slot
from builder.model import Service
from builder.network import PLAIN_MESH_PORT, Certificate, Exposed, Network
from builder.tree import File

_WORKERS = 8
_FIXED = ("clients.conf", "misdirected.conf", "redirect.conf")

# By what programs and their frameworks let themselves be told who asks, how and for what: proxies'
# own names, and those of proxies that log people in, of which there is none before the gateway.
_UNBELIEVED = (
    "Forwarded",
    "True-Client-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Forwarded-Access-Token",
    "X-Forwarded-Email",
    "X-Forwarded-Groups",
    "X-Forwarded-Method",
    "X-Forwarded-Preferred-Username",
    "X-Forwarded-Prefix",
    "X-Forwarded-Scheme",
    "X-Forwarded-Server",
    "X-Forwarded-Ssl",
    "X-Forwarded-Tls-Client-Cert",
    "X-Forwarded-Tls-Client-Cert-Info",
    "X-Forwarded-Uri",
    "X-Forwarded-User",
    "X-Original-URL",
    "X-Rewrite-URL",
)


@dataclass(frozen=True, slots=True)
class Limits:
    """`body` in bytes, 0 without limit; `rate` as nginx takes it, empty without limit;
    `connections` 0 without limit. A zone counts clients, 10 MB hold some 80 000.
    """

    body: int
    rate: str
    rate_zone: str
    burst: int
    connections: int
    connections_zone: str
    clients: tuple[str, ...]

    @property
    def rate_parameter(self) -> str:
        return f"zone={self.rate_zone}"

    @property
    def rate_definition(self) -> str:
        return f"zone={self.rate_zone}:10m"

    @property
    def connections_definition(self) -> str:
        return f"zone={self.connections_zone}:10m"


@dataclass(frozen=True, slots=True)
class Passed:
    """A service that clients outside reach over HTTP, and the URL of the mesh it is passed to."""

    name: str
    url: str
    how: Handling
    limits: Limits


@dataclass(frozen=True, slots=True)
class Location:
    """Paths of a name: one (`exact`), or all that begin with `path`.

    `resolved`: the mesh gets the path as nginx understood it.
    """

    path: str
    exact: bool
    include: str
    resolved: bool


@dataclass(frozen=True, slots=True)
class Site:
    """An exposed name. `plain` are its locations on port 80, where it has any; there, `challenge`
    says that ACME proves the name by a file, and `redirect` that all else is sent on to HTTPS."""

    name: str
    delivered: bool
    locations: tuple[Location, ...]
    challenge: bool
    plain: tuple[Location, ...]
    redirect: bool

    @property
    def whole(self) -> bool:
        """Whether each path of the name has a location."""
        return any(x.path == "/" for x in self.locations)

    @property
    def plain_whole(self) -> bool:
        return any(x.path == "/" for x in self.plain)


@dataclass(frozen=True, slots=True)
class Delivered:
    """The files of one name's certificate and key, as parameters of nginx."""

    name: str
    certificate: str
    key: str


@dataclass(frozen=True, slots=True)
class Stream:
    """A tcp service on its own public port; `tls` to the client.

    `inside` is the name by which the mesh knows the service, and which its certificate must bear.
    `certificates` by the name that the client asks for; the first also where it names none.
    """

    service: str
    port: int
    tls: bool
    certificates: tuple[Delivered, ...]
    inside: str
    idle: int
    limits: Limits


@dataclass(frozen=True, slots=True)
class Upstream:
    """A group of connections to the mesh."""

    name: str
    server: str


@dataclass(frozen=True, slots=True)
class View:
    """All that the gateway's files say."""

    mesh: str
    slots: tuple[Slot, ...]
    sites: tuple[Site, ...]
    services: tuple[Passed, ...]
    upstreams: tuple[Upstream, ...]
    streams: tuple[Stream, ...]
    stream_mesh: str
    unbelieved: tuple[str, ...] = _UNBELIEVED

    @property
    def stream_limits(self) -> tuple[Limits, ...]:
        """Those of each tcp service once, on however many ports it is."""
        return tuple(dict.fromkeys(s.limits for s in self.streams))


def view(network: Network) -> View:
    """What the gateway of `network` does."""
    services = {x.service.name: x.service for x in network.exposed}
    passed = tuple(_passed(s) for s in services.values() if s.protocol != "tcp")
    sites, streams = tuple(_sites(network)), tuple(_streams(network))
    member = network.gateway
    tcp = (common.stream_server(member.listener(s.port), s.tls) for s in streams)
    return View(
        mesh=network.mesh.fqdn,
        slots=common.slots(member, _servers(network, sites), tcp),
        sites=sites,
        services=tuple(sorted(passed, key=lambda p: p.name)),
        upstreams=_upstreams(network, (p.url.partition("://")[2] for p in passed)),
        streams=streams,
        stream_mesh=f"{network.mesh.guest.address}:443",
    )


def files(network: Network) -> Iterable[File]:
    """The gateway's files, below its generation's folder."""
    seen = view(network)
    yield from common.files("gateway", network.gateway, seen, _WORKERS)
    for name in _FIXED:
        yield File(f"nginx/{name}", fixed(f"gateway/nginx/{name}"))
    for passed in seen.services:
        path = f"services/{passed.name}.conf"
        yield common.text(path, "gateway/nginx/service.conf.j2", service=passed)
    for site in seen.sites:
        if site.locations:
            yield common.text(f"sites/{site.name}.conf", "gateway/nginx/site.conf.j2", site=site)
        yield common.text(f"plain/{site.name}.conf", "gateway/nginx/plain.conf.j2", site=site)


def _servers(network: Network, sites: tuple[Site, ...]) -> Iterable[Public]:
    plain, tls = network.gateway.listener(80), network.gateway.listener(443)
    yield Public(plain, ("closed.conf",), tls=False, default=True)
    for site in sites:
        yield Public(plain, (f"plain/{site.name}.conf",), site.name, tls=False)
    refused = ("reject.conf", "server.conf", "misdirected.conf")
    yield Public(tls, refused, http2=True, default=True)
    for site in sites:
        if site.locations:
            yield Public(tls, (f"sites/{site.name}.conf",), site.name, http2=True)


def _passed(service: Service) -> Passed:
    limit = common.body_limit(service)
    how = common.handling(service, limit)
    plain = service.is_plain("mesh")
    scheme = {
        (False, False): "https://mesh",
        (False, True): "http://mesh-plain",
        (True, False): "grpcs://mesh-h2",
        (True, True): "grpc://mesh-h2-plain",
    }[how.http2, plain]
    return Passed(service.name, scheme, how, _limits(service, limit))


def _limits(service: Service, body: int) -> Limits:
    limits, rate = service.limits, ""
    if limits.rate is not None:
        requests, seconds = limits.rate
        rate = f"rate={requests}r/{'s' if seconds == 1 else 'm'}"
    return Limits(
        body=body,
        rate=rate,
        rate_zone=f"rate-{service.name}",
        burst=limits.burst,
        connections=limits.connections or 0,
        connections_zone=f"connections-{service.name}",
        clients=tuple(str(ip_network(c, strict=False)) for c in limits.clients),
    )


def _upstreams(network: Network, used: Iterable[str]) -> tuple[Upstream, ...]:
    address = network.mesh.guest.address
    return tuple(
        Upstream(name, f"{address}:{PLAIN_MESH_PORT if name.endswith('-plain') else 443}")
        for name in sorted(set(used))
    )


def _sites(network: Network) -> Iterable[Site]:
    for certificate in network.gateway.certificates:
        every = [x for x in network.exposed if x.name == certificate.name]
        http = [x for x in every if x.service.protocol != "tcp"]
        yield Site(
            name=certificate.name,
            delivered=certificate.files is not None,
            locations=_locations(http),
            challenge=certificate.files is None and certificate.challenge == "webroot",
            plain=_plain_locations(http),
            redirect=bool(http),
        )


def _locations(exposed: list[Exposed]) -> tuple[Location, ...]:
    """The locations of all HTTP services of a name."""
    resolved = len({x.service.name for x in exposed}) > 1
    return tuple(
        location
        for x in exposed
        for location in _prefix(x.path, f"services/{x.service.name}.conf", resolved)
    )


def _plain_locations(exposed: list[Exposed]) -> tuple[Location, ...]:
    """The same on port 80: each prefix is served if that was asked for, else sent on to HTTPS."""
    if not any(x.service.is_plain("outside") for x in exposed):
        return ()
    served = {f"services/{x.service.name}.conf" for x in exposed if x.service.is_plain("outside")}
    return tuple(
        location if location.include in served else replace(location, include="redirect.conf")
        for location in _locations(exposed)
    )


def _prefix(path: str, include: str, resolved: bool) -> Iterable[Location]:
    segments = path.rstrip("/")
    if segments:
        yield Location(segments, True, include, resolved)
    yield Location(f"{segments}/", False, include, resolved)


def _streams(network: Network) -> Iterable[Stream]:
    exposed = [x for x in network.exposed if x.service.protocol == "tcp"]
    certificates = {c.name: c for c in network.gateway.certificates}
    for port in sorted({x.port for x in exposed}):
        here = [x for x in exposed if x.port == port]
        service = here[0].service
        assert all(x.service.name == service.name for x in here), f"two services on port {port}"
        # Plain on its way to the mesh it can't be: there, the handshake's name tells it apart.
        yield Stream(
            service=service.name,
            port=port,
            tls=not service.is_plain("outside"),
            certificates=tuple(_delivered(certificates[x.name]) for x in here),
            inside=inside_name(network.site, service),
            idle=common.stream_idle(service),
            limits=_limits(service, 0),
        )


def _delivered(certificate: Certificate) -> Delivered:
    """Where a name's files lie; a stream's server knows no $server_name, so each is spelled out."""
    name = certificate.name
    if certificate.files is None:
        folder = f"{common.CERTIFICATES}/{name}"
        return Delivered(name, f"{folder}/certificate.pem", f"{folder}/key.pem")
    # The slot's unit has them; what is quoted in here can't begin a variable.
    stem = f"$phoenix_credentials/{emit.nginx(name)}"
    return Delivered(name, emit.Raw(f"{stem}.crt"), emit.Raw(f"{stem}.key"))
