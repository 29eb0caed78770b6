"""Lines of a file by what they speak of, and how those that are ours change places with others."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

Key = tuple[bytes, ...]
LINE = re.compile(rb"[^\n]*\n|[^\n]+")


class Unit(NamedTuple):
    """One or more lines; key None: never ours, such as a blank line."""

    key: Key | None
    text: bytes

    @property
    def blank(self) -> bool:
        """Whether there is nothing in it."""
        return not self.text.strip()


Units = tuple[Unit, ...]


def keys(units: Iterable[Unit]) -> dict[Key, None]:
    """What they speak of, each once, in order."""
    return dict.fromkeys(unit.key for unit in units if unit.key is not None)


def of(units: Iterable[Unit], wanted: Collection[Key]) -> Units:
    """Those that speak of `wanted`."""
    return tuple(unit for unit in units if unit.key in wanted)


def filled(units: Units) -> int:
    """Where the blank units at the end begin."""
    return max((i for i, unit in enumerate(units, 1) if not unit.blank), default=0)


def exchange(file: Units, gone: Collection[Key], put: Units, end: int) -> Units:
    """`put` where the first unit of `gone` is, or at `end` if none is, and no other of `gone`."""
    place = next((i for i, unit in enumerate(file) if unit.key in gone), end)
    return (*file[:place], *put, *(unit for unit in file[place:] if unit.key not in gone))


def join(units: Iterable[Unit]) -> bytes:
    """The file; a line without an end, as a file's last may be, gets one where it isn't last."""
    *texts, last = [b"", *(unit.text for unit in units if unit.text)]
    ended = (text if text.endswith(b"\n") else text + b"\n" for text in texts if text)
    return b"".join((*ended, last))
