"""The two slots of nginx, of Traefik and of each front: redirect, guard, and the tool to flip them.

Each slot has its whole ruleset in a file: leading traffic to it is one `nft -f`, which is one
transaction (DAEMON-FACTS: 1 273 flips under load without a socket error).
"""

from __future__ import annotations

from collections.abc import Iterable

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds.artifact import Artifact, GuestFiles
from builder.network import API_PORTS, RESERVED_PORTS, Member, Network
from builder.tree import Entry, File, Tree

KIND = "slots"


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """Rules and tool of each guest with a daemon that runs in slots."""
    return tuple(
        GuestFiles(KIND, member.guest.name, Tree.of(_files(network, member)))
        for member in network.members
        if member.daemon
    )


def _files(network: Network, member: Member) -> Iterable[Entry]:
    yield File("bin/phoenix-slots", fixed("common/bin/phoenix-slots"), 0o755)
    yield File("bin/phoenix-check", fixed("common/bin/phoenix-check"), 0o755)
    yield File("slots/daemon", f"{member.daemon}\n".encode())
    for slot in ("a", "b"):
        yield File(f"slots/{slot}.nft", rules(member, slot))
        ports = "".join(f"{port}\n" for port in sorted(_behind(member, slot).values()))
        yield File(f"slots/{slot}.ports", ports.encode())
        if member.daemon == "traefik":
            # It listens before it has read its dynamic files, which this address is one of.
            yield File(f"slots/{slot}.answers", f"{API_PORTS[slot]} /api/version\n".encode())
    yield File("slots/grace", f"{_grace(network, member)}\n".encode())


def _grace(network: Network, member: Member) -> int:
    """Seconds that connections may go on in a slot to which no traffic is led any more: the longest
    that a service of those which pass this guest declares."""
    if member == network.mesh:
        passing = [routed.service for routed in network.services]
    elif member == network.gateway:
        passing = [exposed.service for exposed in network.exposed]
    else:
        passing = [front.service for front in member.fronts]
    return max((service.grace for service in passing), default=0)


def rules(member: Member, slot: str) -> bytes:
    """The nftables rules under which `slot` ("a" or "b") is the live one.

    The guard closes all ports that slots may ever have, whatever this generation's are: a program
    of the guest's own can't have one of them (the check `reserved-port`).
    """
    return emit.template("common/slots/slot.nft.j2")(
        slot=slot,
        live=tuple(sorted(_behind(member, slot).items())),
        first=RESERVED_PORTS.start,
        last=RESERVED_PORTS.stop - 1,
    )


def _behind(member: Member, slot: str) -> dict[int, int]:
    return {x.port: x.a if slot == "a" else x.b for x in member.listeners}
