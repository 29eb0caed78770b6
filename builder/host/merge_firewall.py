"""A guest's NNN.fw (PVE::Firewall, generic_fw_config_parser), by section.

Ours are the options that we set, and [RULES], [ALIASES], [IPSET x] and [group x] whole: a rule or
an address more opens what is meant to be shut. What somebody added to such a section is not lost,
it waits in the base until the section isn't ours. Comments do nothing, and always stay.

A section that PVE doesn't know is none: it reads those lines as the section's before.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .merge_units import LINE, Key, Unit, Units, exchange, filled, join, keys, of

_HEAD = re.compile(
    rb"\[(options|rules|aliases|(?:ipset|group)\s+[^\]\s]+)\]\s*(?:#[^\n]*)?\s*", re.IGNORECASE
)
_OPTIONS = b"options"


class _Section(NamedTuple):
    name: bytes
    head: bytes
    body: Units

    def units(self) -> Units:
        return (Unit(None, self.head), *self.body)


_Sections = list[_Section]


def lay(base: bytes, owned: bytes) -> bytes:
    """`base` with the options and sections of `owned`."""
    file = _parse(base)
    for ours in _parse(owned)[1:]:
        body = _body(file, ours.name)
        gone = keys(ours.body) if ours.name == _OPTIONS else keys(body)
        put = of(ours.body, keys(ours.body))
        # Under our own head: PVE passes over one that ends in a blank or CR.
        file = _put(file, _Section(ours.name, ours.head, _into(body, gone, put)))
    return _text(file)


def lift(live: bytes, owned: bytes, recorded: bytes) -> bytes:
    """`live` with what `recorded` has in place of the options and lines of `owned`."""
    file, before = _parse(live), _parse(recorded)
    for ours in _parse(owned)[1:]:
        body, was = _body(file, ours.name), _body(before, ours.name)
        put = of(was, keys(ours.body) if ours.name == _OPTIONS else keys(was))
        gone = {**keys(ours.body), **keys(put)}
        new = _into(body, gone, put)
        heads = [section.head for section in (*before, *file) if section.name == ours.name]
        if any(not unit.blank for unit in new) or ours.name in (section.name for section in before):
            file = _put(file, _Section(ours.name, heads[0], new))
        else:
            file = [section for section in file if section.name != ours.name]
    return _text(file)


def _into(body: Units, gone: dict[Key, None], put: Units) -> Units:
    """A section's lines; one that is new has blank lines around them, as PVE writes it."""
    if not body:
        return (Unit(None, b"\n"), *put, Unit(None, b"\n"))
    return exchange(body, gone, put, filled(body))


def _body(file: _Sections, name: bytes) -> Units:
    return tuple(unit for section in file if section.name == name for unit in section.body)


def _put(file: _Sections, new: _Section) -> _Sections:
    """`new` in place of the first of its name, or at the end."""
    names = [section.name for section in file]
    place = names.index(new.name) if new.name in names else len(file)
    return [*file[:place], new, *(s for s in file[place:] if s.name != new.name)]


def _text(file: _Sections) -> bytes:
    return join(unit for section in file for unit in section.units())


def _parse(data: bytes) -> _Sections:
    """The sections; the first, without a name, is what comes before."""
    name, head, body = b"", b"", list[Unit]()
    file = _Sections()
    for line in LINE.findall(data):
        if found := _HEAD.fullmatch(line):
            file.append(_Section(name, head, tuple(body)))
            name, head, body = b" ".join(found[1].lower().split()), line, []
        else:
            body.append(Unit(_key(name, line), line))
    return [*file, _Section(name, head, tuple(body))]


def _key(section: bytes, line: bytes) -> Key | None:
    words = line.split()
    if not words or words[0].startswith(b"#"):
        return None
    return (words[0].partition(b":")[0].lower(),) if section == _OPTIONS else tuple(words)
