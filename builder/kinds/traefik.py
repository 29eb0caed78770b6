"""The mesh: Traefik's static file for each slot, and its dynamic files, dumped as data.

What follows from Traefik's ways (tried with the pinned 3.7):

- A dynamic file that it can't take refuses the whole directory, so files are small and made of
  data; it runs them through Go's templates first, so no text may hold an opening `{{`.
- A backend's certificate is verified by the name in its transport, so each backend is a Traefik
  service of its own, and a declared service is their weighted sum. Addresses stand in the files
  and not names: a slot that starts must not depend on the hosts block of another generation.
- Who calls is told by the address of the connection, never by a header.
- With `sniStrict`, a handshake fails until the mesh's certificate is there: its own self-signed
  one is never shown.

A declared prefix is matched by whole segments, and a slash at its end says nothing: `/v1` and
`/v1/` both match `/v1` and `/v1/models`, neither `/v1beta` nor `/v1/..%2Fadmin`.

Draining: with a slot's link led to the folder `traefik/draining` and SIGHUP, the slot asks its
clients to close their connections; both directories differ in `_slot.yaml` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from builder import emit
from builder.kinds.artifact import Artifact, GuestFiles
from builder.kinds.traefik_static import (
    CERTIFICATES,
    ENTRY,
    METRICS_ENTRY,
    ROOT,
    static,
)
from builder.kinds.traefik_view import Child, Mesh, Route, view
from builder.model import Address, Health, Profile
from builder.network import Network
from builder.tree import Entry, File, Link, Tree

KIND = "traefik"
DYNAMIC = "traefik/dynamic"
DRAINING = "traefik/draining"

# By what programs let themselves be told who asks, how and for what, beside the headers that
# Traefik looks after itself. The gateway lets none of them in, so what comes is a guest's word.
# Which person asks (X-Forwarded-User and the like) is a guest's to say.
_UNBELIEVED = (
    "Forwarded",
    "True-Client-IP",
    "X-Client-IP",
    "X-Cluster-Client-IP",
    "X-Forwarded-Scheme",
    "X-Forwarded-Ssl",
    "X-Original-URL",
    "X-Rewrite-URL",
)

# A segment `..` behind or before an escaped slash. Traefik resolves dot segments, but escaped
# slashes are none to it; to a program they may be, and would lead out of a prefix.
_WAY_OUT = r"(?i)(/|%2f)\.\.(/|%2f|$)"

_MOST_TRIES = 3

# What a front answers whose program has seen nothing of the request; then the next backend is asked
# which is not always another one, since others ask meanwhile. A small body is held until then where
# the gateway holds it too; elsewhere it passes as it comes, and a request with one is not repeated.
_UNREACHED, _TRIES_UNREACHED = "521", 12
_HELD: Mapping[Profile, int] = dict.fromkeys(("web", "websocket", "slow"), 64 << 10)

Data = dict[str, Any]


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """The mesh guest's files: two static ones, a dynamic one for each service and two shared."""
    return (GuestFiles(KIND, network.mesh.guest.name, Tree.of(_files(network))),)


def _files(network: Network) -> Iterable[Entry]:
    for slot in ("a", "b"):
        yield File(f"traefik/{slot}.yaml", dump(static(network, slot)))
    shared = {"_mesh.yaml": _shared(network)}
    shared |= {f"{mesh.routed.service.name}.yaml": _service(mesh) for mesh in view(network)}
    for name, data in shared.items():
        yield File(f"{DYNAMIC}/{name}", dump(data))
        yield Link(f"{DRAINING}/{DYNAMIC}/{name}", f"../../../dynamic/{name}")
    yield File(f"{DYNAMIC}/_slot.yaml", dump(_slot(draining=False)))
    yield File(f"{DRAINING}/{DYNAMIC}/_slot.yaml", dump(_slot(draining=True)))


def dump(data: Mapping[str, object]) -> bytes:
    """YAML that Go's templates leave as it is: in it, `{{` stands as an escape of YAML's own."""
    return emit.yaml_text(data).replace(b"{{", b"{\\x7b")


