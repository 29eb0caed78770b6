"""What was declared, as frozen values. Durations are whole seconds, sizes bytes.

Nothing here is derived from another value of the description: that is `network`. A reference to
something declared elsewhere stays a name; `checks` resolves it, and finds its place by the path,
which follows from the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Literal

Address = IPv4Address | IPv6Address
Protocol = Literal["http", "https", "h2c", "grpc", "tcp"]
Profile = Literal["web", "stream", "websocket", "upload", "slow", "llm"]
Hop = Literal["outside", "mesh", "backend"]
Role = Literal["gateway", "mesh", "ca", "service"]


@dataclass(frozen=True, slots=True)
class Health:
    """How backends are checked; `status` None is 200 to 399."""

    path: str
    interval: int
    timeout: int
    status: int | None


@dataclass(frozen=True, slots=True)
class Backend:
    """`name` is a guest or machine; where it is empty, `address` is given."""

    name: str
    address: Address | None
    port: int | None
    server_name: str
    weight: int


@dataclass(frozen=True, slots=True)
class Exposure:
    """A name under which clients outside reach the service; `port` for tcp only."""

    name: str
    path: str
    strip: bool
    port: int | None


@dataclass(frozen=True, slots=True)
class Inside:
    """Who may call a service inside; `callers` None: every guest and machine of the host."""

    callers: tuple[str, ...] | None
    path: str


@dataclass(frozen=True, slots=True)
class Limits:
    """`body` in bytes, None by the profile, 0 without limit; `rate` as (requests, seconds)."""

    body: int | None
    rate: tuple[int, int] | None
    burst: int
    connections: int | None
    clients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plain:
    """A hop on which a service goes unencrypted, and why."""

    hop: Hop
    reason: str


@dataclass(frozen=True, slots=True)
class Service:
    """A service; `front` False: its program does TLS itself; `grace`: seconds for which what is
    under way may go on over a change; `sticky`: a cookie name or empty."""

    name: str
    backends: tuple[Backend, ...]
    port: int
    protocol: Protocol
    front: bool
    profile: Profile
    grace: int
    health: Health | None
    sticky: str
    expose: tuple[Exposure, ...]
    inside: Inside | None
    limits: Limits
    request_headers: tuple[tuple[str, str], ...]
    response_headers: tuple[tuple[str, str], ...]
    plain: tuple[Plain, ...]

    def is_plain(self, hop: Hop) -> bool:
        """Whether the service asks to go unencrypted on this hop."""
        return any(plain.hop == hop for plain in self.plain)


@dataclass(frozen=True, slots=True)
class Directory:
    """A public ACME directory; `environment` maps variables to secret references."""

    name: str
    url: str
    email: str
    challenge: Literal["http-01", "dns-01"]
    provider: str
    environment: tuple[tuple[str, str], ...]
    root: str


@dataclass(frozen=True, slots=True)
class CertificateSource:
    """Where an exposed name's certificate comes from; `acme` names a directory."""

    kind: Literal["site", "acme", "files"]
    acme: str = ""
    certificate: str = ""
    key: str = ""


@dataclass(frozen=True, slots=True)
class Authority:
    """Lifetimes in seconds."""

    lifetime: int
    renew: int
    root_lifetime: int
    intermediate_lifetime: int


@dataclass(frozen=True, slots=True)
class Site:
    """What all hosts of a site share; services keep the order of the description."""

    name: str
    domain: str
    dns: tuple[Address, ...]
    ca: Authority
    directories: tuple[Directory, ...]
    certificates: Mapping[str, CertificateSource]
    services: tuple[Service, ...]


@dataclass(frozen=True, slots=True)
class Uplink:
    """`address` None is dhcp; `address6` may also be "auto" or "dhcp"."""

    interface: str
    address: IPv4Interface | None
    gateway: IPv4Address | None
    address6: IPv6Interface | Literal["auto", "dhcp"] | None
    gateway6: IPv6Address | None
    mtu: int | None


