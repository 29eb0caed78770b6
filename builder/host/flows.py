"""What the host's rules let through before a change, let through until guests have changed.

Rules are loaded before the guests' slots change, since a new one may need what they permit. One of
before may need until then what they permit no more: the mesh still asks a backend that is taken
off. Were its packets dropped, that would take five seconds, and then be asked of another one; but
not where Go had begun to send it already, on a kept connection that was just closed (504).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterator
from typing import NamedTuple

from . import commands
from .decide import Effects

_UNIT = "phoenix-firewall.service"
_TABLE = ("inet", "phoenix_guests")
_SETS = ("flows4", "flows6")


class Flow(NamedTuple):
    """An element of one of the rules' sets, as nft writes it."""

    set: str
    element: str


def before(effects: Effects) -> frozenset[Flow]:
    """The flows that are let through, where slots change with the rules; none elsewhere."""
    switches = any(guest.daemons or guest.dropped for guest in effects.guests)
    return _loaded() if switches and _UNIT in effects.reloaded else frozenset()


@contextlib.contextmanager
def kept(flows: Collection[Flow]) -> Iterator[None]:
    """Let these through as well, until this ends, or until rules are loaded anew."""
    gone = sorted({*flows} - _loaded()) if flows else []
    _each("add", gone)
    try:
        yield
    finally:
        _each("delete", gone)


def _loaded() -> frozenset[Flow]:
    found = set()
    for name in _SETS:
        # A host without IPv6, or without such rules, has none.
        code, said = commands.status("nft", "--json", "list", "set", *_TABLE, name)
        for entry in json.loads(said)["nftables"] if code == 0 else ():
            for each in entry.get("set", {}).get("elem", ()):
                value = each["elem"]["val"] if "elem" in each else each
                found.add(Flow(name, " . ".join(map(str, value["concat"]))))
    return frozenset(found)


def _each(verb: str, flows: Collection[Flow]) -> None:
    for name in _SETS:
        if elements := ", ".join(flow.element for flow in flows if flow.set == name):
            commands.status("nft", f"{verb} element {' '.join(_TABLE)} {name} {{ {elements} }}")
