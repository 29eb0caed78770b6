"""What the mesh has to know of each service: the rules that lead to it, and its backends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from builder.kinds.traefik_static import ENTRY, PLAIN_ENTRY
from builder.model import Address
from builder.network import Backend, Network, Routed

# A front of ours keeps idle connections for longer; programs with a server of their own often for
# five seconds only (uvicorn, Node.js), and one that closes first loses the request in flight. Short
# also because a front's old slot drains until the last of them ends.
IDLE_FRONT, IDLE_PROGRAM = "10s", "4s"


@dataclass(frozen=True, slots=True)
class Route:
    """One rule by which requests find a service; `strip` is a prefix to take off, or empty."""

    name: str
    host: str
    path: str
    clients: tuple[Address, ...]
    others: tuple[Address, ...]
    strip: str


@dataclass(frozen=True, slots=True)
class Child:
    """One backend: `url` (tcp: an address with port), verified by `server_name` unless plain."""

    name: str
    url: str
    server_name: str
    weight: int
    idle: str


@dataclass(frozen=True, slots=True)
class Mesh:
    """One reached service; `entry` is its entry point."""

    routed: Routed
    entry: str
    routes: tuple[Route, ...]
    children: tuple[Child, ...]

    @property
    def fronted(self) -> bool:
        """Whether fronts of ours speak HTTP/1.1 for its programs."""
        http = self.routed.service.protocol == "http"
        return http and any(child.idle == IDLE_FRONT for child in self.children)


def view(network: Network) -> tuple[Mesh, ...]:
    """All services that are reached through the mesh, in the network's order."""
    found = []
    for routed in network.services:
        service = routed.service
        routes = (*_outside(network, routed), *_inside(network, routed))
        if routes:
            # tcp is told apart by the name in the handshake, so without one it can't be.
            plain = service.is_plain("mesh") and service.protocol != "tcp"
            children = tuple(_child(network, routed, b) for b in routed.backends)
            found.append(Mesh(routed, PLAIN_ENTRY if plain else ENTRY, routes, children))
    return tuple(found)


def _outside(network: Network, routed: Routed) -> Iterable[Route]:
    """What the gateway, and nobody else, may ask for."""
    service = routed.service
    gateway = network.addresses(network.gateway.guest.name)
    exposed = [x for x in network.exposed if x.service.name == service.name]
    if exposed and service.protocol == "tcp":
        yield Route(f"outside.{service.name}", _tcp_name(network, routed), "", gateway, (), "")
        return
    for x in exposed:
        path = _segments(x.path)
        strip = path if x.strip else ""
        # In a name, what follows "@" is to Traefik the provider that it comes from.
        name = f"outside.{x.name}{path}".replace("@", "%40")
        yield Route(name, x.name, path, gateway, (), strip)


def _inside(network: Network, routed: Routed) -> Iterable[Route]:
    """What guests and machines may ask for: the declared callers, or all but the gateway."""
    service = routed.service
    if service.inside is None:
        return
    others: tuple[Address, ...] = ()
    clients: tuple[Address, ...] = ()
    if routed.callers is None:
        others = network.addresses(network.gateway.guest.name)
    else:
        clients = tuple(a for name in sorted(routed.callers) for a in network.addresses(name))
    path = _segments(service.inside.path)
    yield Route(f"inside.{service.name}", _tcp_name(network, routed), path, clients, others, "")


def _tcp_name(network: Network, routed: Routed) -> str:
    return f"{routed.service.name}.svc.{network.site.domain}"


def _segments(prefix: str) -> str:
    """A declared prefix without the slash at its end; "" is every path."""
    return prefix.rstrip("/")


def _child(network: Network, routed: Routed, backend: Backend) -> Child:
    service = routed.service
    host = f"[{backend.address}]" if backend.address.version == 6 else str(backend.address)
    at = f"{host}:{backend.port}"
    if service.protocol == "tcp":
        url = at
    elif backend.server_name:
        url = f"https://{at}"
    else:
        url = f"h2c://{at}" if service.protocol in {"h2c", "grpc"} else f"http://{at}"
    front = any(
        f.service.name == service.name
        for m in network.members
        if m.guest.name == backend.name
        for f in m.fronts
    )
    # By name and port, not by rank: a sticky cookie holds this name, and survives a new neighbour.
    name = f"{service.name}.{backend.name.replace(':', '-')}.{backend.port}"
    idle = IDLE_FRONT if front else IDLE_PROGRAM
    return Child(name, url, backend.server_name, backend.weight, idle)