def _slot(draining: bool) -> Data:
    """The first middleware of every entry point: it takes off what nobody is believed, and makes
    clients let go of a slot that drains."""
    headers: Data = {"customRequestHeaders": dict.fromkeys(_UNBELIEVED, "")}
    if draining:
        headers["customResponseHeaders"] = {"Connection": "close"}
    return {"http": {"middlewares": {"slot": {"headers": headers}}}}


def _shared(network: Network) -> Data:
    """TLS of the mesh, and the API on loopback."""
    folder = f"{CERTIFICATES}/{network.mesh.fqdn}"
    certificate = {"certFile": f"{folder}/certificate.pem", "keyFile": f"{folder}/key.pem"}
    api = {"entryPoints": ["api"], "rule": "PathPrefix(`/api`)", "service": "api@internal"}
    routers = {"api": api, **_metrics(network)}
    options = {
        "minVersion": "VersionTLS12",
        "sniStrict": True,
        # Nobody has to have one. But who was asked is answered, and so its last word acknowledged:
        # the gateway's nginx holds its first request back until then (decision 017).
        "clientAuth": {"clientAuthType": "RequestClientCert"},
    }
    return {
        "tls": {"certificates": [certificate], "options": {"default": options}},
        "http": {"routers": routers},
    }


def _metrics(network: Network) -> Data:
    """The way to the metrics, for scrapers alone."""
    clients = tuple(a for name in sorted(network.host.scrapers) for a in network.addresses(name))
    if not clients:
        return {}
    rule = f"Path(`/metrics`) && {_any_of(clients)}"
    service = "prometheus@internal"
    router = {"entryPoints": [METRICS_ENTRY], "rule": rule, "service": service, "tls": {}}
    return {"metrics": router}


def _service(mesh: Mesh) -> Data:
    return {"tcp": _tcp(mesh)} if mesh.routed.service.protocol == "tcp" else {"http": _http(mesh)}


def _weighted(mesh: Mesh) -> Data:
    """The sum of a service's backends. Sticky sessions are for HTTP only."""
    service = mesh.routed.service
    found: Data = {"services": [{"name": c.name, "weight": c.weight} for c in mesh.children]}
    if service.health:
        found["healthCheck"] = {}
    if service.sticky and service.protocol != "tcp":
        # A browser sends a secure cookie over TLS only, and sees the outermost hop.
        secure = not (service.is_plain("outside") or service.is_plain("mesh"))
        cookie = {"name": service.sticky, "httpOnly": True, "sameSite": "lax", "secure": secure}
        found["sticky"] = {"cookie": cookie}
    return found


def _http(mesh: Mesh) -> Data:
    name, middlewares = mesh.routed.service.name, _middlewares(mesh)
    found: Data = {
        "routers": {route.name: _router(mesh, route) for route in mesh.routes},
        "services": {name: {"weighted": _weighted(mesh)}},
        "serversTransports": {c.name: _transport(mesh, c) for c in mesh.children},
    }
    for child in mesh.children:
        balancer: Data = {
            "servers": [{"url": child.url}],
            "passHostHeader": True,
            "serversTransport": child.name,
        }
        if mesh.routed.service.health:
            balancer["healthCheck"] = _health(mesh, child, mesh.routed.service.health)
        found["services"][child.name] = {"loadBalancer": balancer}
    return {**found, "middlewares": middlewares} if middlewares else found


def _middlewares(mesh: Mesh) -> Data:
    """By name. A router uses those of its service, and the one named as it is."""
    service, found = mesh.routed.service, {}
    headers: Data = {}
    if service.request_headers:
        headers["customRequestHeaders"] = dict(service.request_headers)
    if service.response_headers:
        headers["customResponseHeaders"] = dict(service.response_headers)
    if headers:
        found[f"headers.{service.name}"] = {"headers": headers}
    if len(mesh.children) > 1:
        # Only a request of which no program has seen a byte goes to another backend.
        retry: Data = {"attempts": min(len(mesh.children), _MOST_TRIES)}
        if mesh.fronted:
            retry |= {
                "attempts": _TRIES_UNREACHED,
                "status": [_UNREACHED],
                "retryNonIdempotentMethod": True,
                "maxRequestBodyBytes": _HELD.get(service.profile, 0),
            }
        found[f"retry.{service.name}"] = {"retry": retry}
    for route in mesh.routes:
        if route.strip:
            found[route.name] = {"stripPrefix": {"prefixes": [route.strip]}}
    return found


