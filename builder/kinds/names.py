"""Names and trust: each guest resolves what the site names, and trusts the site's root.

In a guest, `bin/phoenix-names` keeps a marked block in /etc/hosts and the root in the trust store,
from the running generation, at boot and after each flip; on plain LXC also /etc/resolv.conf, which
Proxmox writes itself. For the operator's own resolver the same comes as a hosts file and zones;
there, a name whose traffic enters from outside stands for the address where it enters: a routed
host's uplink.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds.artifact import Artifact, GuestFiles, KitFiles
from builder.model import Address
from builder.network import Network
from builder.tree import Entry, File, Tree

KIND = "names"

Names = tuple[tuple[str, tuple[Address, ...]], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """One name of one address."""

    address: Address
    name: str


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


def hosts(network: Network, names: Names) -> bytes:
    """A hosts file of these names, sorted by address.

    One name a line, since some resolvers cut long lines (musl at 512 bytes). An address is called
    by its first line, so that is its owner's name.
    """
    owners = {network.fqdn(end.name) for end in network.ends}
    lines = [Line(address, name) for name, addresses in names for address in addresses]
    lines.sort(key=lambda x: (x.address.version, int(x.address), x.name not in owners, x.name))
    return emit.template("common/names/hosts.j2")(lines=lines)


def resolv(network: Network) -> bytes:
    """resolv.conf of a guest."""
    values = {"domain": network.site.domain, "servers": network.dns}
    return emit.template("common/names/resolv.conf.j2")(**values)


def _guest_files(network: Network) -> Iterable[Entry]:
    yield from installer(network)
    yield File("system.conf.d/phoenix.conf", fixed("common/system.conf.d/phoenix.conf"))
    if network.host.platform.kind == "lxc" and network.dns:
        yield File("names/resolv.conf", resolv(network))


def installer(network: Network) -> Iterable[File]:
    """What `bin/phoenix-names` installs in a guest or a machine, and that script."""
    yield File("bin/phoenix-names", fixed("common/bin/phoenix-names"), 0o755)
    yield File("names/hosts", hosts(network, network.names))
    yield File("names/profile.sh", fixed("common/names/profile.sh"))
    if network.trust:
        yield File("trust/root.crt", network.trust.root)


def entrance(network: Network) -> tuple[Address, ...]:
    """Where those outside are let in: the uplink's static addresses, else the gateway's own."""
    guest = network.gateway.guest
    uplink = network.bridge(guest.interfaces[0].bridge).uplink
    if uplink is None:
        found = network.addresses(guest.name)
    else:
        static = (IPv4Interface, IPv6Interface)
        found = tuple(x.ip for x in (uplink.address, uplink.address6) if isinstance(x, static))
    entering = {4: network.host.ingress4, 6: network.host.ingress6}
    return tuple(address for address in found if entering[address.version])


def outside_names(network: Network) -> Names:
    """All names, for those who ask from outside. A name without a known entrance is left out."""
    exposed = {x.name for x in network.exposed}
    enter = entrance(network)
    known = (x for x in network.names if enter or x[0] not in exposed)
    return tuple((n, enter if n in exposed else a) for n, a in known)


def _site_files(network: Network) -> Iterable[Entry]:
    names = outside_names(network)
    yield File("hosts", hosts(network, names))
    domain = network.site.domain
    below = {n for n, _ in names if f".{n}".endswith(f".{domain}")}
    yield File(f"{domain}.zone", _zone(domain, tuple(x for x in names if x[0] in below)))
    for name, addresses in names:
        if name not in below:
            yield File(f"{name}.zone", _zone(name, ((name, addresses),)))


def _zone(origin: str, names: Names) -> bytes:
    records = tuple(
        Record(name, "A" if isinstance(address, IPv4Address) else "AAAA", address)
        for name, addresses in names
        for address in addresses
    )
    return emit.template("common/names/zone.j2")(origin=origin, records=records)