@dataclass(frozen=True, slots=True)
class RouteTo:
    """A static route; `to` is a network."""

    to: str
    via: Address


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge of the host: routed with an uplink, bridged with a gateway, else internal."""

    name: str
    address: IPv4Interface | None
    address6: IPv6Interface | None
    addresses: tuple[IPv4Interface | IPv6Interface, ...]
    gateway: IPv4Address | None
    gateway6: IPv6Address | None
    ports: tuple[str, ...]
    mtu: int | None
    vlan_aware: bool
    vlans: str
    routes: tuple[RouteTo, ...]
    uplink: Uplink | None

    @property
    def routed(self) -> bool:
        """Whether the host forwards for the bridge, and masquerades."""
        return self.uplink is not None

    @property
    def bridged(self) -> bool:
        """Whether a router of the LAN is on the bridge."""
        return self.gateway is not None or self.gateway6 is not None


@dataclass(frozen=True, slots=True)
class Interface:
    """A guest's interface; `mac` is empty where it is to be derived.

    `at` is the path to it in the guest's description: empty where that has just one address.
    """

    name: str
    at: tuple[str, ...]
    bridge: str
    address: IPv4Address
    address6: IPv6Address | None
    mac: str
    vlan: int | None
    mtu: int | None


@dataclass(frozen=True, slots=True)
class Disk:
    """`size` in bytes."""

    size: int
    storage: str


@dataclass(frozen=True, slots=True)
class Features:
    """Container features, by Proxmox's names."""

    nesting: bool
    keyctl: bool
    fuse: bool
    mknod: bool
    mount: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of the host bound into the guest."""

    source: str
    target: str
    readonly: bool


@dataclass(frozen=True, slots=True)
class Device:
    """A device node; `major` is known for named GPUs whose major is fixed, else as declared."""

    path: str
    uid: int
    gid: int
    mode: str
    major: int | None


@dataclass(frozen=True, slots=True)
class Start:
    """`order` None: derived; `up` and `down` in seconds."""

    order: int | None
    up: int | None
    down: int | None


@dataclass(frozen=True, slots=True)
class Guest:
    """Memory and swap in bytes; None where not declared, and then left as the platform has it."""

    name: str
    id: int
    role: Role
    interfaces: tuple[Interface, ...]
    gateway: Literal["host", "lan"]
    cores: int | None
    memory: int | None
    swap: int | None
    disk: Disk | None
    template: str
    unprivileged: bool
    onboot: bool
    restart: Literal["allow", "refuse"]
    tags: tuple[str, ...]
    features: Features
    mounts: tuple[Mount, ...]
    devices: tuple[Device, ...]
    start: Start
    description: str
    adopt: bool

    @property
    def address(self) -> IPv4Address:
        """The address by which the guest is known: that of its first interface."""
        return self.interfaces[0].address

    @property
    def address6(self) -> IPv6Address | None:
        """The IPv6 address of the first interface."""
        return self.interfaces[0].address6


@dataclass(frozen=True, slots=True)
class Machine:
    """A VM (`vm` is its VMID) or an outside machine."""

    name: str
    vm: int | None
    address: IPv4Address
    address6: IPv6Address | None
    bridge: str
    mac: str


@dataclass(frozen=True, slots=True)
class Platform:
    """`version` is Proxmox VE's major version; 0 on plain LXC."""

    kind: Literal["proxmox", "lxc"]
    version: int
    cluster: str


@dataclass(frozen=True, slots=True)
class Host:
    """One host; `reach` is its address for ssh; `services` None: it realises all of the site's;
    `scrapers` are the guests and machines that may read the mesh's metrics."""

    name: str
    platform: Platform
    user: str
    reach: str
    dns: tuple[Address, ...]
    ca_key: str
    ca_password: str
    services: tuple[str, ...] | None
    ingress4: bool
    ingress6: bool
    scrapers: tuple[str, ...]
    bridges: tuple[Bridge, ...]
    guests: tuple[Guest, ...]
    machines: tuple[Machine, ...]