def _router(mesh: Mesh, route: Route) -> Data:
    service = mesh.routed.service
    rules = [f"Host(`{route.host}`)"]
    if route.path:
        rules.append(f"(Path(`{route.path}`) || PathPrefix(`{route.path}/`))")
        rules.append(f"!PathRegexp(`{_WAY_OUT}`)")
    found: Data = {
        "entryPoints": [mesh.entry],
        "rule": " && ".join([*rules, *_client_rules(route)]),
        "priority": 1 + len(route.path),
        "service": service.name,
    }
    wanted = {f"headers.{service.name}", f"retry.{service.name}", route.name}
    if used := [name for name in _middlewares(mesh) if name in wanted]:
        found["middlewares"] = used
    return {**found, "tls": {}} if mesh.entry == ENTRY else found


def _client_rules(route: Route) -> Iterable[str]:
    if route.clients:
        yield _any_of(route.clients)
    for address in route.others:
        yield f"!ClientIP(`{address}`)"


def _any_of(clients: Iterable[Address]) -> str:
    return f"({' || '.join(f'ClientIP(`{address}`)' for address in clients)})"


def _transport(mesh: Mesh, child: Child) -> Data:
    # HTTP/2 only where it is needed: its GOAWAY makes a 500 of a POST in flight.
    both_ways = mesh.routed.service.protocol in {"h2c", "grpc"}
    timeouts: Data = {
        "dialTimeout": "5s",
        "responseHeaderTimeout": "0s",
        "idleConnTimeout": child.idle,
    }
    if both_ways:
        timeouts |= {"readIdleTimeout": "30s", "pingTimeout": "15s"}
    found: Data = {
        "disableHTTP2": not both_ways,
        "maxIdleConnsPerHost": 500,
        "forwardingTimeouts": timeouts,
    }
    return {**found, **_verified(child)} if child.server_name else found


def _verified(child: Child) -> Data:
    return {"serverName": child.server_name, "rootCAs": [ROOT]}


def _health(mesh: Mesh, child: Child, health: Health) -> Data:
    found: Data = {"interval": f"{health.interval}s", "timeout": f"{health.timeout}s"}
    protocol = mesh.routed.service.protocol
    if protocol == "grpc" and not child.server_name:
        return {**found, "mode": "grpc", "scheme": "http"}
    found["followRedirects"] = False
    if child.server_name:
        found["hostname"] = child.server_name
    if protocol == "grpc":
        # Its gRPC mode knows no TLS. Asked like this, a gRPC server answers with status 200,
        # whatever it thinks of its health; a front without its program does not.
        headers = {"Content-Type": "application/grpc", "TE": "trailers"}
        path = "/grpc.health.v1.Health/Check"
        return {**found, "path": path, "method": "POST", "headers": headers, "status": 200}
    found["path"] = health.path
    return found if health.status is None else {**found, "status": health.status}


def _tcp(mesh: Mesh) -> Data:
    service = mesh.routed.service
    found: Data = {"routers": {}, "services": {service.name: {"weighted": _weighted(mesh)}}}
    for route in mesh.routes:
        rule = " && ".join([f"HostSNI(`{route.host}`)", *_client_rules(route)])
        router = {"entryPoints": [mesh.entry], "rule": rule, "service": service.name, "tls": {}}
        found["routers"][route.name] = router
    transports = found["serversTransports"] = {}
    for child in mesh.children:
        balancer: Data = {
            "servers": [{"address": child.url, "tls": bool(child.server_name)}],
            "serversTransport": child.name,
        }
        if service.health:
            interval, timeout = f"{service.health.interval}s", f"{service.health.timeout}s"
            balancer["healthCheck"] = {"interval": interval, "timeout": timeout}
        found["services"][child.name] = {"loadBalancer": balancer}
        # After one side has said all, the other may take a minute to finish (default: 0.1 s).
        transports[child.name] = {"dialTimeout": "5s", "terminationDelay": "60s"}
        if child.server_name:
            transports[child.name]["tls"] = _verified(child)
    return found
