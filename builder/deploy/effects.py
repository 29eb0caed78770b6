"""What a plan comes to, told by meaning: values in, values out.

The host says which files and links would change and what follows from that; both descriptions of
the network say what it means; and the interfaces file, whose bridges change, and so who is cut.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from builder.differ import differences
from builder.manifest import GuestNode, Release

Plain = Mapping[str, Any]
_CURRENT = "/var/lib/phoenix/current"
_OURS = "/var/lib/phoenix/"
_INTERFACES = "/etc/network/interfaces"
_BETWEEN = ("auto", "source", "source-directory", "mapping")
_BASE, _NETWORK, _GUEST, _DAEMON, _UNIT = 60, 60, 240, 150, 60
"""Seconds that a step may take at most, for the limit that is derived."""
_MORE = {
    "leave": "it is declared no more; it stays, and runs nothing of ours",
    "retire": "it is declared no more; it is stopped, and kept",
    "hot": "{keys}, while it runs",
    "owe": "{keys} only after a restart, which its description refuses: restart it yourself",
}


@dataclass(frozen=True, slots=True)
class Effect:
    """What happens to a thing: `what` is a verb; `blink` for how long its traffic stops, in words,
    "" where it does not."""

    thing: str
    what: str
    blink: str = ""
    more: str = ""

    def render(self) -> str:
        """One line."""
        more = f": {self.more}" if self.more else ""
        blink = f" (stops {self.blink})" if self.blink else ""
        return f"{self.what} {self.thing}{more}{blink}"


@dataclass(frozen=True, slots=True)
class Outlook:
    """A plan, told. `affected` are foreign guests on bridges that change, with these; `management`
    the host's own addresses that the change passes over; `limit` what activating may take, in
    seconds; `files` the paths that change; `nothing` says that there is nothing to do."""

    meaning: tuple[str, ...]
    effects: tuple[Effect, ...]
    files: tuple[str, ...]
    problems: tuple[str, ...]
    affected: Mapping[int, tuple[str, ...]]
    management: tuple[str, ...]
    limit: int
    nothing: bool

    def lines(self) -> Iterator[str]:
        """The plan as a person reads it."""
        if self.nothing:
            yield "nothing changes"
            return
        yield from (f"  {line}" for line in self.meaning)
        if not self.meaning:
            yield "  no difference by meaning; files differ"
        yield from (f"  file {path}" for path in self.files)
        yield "then"
        yield from (f"  {effect.render()}" for effect in self.effects)
        if not self.effects:
            yield "  nothing restarts or reloads"
        if self.management:
            yield f"  the way to this host is on what changes: {', '.join(self.management)}"
        for guest, bridges in self.affected.items():
            yield f"  guest {guest}, which is not ours, hangs on {', '.join(bridges)}"

    def as_json(self) -> Plain:
        """The plan as a program reads it."""
        return {
            "meaning": list(self.meaning),
            "effects": [
                {"thing": e.thing, "what": e.what, "stops": e.blink, "more": e.more}
                for e in self.effects
            ],
            "files": list(self.files),
            "problems": list(self.problems),
            "affected": {str(guest): list(found) for guest, found in self.affected.items()},
            "management": list(self.management),
            "nothing": self.nothing,
        }


def outlook(
    plan: Plain,
    release: Release,
    nodes: Iterable[GuestNode],
    before: Plain,
    after: Plain,
    here: str,
) -> Outlook:
    """What a host's plan for a release comes to; `before` and `after` describe the network that
    runs and that shall, `here` is the address by which the host is reached now."""
    guests = {node.id: node for node in nodes}
    changed = [c for c in plan["changes"] if c["path"] != _CURRENT]
    bridges = _bridges(changed)
    names = {number: node.name for number, node in guests.items()}
    effects = (*_created(plan["creates"], guests), *_effects(plan["effects"], names, bridges))
    return Outlook(
        meaning=tuple(d.render() for d in differences(before, after)) if before else _first(after),
        effects=effects,
        files=tuple(c["path"] for c in changed if not c["path"].startswith(_OURS)),
        problems=tuple(plan["problems"]),
        affected={
            int(number): hit
            for number, there in sorted(plan["foreign"].items(), key=lambda pair: int(pair[0]))
            if (hit := tuple(b for b in there if b.partition(".")[0] in bridges or b in bridges))
        },
        management=_management(changed, release, bridges, here)
        if plan["effects"]["network"]
        else (),
        limit=_limit(plan["effects"]),
        nothing=not changed and not plan["creates"],
    )


def _first(after: Plain) -> tuple[str, ...]:
    """A first deploy, told in a few lines instead of as a list of all that is new."""
    return tuple(
        f"+ {section}: {', '.join(after[section])}"
        for section in ("bridges", "guests", "services", "exposed")
        if after.get(section)
    )


def _created(creates: Iterable[int], guests: Mapping[int, GuestNode]) -> Iterator[Effect]:
    for number in creates:
        template = dict(guests[number].creation).get("template", "")
        yield Effect(f"guest {number} {guests[number].name}", "create", more=f"from {template}")


def _effects(found: Plain, names: Mapping[int, str], bridges: set[str]) -> Iterator[Effect]:
    if found["network"]:
        which = ", ".join(sorted(bridges)) or "nothing that is up"
        yield Effect("the host's network", "reload", "for about a second" if bridges else "", which)
    for unit in found["stopped"]:
        yield Effect(unit, "stop")
    for unit in found["reloaded"]:
        yield Effect(unit, "reload")
    for path in (*found["modules"], *found["sysctls"]):
        yield Effect(path, "load")
    for guest in found["guests"]:
        number, what = guest["number"], guest["what"]
        thing = f"guest {number} {names.get(number, '')}".rstrip()
        if what == "switch":
            yield from _switched(thing, guest)
        elif what == "restart":
            yield Effect(thing, what, "for its start, 5 to 20 s")
        else:
            keys = ", ".join(guest.get("keys", ()))
            yield Effect(thing, what, more=_MORE.get(what, "").format(keys=keys))


def _switched(thing: str, guest: Plain) -> Iterator[Effect]:
    for daemon in guest["daemons"]:
        yield Effect(f"{thing}: {daemon}", "switch", more="to its other slot; no request is lost")
    for unit in guest["units"]:
        yield Effect(f"{thing}: {unit}", "restart", "for about a second")
    if not guest["daemons"] and not guest["units"]:
        yield Effect(thing, "refresh", more="files only")


def _limit(found: Plain) -> int:
    seconds = _BASE + _NETWORK * bool(found["network"])
    for guest in found["guests"]:
        heavy = _GUEST if guest["what"] in ("start", "restart") else _UNIT
        seconds += heavy + _DAEMON * len(guest["daemons"])
    return seconds


def stanzas(text: str) -> dict[str, str]:
    """What an interfaces file says of each interface, in one text per name."""
    found: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "iface" and len(words) > 1:
            name = words[1]
        elif words[0] in _BETWEEN or words[0].startswith("allow-"):
            name = ""
        if name:
            found.setdefault(name, []).append(" ".join(words))
    return {name: "\n".join(lines) for name, lines in found.items()}


def _bridges(changed: Iterable[Plain]) -> set[str]:
    """The interfaces that change, and the bridges whose ports do."""
    for change in changed:
        if change["path"] == _INTERFACES:
            old, new = stanzas(change["old"]), stanzas(change["new"])
            differ = {name for name in {*old, *new} if old.get(name) != new.get(name)}
            ports = {
                name
                for each in (old, new)
                for name, text in each.items()
                for line in text.splitlines()
                if line.startswith(("bridge-ports", "bridge_ports")) and differ & set(line.split())
            }
            return differ | ports
    return set()


def _management(
    changed: Iterable[Plain], release: Release, names: set[str], here: str
) -> tuple[str, ...]:
    """The host's own addresses on what changes: all that it had, and the one that it is to have."""
    found = set()
    for change in changed:
        if change["path"] == _INTERFACES:
            for side, own in (("old", (here, *release.management)), ("new", ())):
                for name, text in stanzas(change[side]).items():
                    words = {word.partition("/")[0] for word in text.split()}
                    if name in names:
                        found |= words & {*own, release.reach.address}
    return tuple(sorted(found))


def text(changed: Iterable[Plain]) -> Iterator[str]:
    """The lines of every file that changes, for those who want to read them."""
    for change in changed:
        if not change["link"] and not change["path"].startswith(_OURS):
            old, new = (change[side].splitlines(keepends=True) for side in ("old", "new"))
            for line in difflib.unified_diff(old, new, change["path"], change["path"]):
                yield line if line.endswith("\n") else f"{line}\n"
