"""Whether a lab's LAN is free: a network that the machine already routes must not be hidden."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network

from builder.lab.shape import RANGE
from builder.problems import UserError


@dataclass(frozen=True, slots=True)
class Route:
    """A network that the machine knows a way to, and the interface it leaves by."""

    network: IPv4Network
    device: str


def overlapping(network: IPv4Network, routes: Iterable[Route]) -> tuple[Route, ...]:
    """Those of `routes` that share an address with `network`. The default route is none of them:
    it stands for whatever has no route of its own."""
    return tuple(
        route for route in routes if route.network.prefixlen > 0 and route.network.overlaps(network)
    )


def refuse(network: IPv4Network, routes: Iterable[Route]) -> None:
    """Raise UserError where `network` is not from the lab's range, or is not free."""
    if not network.subnet_of(RANGE):
        raise UserError(f"the lab's network {network} is not in {RANGE}")
    taken = overlapping(network, routes)
    if taken:
        listed = ", ".join(f"{each.network} ({each.device})" for each in taken)
        hint = "take that away first; a lab of another program, or of another user, may be up"
        raise UserError(f"the lab's network {network} overlaps what is routed here: {listed}", hint)


def routes() -> tuple[Route, ...]:
    """Every IPv4 route of the machine, in all tables, but local and broadcast addresses."""
    command = ["ip", "-json", "-4", "route", "show", "table", "all"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return tuple(parse(done.stdout))


def parse(listed: str) -> Iterable[Route]:
    """The routes in what `ip -json route` prints."""
    for entry in json.loads(listed or "[]"):
        target = entry.get("dst", "default")
        if entry.get("type", "unicast") not in ("local", "broadcast", "multicast"):
            network = IPv4Network("0.0.0.0/0" if target == "default" else target)
            yield Route(network, entry.get("dev", "no interface"))
