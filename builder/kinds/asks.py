"""What is asked of the ways to a service: through gateway and mesh, and of each backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv6Interface
from typing import Any, Literal

from builder.derive import inside_name
from builder.flows import callers
from builder.kinds.nat import routed6
from builder.kinds.nginx_common import CERTIFICATES
from builder.network import (
    PLAIN_MESH_PORT,
    Backend,
    Certificate,
    Exposed,
    Member,
    Network,
    Routed,
)

UPLINK, HOST, OUTSIDE, PROGRAM = "uplink", "host", "outside", "program"
"""Ends that are no guest: where packets from outside come in, the host itself, all that is beyond
it, and a program on its guest's loopback."""

_FORBIDDEN, _HEALTHY = ((403, 403),), ((200, 399),)
_PATIENCE = 30
_GRPC_HEALTH = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that is asked. Its `key` is the same in each release that asks the same.

    `source` is "uplink", "host" or a guest's id, `target` who answers at `address` and `port`; an
    unspecified address is the uplink's own, and for a ping its gateway, as the kernel knows it.
    Over TLS the certificate bears the name `server`, of the site's chain, or of that which the
    target keeps in the file `held`. `legal` are bounds of statuses that are well whatever the asks
    `behind` say, and `beyond` is who answers behind the target. `awaits` is the file that holds the
    certificate which the guest `authority` gives the target. What is not `ours` is told where it
    fails, and is a fault only where it was well before. `patience` is how many seconds it may fail
    after a change.
    """

    key: str
    source: str
    target: str
    name: str
    how: Literal["http", "grpc", "open", "ping"]
    address: str
    port: int = 0
    server: str = ""
    held: str = ""
    host: str = ""
    path: str = ""
    legal: tuple[tuple[int, int], ...] = ()
    behind: tuple[str, ...] = ()
    beyond: str = ""
    awaits: str = ""
    authority: str = ""
    ours: bool = True
    patience: int = _PATIENCE


def number(member: Member) -> str:
    """A guest's id, as an end."""
    return str(member.guest.id)


class Services:
    """The asks of one network; those behind another come before it."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.gateway, self.mesh, self.ca = network.gateway, network.mesh, network.ca
        self.members = {member.guest.name: member for member in network.members}
        self.certificates = {c.name: c for c in network.gateway.certificates}
        self.entrances = tuple(_entrances(network))

    def exposed(self, routed: Routed, exposed: Exposed) -> Iterator[Ask]:
        """From outside, through gateway and mesh."""
        path, inner = requested(routed, exposed.path, exposed.strip)
        backends = tuple(self._backends(routed, inner))
        yield from backends
        mesh = self.through(routed, exposed, path, _behind(backends))
        yield mesh
        for source, address in self.entrances:
            yield self.entering(mesh, exposed, source, address)

    def through(self, routed: Routed, exposed: Exposed, path: str, behind: tuple[str, ...]) -> Ask:
        """What the gateway asks of the mesh for clients outside."""
        service, tcp = routed.service, routed.service.protocol == "tcp"
        plain = service.is_plain("mesh") and not tcp
        named = inside_name(self.network.site, service) if tcp else self.mesh.fqdn
        found = Ask(
            key=f"mesh {exposed.name}:{exposed.port}{path}",
            source=number(self.gateway),
            target=number(self.mesh),
            name=exposed.name,
            how=_how(routed),
            address=str(self.mesh.guest.address),
            port=PLAIN_MESH_PORT if plain else 443,
            server="" if plain else named,
            host=exposed.name,
            path=path,
            behind=behind,
            beyond=service.name,
            patience=_patience(routed),
        )
        return found if plain else self._given(found, self.mesh)

    def entering(self, mesh: Ask, exposed: Exposed, source: str, address: str) -> Ask:
        """What a client outside asks of the gateway."""
        service, version = exposed.service, 6 if ":" in address else 4
        plain = service.protocol == "tcp" and service.is_plain("outside")
        return replace(
            mesh,
            key=f"{source} {exposed.name}:{exposed.port}{mesh.path} {version}",
            source=source,
            target=number(self.gateway),
            address=address,
            port=exposed.port,
            # Where only some may come in, nobody knows whether this one may.
            legal=_FORBIDDEN if service.limits.clients else (),
            behind=(mesh.key,),
            beyond=mesh.target,
            **_shown(None if plain else self.certificates[exposed.name], number(self.ca)),
        )

    def inside(self, routed: Routed) -> Iterator[Ask]:
        """From a guest that may call it, through the mesh."""
        service = routed.service
        caller = next((n for n in callers(self.network, routed) if n in self.members), "")
        if not caller or service.inside is None:
            return
        path, inner = requested(routed, service.inside.path, strip=False)
        backends = tuple(self._backends(routed, inner))
        yield from backends
        plain = service.is_plain("mesh") and service.protocol != "tcp"
        found = Ask(
            key=f"inside {service.name}{path}",
            source=number(self.members[caller]),
            target=number(self.mesh),
            name=routed.inside_name,
            how=_how(routed),
            address=str(self.mesh.guest.address),
            port=PLAIN_MESH_PORT if plain else 443,
            server="" if plain else routed.inside_name,
            host=routed.inside_name,
            path=path,
            behind=_behind(backends),
            beyond=service.name,
            patience=_patience(routed),
        )
        yield found if plain else self._given(found, self.mesh)

    def _backends(self, routed: Routed, path: str) -> Iterator[Ask]:
        """What the mesh asks of each backend, and behind a front what this asks of its program."""
        service = routed.service
        for backend in routed.backends:
            member = self.members.get(backend.name)
            fronts = member.fronts if member else ()
            front = next((f for f in fronts if f.service.name == service.name), None)
            found = Ask(
                key=f"backend {service.name} {backend.name}:{backend.port}{path}",
                source=number(self.mesh),
                target=number(member) if member else backend.name,
                name=service.name,
                how=_how(routed) if front or service.protocol == "https" else _bare(routed),
                address=str(backend.address),
                port=backend.port,
                server=backend.server_name,
                host=_called(self.network, routed),
                path=path,
                ours=front is not None,
            )
            if member and front:
                program = self._program(routed, member, backend, path)
                yield program
                found = self._given(found, member)
                found = replace(found, behind=(program.key,), beyond=PROGRAM)
            yield found

    def _program(self, routed: Routed, member: Member, backend: Backend, path: str) -> Ask:
        service = routed.service
        health = service.health
        legal = ((health.status, health.status),) if health and health.status else _HEALTHY
        return Ask(
            key=f"program {service.name} {member.guest.name}{path}",
            source=number(member),
            target=PROGRAM,
            name=service.name,
            how=_bare(routed),
            address="127.0.0.1",
            port=backend.port,
            host=_called(self.network, routed),
            path=path,
            legal=legal if health and path == health.path else (),
            ours=False,
        )

    def _given(self, ask: Ask, member: Member) -> Ask:
        """This ask of a guest which shows the certificate of its own name."""
        certificate = next(c for c in member.certificates if c.name == member.fqdn)
        return replace(ask, **{**_shown(certificate, number(self.ca)), "server": ask.server})


def _entrances(network: Network) -> Iterator[tuple[str, str]]:
    """Where clients outside connect to, and from where that is asked: on a routed host from the
    uplink's side, on a bridged one, where nothing is translated, from the host."""
    guest = network.gateway.guest
    bridge = network.bridge(guest.interfaces[0].bridge)
    four, six = network.host.ingress4, network.host.ingress6
    if bridge.uplink is None:
        for address in network.addresses(guest.name)[: 1 + (guest.address6 is not None)]:
            if four if address.version == 4 else six:
                yield HOST, str(address)
        return
    if four:
        static = bridge.uplink.address
        yield UPLINK, str(static.ip) if static else "0.0.0.0"
    if six and routed6(bridge) and guest.address6:
        static6 = bridge.uplink.address6
        yield UPLINK, str(static6.ip) if isinstance(static6, IPv6Interface) else "::"


