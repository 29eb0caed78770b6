"""What both dialects of a guest's configuration say, as values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface

from builder.model import Address, Bridge, Guest, Interface
from builder.network import Network

MIB = 1 << 20

FOLDER = "/var/lib/phoenix/guests"
"""Holds a folder for each guest, by its id: its generations and the link `current`."""

SECRETS = "/var/lib/phoenix/secrets"
"""Holds a folder for each guest, by its id, readable by the guest's root alone."""


@dataclass(frozen=True, slots=True)
class Line:
    """A key and its value."""

    key: str
    value: str


@dataclass(frozen=True, slots=True)
class Bind:
    """A folder of the host seen in the guest; `target` is relative to the guest's root."""

    source: str
    target: str
    readonly: bool

    def entry(self) -> str:
        """The value of lxc.mount.entry: as in fstab, by words."""
        options = "bind,ro" if self.readonly else "bind"
        return f"{self.source} {self.target} none {options},create=dir 0 0"


def binds(guest: Guest) -> Iterator[Bind]:
    """What is bound into a guest: ours, then the declared folders, an outer before an inner one.

    The guest's folder comes a second time, as the folder in which systemd looks for units.
    """
    yield Bind(f"{FOLDER}/{guest.id}", "opt/phoenix", True)
    yield Bind(f"{FOLDER}/{guest.id}", "usr/local/lib/systemd", True)
    yield Bind(f"{SECRETS}/{guest.id}", "opt/phoenix-secrets", True)
    for mount in sorted(guest.mounts, key=lambda m: m.target):
        yield Bind(mount.source, mount.target.strip("/"), mount.readonly)


def index(interface: Interface) -> int:
    """The number of a guest's interface: N of ethN, and so of PVE's netN."""
    return int(interface.name.removeprefix("eth"))


def veth(guest: Guest, interface: Interface) -> str:
    """The host's end of a guest's interface, by PVE's name for it on both platforms."""
    return f"veth{guest.id}i{index(interface)}"


def own_addresses(bridge: Bridge) -> tuple[IPv4Interface | IPv6Interface, ...]:
    """The host's own addresses on a bridge, the further ones last."""
    return tuple(a for a in (bridge.address, bridge.address6, *bridge.addresses) if a is not None)


def home(bridge: Bridge, address: Address) -> IPv4Interface | IPv6Interface:
    """The host's own address in the network of the bridge that a guest's address is in.

    Checks have found that it is in one; StopIteration where it is not.
    """
    return next(own for own in own_addresses(bridge) if address in own.network)


def with_prefix(bridge: Bridge, address: Address) -> str:
    """A guest's address with the prefix length of its network."""
    return f"{address}/{home(bridge, address).network.prefixlen}"


def addressed(network: Network, interface: Interface) -> tuple[str, str]:
    """IPv4 and IPv6 address of an interface, with prefix lengths; "" for no IPv6."""
    bridge = network.bridge(interface.bridge)
    six = with_prefix(bridge, interface.address6) if interface.address6 else ""
    return with_prefix(bridge, interface.address), six
