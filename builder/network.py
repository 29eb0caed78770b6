"""Everything that follows from one host of a site: the one value that every kind reads.

`derive(site, host)` takes values that passed all checks. It decides listeners, fronts, names,
certificates, MACs and secrets; the kinds only choose what of it they need and write it down.
All sequences are in a stated order that depends on nothing but the description.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from builder.model import (
    Address,
    Bridge,
    CertificateSource,
    Directory,
    Guest,
    Hop,
    Host,
    Interface,
    Machine,
    Service,
    Site,
)

CA_PORT = 9000
"""Where step-ca listens, on its guest's address."""

PLAIN_MESH_PORT = 8080
"""Where the mesh takes requests of services whose hop `mesh` is plain."""

METRICS_PORT = 9443
"""Where the mesh tells its metrics to declared scrapers. The highest of its ports, so that its
coming and going moves no other port of a slot."""

SLOT_A, SLOT_B = 20000, 21000
"""First port of each slot; listener number i of a daemon is on SLOT + i."""

API_PORTS = {"a": 20900, "b": 21900}
"""Traefik's API on loopback, for each slot."""

RESERVED_PORTS = range(SLOT_A, SLOT_B + 1000)
"""Ports that no program of a guest with slots may use."""

Scheme = Literal["http", "https", "tcp"]
Challenge = Literal["webroot", "standalone", "dns-01"]


@dataclass(frozen=True, slots=True)
class Listener:
    """A public port of a slotted daemon, and the port behind it in each slot."""

    port: int
    a: int
    b: int


@dataclass(frozen=True, slots=True)
class Front:
    """One service behind its guest's TLS front, which is met on the guest's address at the port
    number that the program has on loopback."""

    service: Service
    listener: Listener

    @property
    def program(self) -> int:
        """Where the program listens on 127.0.0.1."""
        return self.listener.port


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that a guest keeps in /var/lib/phoenix/certificates/`name`.

    `directory` None is the site's CA; `files` instead of an order where it is delivered.
    """

    name: str
    names: tuple[str, ...]
    challenge: Challenge
    directory: Directory | None = None
    files: CertificateSource | None = None


@dataclass(frozen=True, slots=True)
class Secret:
    """What the deployer reads at deploy and puts to `guest` as `name`; never a value."""

    guest: str
    name: str
    reference: str


@dataclass(frozen=True, slots=True)
class Backend:
    """One server behind a service, as the mesh reaches it.

    `server_name` is what its certificate must bear; it is empty where the hop is plain.
    """

    name: str
    address: Address
    port: int
    server_name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Routed:
    """A service as it is realised on this host. `inside_name` is empty where not reached inside."""

    service: Service
    backends: tuple[Backend, ...]
    inside_name: str
    callers: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Exposed:
    """One exposed name with a path prefix, or with a port for tcp; its certificate bears it."""

    name: str
    path: str
    strip: bool
    port: int
    service: Service


@dataclass(frozen=True, slots=True)
class Member:
    """A guest with all that it gets. `daemon` is the one that runs in slots, "" for none."""

    guest: Guest
    fqdn: str
    daemon: Literal["nginx", "traefik", ""]
    listeners: tuple[Listener, ...]
    fronts: tuple[Front, ...]
    certificates: tuple[Certificate, ...]
    programs: tuple[str, ...]

    def listener(self, port: int) -> Listener:
        """The listener of a public port; StopIteration where there is none."""
        return next(x for x in self.listeners if x.port == port)


@dataclass(frozen=True, slots=True)
class Trust:
    """The site's root certificate and the host's intermediate, PEM."""

    root: bytes
    intermediate: bytes


@dataclass(frozen=True, slots=True)
class PlainHop:
    """What goes unencrypted, between ends as a flow has them: a service's hop for which that was
    asked, or, without a service, what every network has."""

    service: str
    hop: Hop | Literal["challenge", "redirect"]
    reason: str
    source: str
    destination: str
    port: int


def ends(host: Host) -> tuple[Guest | Machine, ...]:
    """All guests of a host, then all its machines."""
    return (*host.guests, *host.machines)


def _addresses(end: Guest | Machine) -> tuple[Address, ...]:
    if isinstance(end, Machine):
        return (end.address,) if end.address6 is None else (end.address, end.address6)
    every: list[Address] = [i.address for i in end.interfaces]
    every += [i.address6 for i in end.interfaces if i.address6 is not None]
    return tuple(every)


@dataclass(frozen=True, slots=True)
class Network:
    """One host's network. `members` are sorted by name, as are services and machines.

    `trust` is None where the site has no certificate authority yet.
    """

    site: Site
    host: Host
    members: tuple[Member, ...]
    gateway: Member
    mesh: Member
    ca: Member
    services: tuple[Routed, ...]
    exposed: tuple[Exposed, ...]
    names: tuple[tuple[str, tuple[Address, ...]], ...]
    secrets: tuple[Secret, ...]
    trust: Trust | None

    @property
    def dns(self) -> tuple[Address, ...]:
        """The servers that guests ask: the host's own, else the site's."""
        return self.host.dns or self.site.dns

    def bridge(self, name: str) -> Bridge:
        """The bridge of this name; StopIteration where there is none."""
        return next(b for b in self.host.bridges if b.name == name)

    def member(self, name: str) -> Member:
        """The member that is the guest of this name; StopIteration where there is none."""
        return next(m for m in self.members if m.guest.name == name)

    @property
    def ends(self) -> tuple[Guest | Machine, ...]:
        """All guests, then all machines."""
        return ends(self.host)

    def addresses(self, name: str) -> tuple[Address, ...]:
        """All addresses of a guest or machine; StopIteration where there is none."""
        return _addresses(next(end for end in self.ends if end.name == name))

    def fqdn(self, name: str) -> str:
        """The direct name of a guest or machine."""
        return f"{name}.{self.site.domain}"

    def default_gateway(self, guest: Guest, interface: Interface) -> Address | None:
        """The IPv4 default gateway of a guest's interface; only its first one has any."""
        if interface != guest.interfaces[0]:
            return None
        bridge = self.bridge(interface.bridge)
        if bridge.bridged and guest.gateway == "lan":
            return bridge.gateway
        routes = bridge.routed or bridge.gateway is not None
        return bridge.address.ip if routes and bridge.address else None

    def default_gateway6(self, guest: Guest, interface: Interface) -> Address | None:
        """The same for IPv6."""
        if interface != guest.interfaces[0] or interface.address6 is None:
            return None
        bridge = self.bridge(interface.bridge)
        if bridge.bridged and guest.gateway == "lan":
            return bridge.gateway6
        routes = bridge.routed or bridge.gateway6 is not None
        return bridge.address6.ip if routes and bridge.address6 else None
