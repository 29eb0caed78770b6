"""What is running, and the transaction under way: two files, each there whole or not at all.

The *record* says which generation runs, and of every target what we wrote and what stood there
before. It is the last file that a transaction changes. The *journal* holds a transaction's every
change with old and new content; while it is there, nothing is decided: unless its confirmation
comes, everything goes back.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from .release import canonical

FORMAT = 1
Stage = Literal["preparing", "changing", "confirming"]


class Held(NamedTuple):
    """A target that is ours: the digest of its content in the release, what stood there without
    us, with which mode, and what we wrote."""

    merge: str
    mode: int
    content: str
    base: bytes | None
    stood: int
    written: bytes


class HeldGuest(NamedTuple):
    """A guest that is ours: its node's digest, its secrets' bundle ("" for none), and whether we
    created it."""

    name: str
    node: str
    bundle: str
    made: bool


class Record(NamedTuple):
    """What runs; generation 0 is the host as it was found, and owns nothing."""

    generation: int = 0
    targets: Mapping[str, Held] = MappingProxyType({})
    guests: Mapping[int, HeldGuest] = MappingProxyType({})


class Change(NamedTuple):
    """One name on the host, before and after; None where nothing stands. `mode` is the file's
    afterwards, `was` before. A link's content is where it leads, and it has no mode."""

    path: str
    old: bytes | None
    new: bytes | None
    mode: int = 0o644
    was: int = 0o644
    link: bool = False

    @property
    def needed(self) -> bool:
        """Whether it changes anything."""
        return self.old != self.new or (self.mode != self.was and self.new is not None)

    @property
    def back(self) -> Change:
        """The change that takes this one back."""
        return self._replace(old=self.new, new=self.old, mode=self.was, was=self.mode)


class Journal(NamedTuple):
    """A transaction. `deadline` is in seconds since the epoch; `creates` the guests that it makes,
    recorded before they are; `running` are those that ran when it began, `lacking` is what was not
    there of the network then. The last of the changes
    is the record's: it is made just before the effects, and taken back just after theirs. While
    the new one stands, what runs may be of the new generation."""

    generation: int
    before: int
    stage: Stage
    deadline: float
    why: str
    creates: tuple[int, ...] = ()
    running: tuple[int, ...] = ()
    lacking: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()


def dump_record(record: Record) -> bytes:
    """The record's bytes."""
    targets = {path: _plain(held) for path, held in record.targets.items()}
    guests = {str(number): held._asdict() for number, held in record.guests.items()}
    return canonical(
        {
            "format": FORMAT,
            "generation": record.generation,
            "targets": targets,
            "guests": guests,
        }
    )


def load_record(data: bytes | None) -> Record:
    """The record of its bytes; without any, that of a host as it was found."""
    if data is None:
        return Record()
    plain = _load(data)
    targets = {path: Held(**_values(each)) for path, each in plain["targets"].items()}
    guests = {int(number): HeldGuest(**each) for number, each in plain["guests"].items()}
    return Record(plain["generation"], targets, guests)


def dump_journal(journal: Journal) -> bytes:
    """The journal's bytes."""
    changes = [_plain(change) for change in journal.changes]
    plain = journal._asdict() | {
        "changes": changes,
        "deadline": int(journal.deadline),
        "format": FORMAT,
    }
    return canonical(plain)


def load_journal(data: bytes) -> Journal:
    """The journal of its bytes."""
    plain = _load(data)
    changes = tuple(Change(**_values(each)) for each in plain.pop("changes"))
    lists = {key: tuple(plain.get(key, ())) for key in ("creates", "running", "lacking")}
    return Journal(**plain | lists | {"changes": changes})


def _load(data: bytes) -> Any:
    plain = json.loads(data)
    number = plain.pop("format")
    # An older program never meets a newer one's files: a host's program only ever grows newer.
    assert number == FORMAT, f"format {number}"
    return plain


_BYTES = ("old", "new", "base", "written")


def _plain(value: Held | Change) -> dict[str, object]:
    plain = value._asdict()
    for key in _BYTES:
        if plain.get(key) is not None:
            plain[key] = base64.b64encode(plain[key]).decode()
    return plain


def _values(plain: dict[str, Any]) -> dict[str, Any]:
    return {
        key: base64.b64decode(value) if key in _BYTES and value is not None else value
        for key, value in plain.items()
    }
