"""Which running guests owe a restart: their configuration says what they only take at a start, and
their release says that none is made for it. Whoever restarts such a guest pays.

A note holds the number of the guest's first process; another one there, and it is paid. Notes lie
on /run: a boot pays them all.
"""

from __future__ import annotations

from collections.abc import Iterator

from .paths import Paths
from .platforms import Platform

_NOTES = "/run/phoenix-owed"


def note(paths: Paths, platform: Platform, guest: int) -> None:
    """Note that a running guest owes a restart."""
    folder = paths.at(_NOTES)
    folder.mkdir(exist_ok=True)
    (folder / str(guest)).write_text(str(platform.process(guest)))


def owing(paths: Paths, platform: Platform) -> Iterator[int]:
    """The guests that owe one still."""
    folder = paths.at(_NOTES)
    notes = sorted(folder.iterdir()) if folder.is_dir() else []
    running = platform.all() if notes else {}
    for each in notes:
        guest = int(each.name)
        if running.get(guest) and each.read_text() == str(platform.process(guest)):
            yield guest
