"""What runs inside of guests: each daemon's slot and the folder that it was started from, and how
long certificates still last; and how requests ended (`counted`). One look into each guest says it
all."""

from __future__ import annotations

import base64
import calendar
import contextlib
import itertools
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from . import counted
from .counted import Rate
from .platforms import Platform
from .release import Release

_LOOKS = 8
"""So often its client looks at a certificate in the time that is left once it is due for renewal;
after two of these looks, it is late."""
_DELIVERED = 8
"""Nobody renews a delivered certificate: it is told of for the last eighth of its life."""
_PUBLIC = 3
"""A public directory's is renewed when a third of its life is left (RENEW is 0)."""
# RFC 5280, 4.1.2.5: two times in a sequence, and until 2049 as UTCTime.
_VALIDITY = re.compile(rb"\x30\x1e\x17\x0d(\d{12})Z\x17\x0d(\d{12})Z")
_SLOTS = """
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
"""
_CERTIFICATES = """
cd "$(readlink -f /opt/phoenix/current)" || exit
[ ! -e acme/certificates ] || while read -r name _ _ renew url _; do
    case $name in '#'*) continue ;; esac
    from=${url#https://}
    echo "order $name $renew ${from%%/*} $(cat "/var/lib/phoenix/acme/failed/$name" 2>/dev/null)"
    echo "certificate $name"
    cat "/var/lib/phoenix/certificates/$name/certificate.pem" 2>/dev/null
done <acme/certificates
for each in /opt/phoenix-secrets/current/*.crt; do
    [ ! -e "$each" ] || { echo "certificate $(basename "$each" .crt)"; cat "$each"; }
done
"""
SCRIPT = counted.SCRIPT + _SLOTS + _CERTIFICATES
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
    """A certificate of a guest by its name: its life and what is left of it in seconds, no life
    where there is none yet; when it ends, in seconds since 1970. `renewed` is how much is left when
    it is due, `source` who gives it out ("" where it is delivered), and `why` that did not at the
    last try."""

    guest: int
    name: str
    life: int
    left: int
    ends: int = 0
    renewed: int = 0
    source: str = ""
    why: str = ""

    @property
    def late(self) -> bool:
        """Whether it should have been renewed by now."""
        due = self.renewed * (_LOOKS - 2) // _LOOKS
        return self.left < (due if self.source else self.life // _DELIVERED)


@dataclass(frozen=True, slots=True)
class _Order:
    renewed: int = 0
    source: str = ""
    why: str = ""


Seen = tuple[tuple[Daemon, ...], tuple[Certificate, ...], tuple[Rate, ...]]


def look(platform: Platform, guest: int) -> Seen:
    """What runs in a running guest, its certificates, and how requests ended there."""
    said = platform.inside(guest, "sh", "-c", SCRIPT)[1].splitlines()
    rows = (line.split() for line in said if line.startswith("slot "))
    daemons = tuple(Daemon(guest, name, slot, same == "yes") for _, name, slot, same in rows)
    return daemons, tuple(_certificates(guest, said)), tuple(counted.rates(guest, said))


def worn(platform: Platform, wanted: Release | None) -> Iterator[str]:
    """Which certificates of running guests are not renewed as they should be, and why."""
    running = platform.all()
    for ref in wanted.guests if wanted else ():
        if running.get(ref.id):
            said = platform.inside(ref.id, "sh", "-c", _CERTIFICATES)[1].splitlines()
            held = [each for each in _certificates(ref.id, said) if each.life]
            yield from faults(ref.name, (), held)


def faults(name: str, daemons: Sequence[Daemon], every: Sequence[Certificate]) -> Iterator[str]:
    """What of this is not as it should be; `name` is the guest's. The words stay the same for as
    long as it stays so."""
    for each in daemons:
        if not each.current:
            yield f"guest {each.guest} ({name}): {each.name} runs from a folder of before"
    for held in every:
        if said := _wrong(held):
            why = f": {held.why}" if held.why else ""
            yield f"guest {held.guest} ({name}) {said.format(held.name)}{why}"


def _wrong(held: Certificate) -> str:
    if not held.life:
        return f"waits for the certificate of {{}} from {held.source}"
    if held.left <= 0:
        return f"has a certificate of {{}} that ended at {_clock(held.ends)}"
    if held.left > held.life:
        return f"has a certificate of {{}} that is not valid until {_clock(held.ends - held.life)}"
    if held.late:
        return f"has a certificate of {{}} that ends at {_clock(held.ends)}, and was not renewed"
    return ""


def _clock(seconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _certificates(guest: int, said: Sequence[str]) -> Iterator[Certificate]:
    orders = dict(_orders(said))
    starts = [at for at, line in enumerate(said) if line.startswith("certificate ")]
    for at, end in itertools.pairwise([*starts, len(said)]):
        name = said[at].split()[1]
        order, (begins, ends) = orders.get(name, _Order()), _validity(said[at + 1 : end])
        life = ends - begins
        if life or order.source:
            renewed = (order.renewed or life // _PUBLIC) if order.source else 0
            left = ends - round(time.time()) if life else 0
            yield Certificate(guest, name, life, left, ends, renewed, order.source, order.why)


def _orders(said: Sequence[str]) -> Iterator[tuple[str, _Order]]:
    for line in said:
        if line.startswith("order "):
            _, name, renewed, source, *why = line.split(" ", 4)
            yield name, _Order(int(renewed), source, "".join(why).strip())


def _validity(lines: Sequence[str]) -> tuple[int, int]:
    """When a chain's leaf begins and ends to be valid; zeros where there is none to read."""
    # The first one is the leaf; its first line says that it begins.
    rest = itertools.takewhile(lambda line: not line.startswith("-----END"), lines[1:])
    with contextlib.suppress(ValueError):
        found = _VALIDITY.search(base64.b64decode("".join(rest)))
        if found:
            begins, ends = (_seconds(each) for each in found.groups())
            return begins, ends
    return 0, 0


def _seconds(stamp: bytes) -> int:
    return calendar.timegm(time.strptime(stamp.decode(), "%y%m%d%H%M%S"))
