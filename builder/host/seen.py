"""What runs inside of guests: each daemon's slot and the folder that it was started from, and how
long certificates still last. One look into each guest says it all."""

from __future__ import annotations

import base64
import calendar
import contextlib
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .platforms import Platform

_LATE = 4
"""A certificate is renewed when a third of its life is left; a quarter, and it was not."""
_DAY = 24 * 3600
# RFC 5280, 4.1.2.5: two times in a sequence, and until 2049 as UTCTime.
_VALIDITY = re.compile(rb"\x30\x1e\x17\x0d(\d{12})Z\x17\x0d(\d{12})Z")
SCRIPT = """
live=$(cat /var/lib/phoenix/slots/live 2>/dev/null || echo a)
cd "$(readlink -f /opt/phoenix/current)" || exit
for each in /var/lib/phoenix/slots/*/; do
    from=$(readlink "$each$live") || continue
    name=$(basename "$each") same=yes
    for part in "$name" "programs/$name" slots "units/phoenix-$name@"*; do
        diff -rq "$from/$part" "$part" >/dev/null 2>&1 || same=no
    done
    echo "slot $name $live $same"
done
for each in /var/lib/phoenix/certificates/*/certificate.pem; do
    [ ! -e "$each" ] || { echo "certificate $each"; cat "$each"; }
done
"""
"""What is run in a guest to see it all."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A slotted daemon: its live slot, and whether what that runs from is what the guest's current
    folder holds of it."""

    guest: int
    name: str
    slot: str
    current: bool


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate of a guest by its name: its life, and what is left of it, in seconds."""

    guest: int
    name: str
    life: int
    left: int

    @property
    def late(self) -> bool:
        """Whether it should have been renewed by now."""
        return self.left * _LATE < self.life


def look(platform: Platform, guest: int) -> tuple[tuple[Daemon, ...], tuple[Certificate, ...]]:
    """What runs in a running guest, and its certificates."""
    said = platform.inside(guest, "sh", "-c", SCRIPT)[1].splitlines()
    rows = (line.split() for line in said if line.startswith("slot "))
    daemons = tuple(Daemon(guest, name, slot, same == "yes") for _, name, slot, same in rows)
    return daemons, tuple(_certificates(guest, said))


def faults(name: str, daemons: Sequence[Daemon], every: Sequence[Certificate]) -> Iterator[str]:
    """What of this is not as it should be; `name` is the guest's."""
    for each in daemons:
        if not each.current:
            yield f"guest {each.guest} ({name}): {each.name} runs from a folder of before"
    for held in every:
        of = f"guest {held.guest} ({name}): the certificate of {held.name}"
        if held.left <= 0:
            yield f"{of} is over"
        elif held.late:
            yield f"{of} ends in {_span(held.left)}, and was not renewed"


def _span(seconds: int) -> str:
    return f"{seconds // _DAY} days" if seconds >= 2 * _DAY else f"{seconds // 60} min"


def _certificates(guest: int, said: Sequence[str]) -> Iterator[Certificate]:
    starts = [at for at, line in enumerate(said) if line.startswith("certificate /")]
    for at, end in itertools.pairwise([*starts, len(said)]):
        # The first one is the leaf; its first line says that it begins.
        rest = said[at + 2 : end]
        lines = itertools.takewhile(lambda line: not line.startswith("-----END"), rest)
        with contextlib.suppress(ValueError):
            found = _VALIDITY.search(base64.b64decode("".join(lines)))
            if found:
                begins, ends = (_seconds(each) for each in found.groups())
                name, left = said[at].split("/")[-2], round(ends - time.time())
                yield Certificate(guest, name, ends - begins, left)


def _seconds(stamp: bytes) -> int:
    return calendar.timegm(time.strptime(stamp.decode(), "%y%m%d%H%M%S"))
