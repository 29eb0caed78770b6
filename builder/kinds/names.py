"""Names and trust: each guest resolves what the site names, and trusts the site's root.

In a guest, `bin/phoenix-names` keeps a marked block in /etc/hosts and the root in the trust store,
from the running generation, at boot and after each flip. For the operator's own resolver the same
comes as a hosts file and zones; there, a name whose traffic enters from outside stands for the
address where it enters: a routed host's uplink.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds.artifact import Artifact, GuestFiles, KitFiles
from builder.model import Address
from builder.network import Network
from builder.tree import Entry, File, Tree

KIND = "names"


@dataclass(frozen=True, slots=True)
class Line:
    """One address with all of its names, sorted."""

    address: Address
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """One name with its addresses; `kind` is A or AAAA."""

    name: str
    kind: str
    address: Address


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """Names and trust of every guest, and the operator's hosts file and zones."""
    tree = Tree.of(_guest_files(network))
    guests = tuple(GuestFiles(KIND, m.guest.name, tree) for m in network.members)
    return (*guests, KitFiles(KIND, "site", Tree.of(_site_files(network))))


def hosts(names: Iterable[tuple[str, tuple[Address, ...]]]) -> bytes:
    """A hosts file: one line an address, sorted by version and number."""
    by_address: dict[Address, list[str]] = {}
    for name, addresses in names:
        for address in addresses:
            by_address.setdefault(address, []).append(name)
    ordered = sorted(by_address, key=lambda a: (a.version, int(a)))
    lines = tuple(Line(a, tuple(sorted(by_address[a]))) for a in ordered)
    return emit.template("common/names/hosts.j2")(lines=lines)


def _guest_files(network: Network) -> Iterable[Entry]:
    yield File("names/hosts", hosts(network.names))
    yield File("bin/phoenix-names", fixed("common/bin/phoenix-names"), 0o755)
    yield File("system.conf.d/phoenix.conf", fixed("common/system.conf.d/phoenix.conf"))
    if network.trust:
        yield File("trust/root.crt", network.trust.root)


def entrance(network: Network) -> tuple[Address, ...]:
    """Where clients outside reach the gateway: the uplink's static addresses, else its own."""
    guest = network.gateway.guest
    uplink = network.bridge(guest.interfaces[0].bridge).uplink
    if uplink is None:
        return network.addresses(guest.name)
    found: list[Address] = [] if uplink.address is None else [uplink.address.ip]
    if network.host.ingress6 and uplink.address6 not in {None, "auto", "dhcp"}:
        assert not isinstance(uplink.address6, str | None)
        found.append(uplink.address6.ip)
    return tuple(found)


def outside_names(network: Network) -> tuple[tuple[str, tuple[Address, ...]], ...]:
    """All names, for those who ask from outside. A name without a known entrance is left out."""
    exposed = {x.name for x in network.exposed}
    enter = entrance(network)
    return tuple((n, enter if n in exposed else a) for n, a in network.names if a or enter)


def _site_files(network: Network) -> Iterable[Entry]:
    names = tuple((n, a) for n, a in outside_names(network) if a)
    yield File("hosts", hosts(names))
    domain = network.site.domain
    inside = [n for n in names if n[0].endswith(f".{domain}")]
    others = [n for n in names if not n[0].endswith(f".{domain}")]
    yield File(f"{domain}.zone", _zone(domain, inside))
    for name, addresses in others:
        yield File(f"{name}.zone", _zone(name, [(name, addresses)]))


def _zone(origin: str, names: Iterable[tuple[str, tuple[Address, ...]]]) -> bytes:
    records = tuple(
        Record(name, "A" if isinstance(address, IPv4Address) else "AAAA", address)
        for name, addresses in names
        for address in addresses
    )
    return emit.template("common/names/zone.j2")(origin=origin, records=records)
