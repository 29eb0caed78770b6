"""What a host asks of its own network before and after a change: each hop of each declared way.

The host's program knows no site and no service. It asks what stands here from where it stands here,
and compares. An ask whose answer comes from further behind names those hops' own asks (`behind`),
so that the hop that broke is the innermost that fails (docs/decisions/014-health-by-hops.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Address

from builder import emit
from builder.kinds.artifact import Artifact, HostFile
from builder.kinds.asks import HOST, OUTSIDE, UPLINK, Ask, Services, number, requested
from builder.kinds.conf import own_addresses
from builder.kinds.nat import routed6
from builder.model import Address
from builder.network import CA_PORT, Member, Network, Routed

KIND = "paths"
PATH = "/etc/phoenix/paths.json"

_SENT_ON, _DIRECTORY_THERE, _NOT_LIMITED = ((300, 399),), ((200, 299),), ((200, 499),)
# An order takes a second; one that met a CA which was not there yet is made again after five, and
# one that hangs is ended after a minute (bin/phoenix-acme).
_FIRST, _EACH = 90, 15
_DIRECTORY, _CHALLENGE = "/acme/acme/directory", "/.well-known/acme-challenge/phoenix"


@dataclass(frozen=True, slots=True)
class Paths:
    """All that is asked. `root` is the site's, as PEM; `uplink` the interface by which packets from
    outside come in, "" where none is routed; `patience` how many seconds all first certificates may
    take."""

    root: str
    uplink: str
    patience: int
    asks: tuple[Ask, ...]


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """One file of the host."""
    return (HostFile(KIND, PATH, emit.json_text(_plain(view(network)))),)


def _plain(paths: Paths) -> dict[str, object]:
    """Without what is as it mostly is."""
    usual = asdict(Ask("", "", "", "", "http", ""))
    asks = [
        {key: value for key, value in asdict(ask).items() if value != usual[key] or key == "how"}
        for ask in paths.asks
    ]
    return asdict(replace(paths, asks=())) | {"asks": asks}


def view(network: Network) -> Paths:
    """What is asked of a network."""
    uplink = network.bridge(network.gateway.guest.interfaces[0].bridge).uplink
    services = Services(network)
    return Paths(
        root=network.trust.root.decode() if network.trust else "",
        uplink=uplink.interface if uplink else "",
        patience=_FIRST + _EACH * sum(_orders_of(m) for m in network.members),
        asks=tuple({ask.key: ask for ask in _every(services)}.values()),
    )


def _orders_of(member: Member) -> int:
    return sum(not (c.directory or c.files) for c in member.certificates)


def _every(services: Services) -> Iterator[Ask]:
    """All asks; those behind another come before it."""
    yield from _orders(services)
    routed = {each.service.name: each for each in services.network.services}
    for exposed in services.network.exposed:
        yield from services.exposed(routed[exposed.service.name], exposed)
    for each in services.network.services:
        yield from services.inside(each)
    yield from _unencrypted(services)
    yield from _hairpins(services, routed)
    yield from _ways_out(services)


def _orders(services: Services) -> Iterator[Ask]:
    """From each guest with a certificate of the site's CA to that, and from there to where the
    guest proves its name."""
    for member in services.network.members:
        ordered = [c for c in member.certificates if not (c.directory or c.files)]
        for certificate in ordered[:1]:
            yield Ask(
                key=f"ca {member.guest.name}",
                source=number(member),
                target=number(services.ca),
                name="certificates",
                how="http",
                address=str(services.ca.guest.address),
                port=CA_PORT,
                server=services.ca.fqdn,
                host=services.ca.fqdn,
                path=_DIRECTORY,
                legal=_DIRECTORY_THERE,
            )
            if certificate.challenge == "webroot":
                yield Ask(
                    key=f"challenge {member.guest.name}",
                    source=number(services.ca),
                    target=number(member),
                    name="ACME challenges",
                    how="http",
                    address=str(member.guest.address),
                    port=80,
                    host=certificate.name,
                    path=_CHALLENGE,
                    legal=_NOT_LIMITED,
                )


def _unencrypted(services: Services) -> Iterator[Ask]:
    """That port 80 sends on to HTTPS, but where a service asks to be met there."""
    for name in dict.fromkeys(x.name for x in services.network.exposed):
        http = [
            x.service
            for x in services.network.exposed
            if x.name == name and x.service.protocol != "tcp"
        ]
        for source, address in services.entrances if http else ():
            met = any(service.is_plain("outside") for service in http)
            yield Ask(
                key=f"{source} {name}:80 {6 if ':' in address else 4}",
                source=source,
                target=number(services.gateway),
                name=f"{name}, port 80",
                how="http",
                address=address,
                port=80,
                host=name,
                path="/",
                # What is behind is asked over TLS.
                legal=((200, 599),) if met else _SENT_ON,
            )


def _hairpins(services: Services, routed: Mapping[str, Routed]) -> Iterator[Ask]:
    """From inside to the address by which those outside come in."""
    ways = [address for source, address in services.entrances if source == UPLINK]
    open_to_all = [
        x
        for x in services.network.exposed
        if not x.service.limits.clients
        and x.service.protocol != "tcp"
        and not services.certificates[x.name].directory
    ]
    for exposed in open_to_all[:1]:
        path, _ = requested(routed[exposed.service.name], exposed.path, exposed.strip)
        mesh = services.through(routed[exposed.service.name], exposed, path, ())
        for address in ways:
            for source, where in ((HOST, HOST), *_callers(services, address)):
                found = services.entering(mesh, exposed, source, address)
                yield replace(found, key=f"hairpin {where} {6 if ':' in address else 4}")


def _ways_out(services: Services) -> Iterator[Ask]:
    """From guests behind a routed bridge to what is beyond the uplink."""
    for bridge in services.network.host.bridges:
        uplink = bridge.uplink
        if uplink is None:
            continue
        gateways: list[Address] = [uplink.gateway or IPv4Address(0)]
        if routed6(bridge) and uplink.gateway6:
            gateways.append(uplink.gateway6)
        for gateway in gateways:
            key = f"out {bridge.name} {gateway.version}"
            host = Ask(
                f"host {key}", HOST, OUTSIDE, "the way out", "ping", str(gateway), ours=False
            )
            yield host
            for source, where in _callers(services, str(gateway)):
                if where == bridge.name:
                    yield replace(host, key=key, source=source, behind=(host.key,), ours=True)


def _callers(services: Services, address: str) -> Iterator[tuple[str, str]]:
    """For each bridge a guest, not the gateway, that has its way out by the host; over the IP
    version of this address."""
    found: dict[str, str] = {}
    for member in services.network.members:
        guest, first = member.guest, member.guest.interfaces[0]
        way = (
            services.network.default_gateway6(guest, first)
            if ":" in address
            else services.network.default_gateway(guest, first)
        )
        own = {own.ip for own in own_addresses(services.network.bridge(first.bridge))}
        if member is not services.gateway and way in own:
            found.setdefault(first.bridge, number(member))
    return iter([(guest, bridge) for bridge, guest in found.items()])
