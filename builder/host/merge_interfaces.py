"""/etc/network/interfaces as ifupdown2 reads it (networkinterfaces.py), by interface.

Ours are all stanzas of an interface, of every family, its `auto` and `allow-*`, and a `source`
line. Comments, `mapping`, and whatever isn't understood are never ours. A bare `lo` of ours says
only that there is one: another `lo`, with more in it, stays. What an interface is made of (a bond's
members, a VLAN's device) stays too, where ours don't say it: they name ports, and don't make them.

A blank line ends no stanza. A backslash takes the ends of lines around it away, in comments too.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from .merge_units import Key, Unit, Units, exchange, join, keys, of

_CONTINUED = re.compile(rb"(?:[^\n\\]++|\\\s*+|\n[ \t\r]*+(?=\\))*+\n?")
_NAMING = (b"auto", b"no-auto-down", b"no-scripts")
_STANZAS = (b"iface", b"vlan")
_SOURCES = (b"source", b"source-directory")
_LO = (b"lo",)
_MAKING = re.compile(rb"\s*((?:bond|vlan|ethtool|link)-\S+|hwaddress)\s")


def lay(base: bytes, owned: bytes) -> bytes:
    """`base` with the stanzas of `owned`: in place of its own, or at the end."""
    return _put(base, _claimed(owned, base), owned, carry=True)


def lift(live: bytes, owned: bytes, recorded: bytes) -> bytes:
    """`live` with what `recorded` has in place of the stanzas of `owned`."""
    return _put(live, _claimed(owned, live), recorded)


def _claimed(owned: bytes, file: bytes) -> Collection[Key]:
    """What `owned` speaks of, in order, without a bare `lo` where `file` has another."""
    said = _parse(owned, None)
    names = keys(said)
    ours = [unit.text.split() for unit in of(said, [_LO])]
    theirs = [unit.text.split() for unit in of(_parse(file, None), [_LO])]
    if theirs not in ([], ours) and all(words[:1] in ([b"auto"], [b"iface"]) for words in ours):
        names.pop(_LO, None)
    return names


def _put(file: bytes, names: Collection[Key], other: bytes, carry: bool = False) -> bytes:
    """`file`, with what `other` says of `names` in place of what it says itself."""
    units, theirs = _parse(file, names), _parse(other, names)
    for name in names:
        put = of(theirs, [name])
        if of(units, [name]):
            made = _making(of(units, [name]), put) if carry else ()
            units = _replaced(units, name, (*put, *made))
        elif put:
            units = (*units, *_apart(units), *put)
    return join(units)


def _making(theirs: Units, ours: Units) -> Units:
    """Their lines that say what the interface is made of, where ours don't."""
    said = {unit.text.split()[0] for unit in ours if not unit.blank}
    return tuple(
        unit for unit in theirs if (found := _MAKING.match(unit.text)) and found[1] not in said
    )


def _apart(units: Units) -> Units:
    """What must stand between them and what is appended."""
    if not units or units[-1].blank:
        return ()
    # What follows an open continuation would become a part of it.
    opened = units[-1].text.rstrip().endswith(b"\\")
    return (Unit(None, b"\n#\n" if opened else b"\n"),)


def _replaced(units: Units, name: Key, put: Units) -> Units:
    place = next(i for i, unit in enumerate(units) if unit.key == name)
    units = exchange(units, [name], put, place)
    around = units[max(place - 1, 0) : place + 1]
    # Of the blank lines before and after what is gone one suffices.
    if not put and around and all(unit.blank for unit in around):
        return (*units[: max(place - 1, 0)], *units[max(place, 1) :])
    return units


def _parse(data: bytes, ours: Collection[Key] | None) -> Units:
    """The lines; their keys are names of `ours` (None: all). Lines that name more are split."""
    units = list[Unit]()
    key: Key | None = None
    for line in filter(None, _CONTINUED.findall(data)):
        words = line.replace(b"\\", b" ").split()
        named = _named(words)
        if not words or words[0].startswith(b"#"):
            units.append(Unit(None, line))
        elif named is None:
            units.append(Unit(key, line))
        else:
            split = _split(line, words[0], named, ours)
            key = split[-1].key
            units += split
    return _inner(units)


def _named(words: list[bytes]) -> list[Key] | None:
    """What a line that begins something speaks of; None for a line within."""
    if not words:
        return None
    if words[0] in _NAMING or words[0].split(b"-")[0] == b"allow":
        return [(word,) for word in words[1:]]
    if words[0] in _STANZAS:
        return [(word,) for word in words[1:2]]
    if words[0] in _SOURCES:
        return [tuple(words)]
    return [] if words[0] == b"mapping" else None


def _split(line: bytes, word: bytes, named: list[Key], ours: Collection[Key] | None) -> Units:
    mine = [name for name in named if ours is None or name in ours]
    if not mine or len(named) == 1:
        return (Unit(mine[0] if mine else None, line),)
    # Theirs last: a stray option after the line must not come under a stanza of ours.
    rest = [name[0] for name in named if name not in mine]
    theirs = [Unit(None, b"%s %s\n" % (word, b" ".join(rest)))] if rest else []
    return (*(Unit(name, b"%s %s\n" % (word, name[0])) for name in mine), *theirs)


def _inner(units: list[Unit]) -> Units:
    """A blank line between two lines of the same key goes with them."""
    for i in range(1, len(units) - 1):
        if units[i].blank and units[i - 1].key == units[i + 1].key:
            units[i] = Unit(units[i - 1].key, units[i].text)
    return tuple(units)