def requested(routed: Routed, prefix: str, strip: bool) -> tuple[str, str]:
    """The path that is asked for under a prefix, and as the program gets it: that of its health
    where it can be, which costs it least."""
    service, stem = routed.service, prefix.rstrip("/")
    path = service.health.path if service.health else "/"
    if service.protocol == "grpc":
        path = _GRPC_HEALTH
    if strip:
        return f"{stem}{path}", path
    inside = f"{path}/".startswith(f"{stem}/")
    return (path, path) if inside else (f"{stem}/", f"{stem}/")


def _how(routed: Routed) -> Literal["http", "grpc", "open"]:
    """How a service is asked through proxies of ours: those take HTTP/1.1 for HTTP/2."""
    protocol = routed.service.protocol
    return "open" if protocol == "tcp" else "grpc" if protocol == "grpc" else "http"


def _bare(routed: Routed) -> Literal["http", "open"]:
    """How a program itself is asked."""
    return "http" if routed.service.protocol in ("http", "https") else "open"


def _called(network: Network, routed: Routed) -> str:
    """A name that requests for a service bear."""
    exposed = (x.name for x in network.exposed if x.service.name == routed.service.name)
    return routed.inside_name or next(exposed, routed.service.name)


def _patience(routed: Routed) -> int:
    """Seconds: a backend that the mesh found ill is looked at again after the declared interval."""
    health = routed.service.health
    return _PATIENCE + (health.interval + health.timeout if health else 0)


def _behind(asks: Iterable[Ask]) -> tuple[str, ...]:
    return tuple(ask.key for ask in asks if ask.key.startswith("backend "))


def _shown(certificate: Certificate | None, authority: str) -> dict[str, Any]:
    """What is known of the certificate that a server shows; without one it speaks in plain text."""
    found: dict[str, Any] = {"server": "", "held": "", "awaits": "", "authority": "", "ours": True}
    if certificate is None:
        return found
    name = certificate.name
    kept = f"{CERTIFICATES}/{name}/certificate.pem"
    if certificate.files:
        return found | {"server": name, "held": f"/opt/phoenix-secrets/current/{name}.crt"}
    if certificate.directory:
        # Strangers give it out, when they find us; that may be after the first deploy.
        return found | {"server": name, "held": kept, "ours": False}
    return found | {"server": name, "awaits": kept, "authority": authority}
