"""What of a running release does not run as it should, and what is done about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from . import commands, network
from .decide import Effects, GuestEffect
from .paths import Paths
from .platforms import Platform
from .release import Release

_LATER = "75"
"""How a unit ends that its timer starts again (EX_TEMPFAIL): what it needs is not there yet."""
_FACTS = ("Id", "ActiveState", "Restart", "RemainAfterExit", "ConditionResult", "ExecMainStatus")
_UNITS = "/etc/systemd/system/"


class Fault(NamedTuple):
    """One thing, in words. `guest` is which one's, None for the host's own; `runs` says whether
    that guest does; `unit` is the host's unit, "" where it is the network."""

    text: str
    guest: int | None = None
    runs: bool = True
    unit: str = ""


def faults(paths: Paths, platform: Platform, wanted: Release | None) -> Iterator[Fault]:
    """What does not run as the files say; nothing is asked of a host that is none of ours."""
    if wanted is None:
        return
    text = paths.at("/etc/network/interfaces")
    if text.exists():
        yield from (Fault(each) for each in network.missing(network.expected(text.read_bytes())))
    for target in wanted.targets:
        unit = target.path.removeprefix(_UNITS)
        if unit.endswith(".service") and "/" not in unit:
            code, said = commands.status("systemctl", "is-active", unit)
            if code:
                yield Fault(f"{unit} is {said.strip()}", unit=unit)
    running = platform.all()
    for ref in wanted.guests:
        named = f"guest {ref.id} ({ref.name})"
        if not running.get(ref.id):
            yield Fault(f"{named} does not run", ref.id, runs=False)
            continue
        for said in _units(platform, ref.id):
            yield Fault(f"{named}: {said}", ref.id)


def rules(wanted: Release | None) -> Iterator[Fault]:
    """The units that load the host's rules, as faults: what of the rules in the kernel somebody has
    taken away shows in no unit."""
    for target in wanted.targets if wanted else ():
        if target.path.startswith("/etc/phoenix/") and target.path.endswith(".nft"):
            unit = f"phoenix-{target.path.rpartition('/')[2].removesuffix('.nft')}.service"
            yield Fault("its rules are loaded anew", unit=unit)


def effects(found: Iterable[Fault]) -> Effects:
    """What has run again what does not; a guest's own system starts what lacks in it."""
    every = tuple(found)
    guests = {each.guest: each.runs for each in every if each.guest is not None}
    return Effects(
        network=any(each.guest is None and not each.unit for each in every),
        reloaded=tuple(dict.fromkeys(each.unit for each in every if each.unit)),
        guests=tuple(
            GuestEffect(number, "switch" if runs else "start") for number, runs in guests.items()
        ),
    )


def _units(platform: Platform, guest: int) -> Iterator[str]:
    """The units of ours in a guest that failed, or do not run and should."""
    show = f"systemctl show --all --property={','.join(_FACTS)} 'phoenix-*'"
    _, said = platform.inside(guest, "sh", "-c", f"echo slots $(ls /run/phoenix-slots); {show}")
    first, _, rest = said.partition("\n")
    slots = first.split()[1:]
    for block in rest.split("\n\n"):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        unit, state = facts.get("Id", ""), facts.get("ActiveState")
        slot = unit.removesuffix(".service").partition("@")[2]
        if slot and slot not in slots:
            # It is to be stopped, and may have had to be killed for that.
            continue
        if state == "failed" and facts.get("ExecMainStatus") != _LATER:
            yield f"{unit} failed"
        elif state == "inactive" and (slot or _stays(unit, facts)):
            yield f"{unit} does not run"


def _stays(unit: str, facts: dict[str, str]) -> bool:
    """Whether a unit without slots runs for good once it is started, and no condition keeps it
    from that."""
    for_good = facts.get("Restart") == "always" or facts.get("RemainAfterExit") == "yes"
    lasts = for_good or unit.endswith((".timer", ".path"))
    return lasts and facts.get("ConditionResult") == "yes"
