"""How each hop is, in a table for people: up, how long its certificate lasts, how many errors.

A hop's certificate is the one that its target shows: that of the name which is asked for, else the
first of the target's to end. Its errors stand in nginx' log: of a hop from outside or to the mesh
in the gateway's, by the name that clients ask for, and of one to a backend in its front's, by the
service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Plain = Mapping[str, Any]
_DAY, _HOUR = 86400, 3600
_UNKNOWN = "-"
_PLAIN = ("ACME challenges", ", port 80")
"""How the names end that hops without TLS are asked for."""


def table(found: Plain) -> list[str]:
    """The lines of what `status` found; none where it knows neither hops nor certificates."""
    rows = list(dict.fromkeys(_rows(found)))
    if not rows:
        return []
    head = ("hop", "for", "up", "certificate", f"errors in {found.get('minutes', 0)} min", "")
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return [
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (head, *rows)
    ]


def _rows(found: Plain) -> Iterator[tuple[str, ...]]:
    names: Plain = found.get("names", {})
    held, rates = found.get("certificates", ()), found.get("rates", ())
    for hop in found.get("hops") or _by_guest(held, rates):
        source, target = str(hop["source"]), str(hop["target"])
        ends = " → ".join(str(names.get(end, end)) for end in (source, target) if end)
        counted = _counted(rates, source, target, hop["name"])
        up = {True: "yes", False: "no", None: _UNKNOWN}[hop["ok"]]
        yield ends, hop["name"], up, _left(held, target, hop["name"]), counted, hop["why"]


def _by_guest(held: Sequence[Plain], rates: Sequence[Plain]) -> Iterator[Plain]:
    """What a host knows that asks no hops: each guest's certificates, and its services."""
    known = {"source": "", "ok": None, "why": ""}
    for one in held:
        yield {**known, "target": one["guest"], "name": one["name"]}
    for rate in rates:
        yield {**known, "target": rate["guest"], "name": rate["service"]}


def _left(held: Iterable[Plain], target: str, name: str) -> str:
    if name.endswith(_PLAIN):
        return _UNKNOWN
    there = [one for one in held if str(one["guest"]) == target]
    ours = [one for one in there if one["name"] == name] or there
    if any(not one["life"] for one in ours):
        return "none yet"
    return span(min(int(one["left"]) for one in ours)) if ours else _UNKNOWN


def span(seconds: int) -> str:
    """A time that is left, in two units at most; "over" for none."""
    if seconds <= 0:
        return "over"
    if seconds < 2 * _HOUR:
        return f"{seconds // 60} min"
    days, hours = seconds // _DAY, seconds % _DAY // _HOUR
    return f"{days} d {hours} h" if days else f"{hours} h"


def _counted(rates: Sequence[Plain], source: str, target: str, name: str) -> str:
    """The requests of a hop and how many failed: as its target tells them, else its source."""
    for guest in (target, source):
        ours = [r for r in rates if str(r["guest"]) == guest and name in (r["host"], r["service"])]
        if ours:
            asked, failed = (sum(int(r[what]) for r in ours) for what in ("asked", "failed"))
            share = f" ({100 * failed / asked:.1f} %)" if failed else ""
            return f"{failed} of {asked}{share}"
    return _UNKNOWN
