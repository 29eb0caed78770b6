"""The host's own network after its files changed: reloaded, and then looked at.

ifupdown2 applies a bad file in part and may still exit 0, so its exit code alone proves nothing:
what counts is whether the addresses and routes are there, and the gateway answers.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from . import commands, files
from .commands import FailedError

# Options of an interface that ifupdown2 makes by itself.
_MAKES = ("bridge-", "bond-", "vlan-", "vxlan-", "vrf-", "tunnel-", "link-type")
# The mark of our own routes: protocols below 256 that nobody else has (iproute2, rt_protos).
_OURS = ("proto", "80")
FILE = "/etc/network/interfaces"
# What ends an interface's stanza, beside the next one and `allow-*`.
_BETWEEN = (
    "iface", "vlan", "auto", "no-auto-down", "no-scripts", "mapping", "source", "source-directory",
)  # fmt: skip


class Expected(NamedTuple):
    """What an interfaces file says stands there: addresses with their prefix by interface,
    gateways, and our own routes by destination and gateway, "" for one on the link."""

    addresses: tuple[tuple[str, str], ...]
    gateways: tuple[str, ...]
    routes: tuple[tuple[str, str], ...] = ()


def expected(text: bytes) -> Expected:
    """What is to be there once a file is applied; only what comes up by itself."""
    up, stanzas = _parsed(text)
    addresses, gateways, routes = [], [], []
    for name, options in stanzas.items():
        for words in (each for each in options if name in up and len(each) > 1):
            if words[0] == "address" and "/" in words[1]:
                # An alias (vmbr0:1) is its interface's own address to the kernel.
                addresses.append((name.partition(":")[0], _printed(words[1])))
            elif words[0] == "gateway":
                gateways.append(_printed(words[1]))
            elif words[0] == "post-up" and words[-2:] == list(_OURS) and "route" in words[:-3]:
                # ip route replace DESTINATION [via GATEWAY] …; without one it is on the link.
                destination = words[words.index("route") + 2]
                by = words[words.index("via") + 1] if "via" in words else ""
                routes.append((_plain(destination), by))
    return Expected(tuple(addresses), tuple(gateways), tuple(routes))


def absent(owned: bytes, live: bytes, there: Collection[str]) -> list[str]:
    """The interfaces that a file speaks of, that are not `there`, and that ifupdown2 does not make
    by what it or the `live` file says of them."""
    declared, stanzas = _parsed(owned)[1], _parsed(live)[1]
    for name, options in declared.items():
        stanzas[name] = [*stanzas.get(name, ()), *options]
    speaks = {*declared, *(port for each in declared.values() for port in _ports(each))}
    return sorted(
        name for name in speaks if name not in there and not _made(name, stanzas.get(name, ()))
    )


def _parsed(text: bytes) -> tuple[set[str], dict[str, list[list[str]]]]:
    """The interfaces that come up by themselves, and each interface's options, as words; how far a
    line stands in says nothing."""
    up: set[str] = set()
    found: dict[str, list[list[str]]] = {}
    options: list[list[str]] = []
    for line in text.decode("utf-8", "replace").replace("\\\n", " ").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "iface" and len(words) > 1:
            options = found.setdefault(words[1], [])
        elif words[0] in _BETWEEN or words[0].startswith("allow-"):
            options = []
            up |= {*words[1:]} if words[0] == "auto" else set()
        else:
            options.append(words)
    return up, found


def _ports(options: Iterable[list[str]]) -> Iterator[str]:
    for words in options:
        if words[0] == "bridge-ports":
            # After such a word come patterns, which may match nothing.
            names = itertools.takewhile(lambda word: word not in ("regex", "glob"), words[1:])
            yield from (name for name in names if name != "none")


def _made(name: str, options: Iterable[list[str]]) -> bool:
    return name == "lo" or "." in name or any(words[0].startswith(_MAKES) for words in options)


def lacking(root: Path) -> list[str]:
    """What of the network is not there, though the file says so."""
    text = files.read(root / FILE.lstrip("/"))
    return missing(expected(text)) if text else []


def reload(root: Path, before: Collection[str] = (), limit: float = 20) -> None:
    """Have the network be as the file says; raises FailedError where it is not, within `limit`
    seconds. What was lacking `before` may lack still: a file may speak of what is unplugged."""
    code, said = commands.status("ifreload", "-a", limit=60)
    wanted = expected((root / FILE.lstrip("/")).read_bytes())
    for family, route in _routes():
        # ifupdown2 runs what brings a route, and forgets what brought one.
        if route not in wanted.routes:
            by = ("via", route[1]) if route[1] else ()
            commands.status("ip", family, "route", "delete", route[0], *by, *_OURS)
    end = time.monotonic() + limit
    while faults := [fault for fault in missing(wanted) if fault not in before]:
        if time.monotonic() > end:
            raise FailedError(f"after ifreload (exit {code}): {'; '.join(faults)} {said[-200:]}")
        time.sleep(0.2)


def missing(wanted: Expected) -> list[str]:
    """What of the addresses, routes and gateways is not there."""
    there = {
        (link["ifname"], f"{each['local']}/{each['prefixlen']}")
        for link in _ip("address")
        for each in link.get("addr_info", ())
    }
    faults = [f"{name} lacks {address}" for name, address in wanted.addresses
              if (name, address) not in there]  # fmt: skip
    held = {route for _, route in _routes()} if wanted.routes else set()
    for destination, by in wanted.routes:
        if (destination, by) not in held:
            faults.append(f"no route to {destination}" + (f" by {by}" if by else ""))
    routes = [route for v in ("-4", "-6") for route in _ip(v, "route")]
    for gateway in wanted.gateways:
        links = {str(route["dev"]) for route in routes if route.get("gateway") == gateway}
        if not links:
            faults.append(f"no route by {gateway}")
        elif not any(_answers(gateway, each) for each in sorted(links)):
            faults.append(f"the gateway {gateway} does not answer")
    return faults


def _routes() -> Iterator[tuple[str, tuple[str, str]]]:
    """Our own routes that stand, each with its family."""
    for family in ("-4", "-6"):
        for route in _ip(family, "route", "show", *_OURS):
            yield family, (_plain(route["dst"]), str(route.get("gateway", "")))


def _printed(address: str) -> str:
    """An address as `ip` prints it; a file may have one of IPv6 in full, or in capitals."""
    import socket

    bare, *prefix = address.split("/")
    with contextlib.suppress(OSError):
        bare = socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, bare))
    return "/".join([bare, *prefix])


def _plain(destination: str) -> str:
    """A destination as `ip` prints it."""
    if destination in ("0.0.0.0/0", "::/0"):
        return "default"
    return destination.removesuffix("/32").removesuffix("/128")


def _answers(gateway: str, link: str) -> bool:
    """Whether a neighbour on a link resolves: something is sent its way, which it need not take."""
    import socket

    six = ":" in gateway
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # One that is good on one link only (fe80::1) is on several.
            scope = (0, socket.if_nametoindex(link)) if six else ()
            probe.sendto(b"", (gateway, 9, *scope))
        except OSError:
            return False
    end = time.monotonic() + 2
    while time.monotonic() < end:
        found = [each for each in _ip("neigh", "show", gateway) if each.get("dev") == link]
        states = {state for each in found for state in each.get("state", ())}
        if {"REACHABLE", "STALE", "DELAY", "PROBE", "PERMANENT"} & states:
            return True
        time.sleep(0.05)
    return False


def _ip(*command: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(commands.run("ip", "-json", *command) or "[]")
    return found
