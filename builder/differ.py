"""How two releases differ: by meaning, from the descriptions that they carry. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

# What a person calls the things of each section of a description (`describe`).
_THINGS = {
    "authority": "certificate of the",
    "bridges": "bridge",
    "certificates": "certificate",
    "exposed": "exposed",
    "flows": "flow",
    "guests": "guest",
    "host": "host",
    "machines": "machine",
    "names": "name",
    "programs": "program",
    "services": "service",
    "site": "site",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs; `before` is "" for what is new, `after` for what is gone."""

    thing: str
    name: str
    aspect: str
    before: str
    after: str

    def render(self) -> str:
        """One line: "service chat: port 8000 → 8001", "guest qdrant: gone"."""
        what = " ".join(part for part in (self.thing, self.name) if part)
        aspect = f": {self.aspect}" if self.aspect else ""
        if not self.before:
            tail = f" {self.after}" if self.aspect or self.thing in _TOLD_WHOLE else ""
            return f"+ {what}{aspect}{tail}"
        if not self.after:
            tail = f" {self.before}" if self.aspect or self.thing in _TOLD_WHOLE else ""
            return f"- {what}{aspect}{tail}"
        return f"~ {what}{aspect} {self.before} → {self.after}"


_TOLD_WHOLE = frozenset({"name", "exposed", "certificate", "certificate of the", "program"})


def differences(before: Mapping[str, object], after: Mapping[str, object]) -> list[Difference]:
    """All differences between two descriptions, by section, then name, then aspect."""
    found: list[Difference] = []
    for section in sorted({*before, *after}):
        old, new = before.get(section, {}), after.get(section, {})
        assert isinstance(old, Mapping)
        assert isinstance(new, Mapping)
        thing = _THINGS.get(section, section)
        if section in {"site", "host"}:
            found += _aspects(thing, "", old, new, "")
            continue
        for name in sorted({*old, *new}):
            found += _named(thing, name, old.get(name), new.get(name))
    return found


def _named(thing: str, name: str, old: object, new: object) -> Iterator[Difference]:
    if old == new:
        return
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _aspects(thing, name, old, new, "")
    else:
        yield Difference(thing, name, "", _text(old), _text(new))


def _aspects(
    thing: str, name: str, old: Mapping[str, object], new: Mapping[str, object], prefix: str
) -> Iterator[Difference]:
    for key in sorted({*old, *new}):
        was, now = old.get(key), new.get(key)
        if was == now:
            continue
        aspect = f"{prefix}{key}"
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            yield from _aspects(thing, name, was, now, f"{aspect} ")
        elif isinstance(was, list) and isinstance(now, list):
            yield from _members(thing, name, aspect, was, now)
        else:
            yield Difference(thing, name, aspect, _text(was), _text(now))


def _members(
    thing: str, name: str, aspect: str, old: list[object], new: list[object]
) -> Iterator[Difference]:
    """Lists by their members; one whose order alone differs is told whole."""
    gone = [item for item in old if item not in new]
    added = [item for item in new if item not in old]
    for item in gone:
        yield Difference(thing, name, aspect, _text(item), "")
    for item in added:
        yield Difference(thing, name, aspect, "", _text(item))
    if not gone and not added:
        yield Difference(thing, name, aspect, _text(old), _text(new))


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items()) or "empty"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value) or "none"
    return str(value) or "empty"
