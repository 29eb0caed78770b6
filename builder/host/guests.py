"""What is done inside of a running guest after its link flipped: only what changed is touched.

A slotted daemon is started in its other slot, asked there, and only then led to; the old slot
drains, and is stopped once it is idle or its grace is over, by a unit of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from .commands import FailedError
from .decide import GuestEffect
from .platforms import Platform

_SLOTS = "/opt/phoenix/current/bin/phoenix-slots"
_ANY_SLOTS = """
for folder in /opt/phoenix/current /var/lib/phoenix/slots/*/[ab]; do
    folder=$(readlink -f "$folder") || continue
    script=${folder%/traefik/draining}/bin/phoenix-slots
    [ ! -x "$script" ] || exec "$script" "$@"
done
exit 127
"""
"""The running folder's script; where its daemon was dropped, that of the slot that still runs."""
_OTHER = {"a": "b", "b": "a"}
QUIET = 10.0
"""Seconds that an old slot is without a connection until it is stopped: as long as a client whose
first packet was led there may take."""
Ask = Callable[[int, str, str], str | None]
"""Why a guest's daemon does not answer in a slot, or None where it does: (guest, daemon, slot)."""


class Draining(NamedTuple):
    """A guest's slot that runs and to which no traffic is led: how many connections it has, since
    how many seconds they are asked to go and how many they still have, and the name of the folder
    that it runs from."""

    guest: int
    slot: str
    connections: int
    since: int
    left: int
    folder: str

    @property
    def used(self) -> bool:
        """Whether somebody would lose something, were it stopped."""
        return self.left > 0 and (self.connections > 0 or self.since < QUIET)

    def __str__(self) -> str:
        return (
            f"guest {self.guest}: {self.connections} connections go on in the slot from before the "
            f"last change, for {max(0, self.left)} s at most"
        )


def switch(platform: Platform, effect: GuestEffect, ask: Ask, limit: float) -> None:
    """Have a running guest run what its new folder says; raises FailedError.

    `limit` is how many seconds a daemon may take until it answers.
    """
    guest = effect.number
    if effect.dropped:
        # The script is in no newer folder. Where another daemon comes, it needs the slots at once.
        script = f"/opt/phoenix/{effect.dropped}/bin/phoenix-slots"
        _inside(platform, guest, script, "off" if effect.daemons else "leave")
    if effect.gone:
        # As long as systemd knows them; of what it does not, it says 5. What the flip started, and
        # found its files gone, has failed: of no matter for anybody from now on.
        names = " ".join(effect.gone)
        forget = f"systemctl reset-failed {names} 2>/dev/null || :"
        stop = f"systemctl stop {names} || [ $? = 5 ] && {{ {forget}; }}"
        _inside(platform, guest, "sh", "-c", stop)
    _inside(platform, guest, "systemctl", "daemon-reload")
    _inside(platform, guest, "systemctl", "start", "phoenix-names.service")
    for daemon in effect.daemons:
        _slot(platform, effect, daemon, ask, limit)
    if effect.units:
        _inside(platform, guest, "systemctl", "try-restart", *effect.units)
    _inside(platform, guest, "systemctl", "start", "sysinit.target", "multi-user.target")


def leave(platform: Platform, guest: int, folder: str) -> None:
    """Have a running guest that is ours no more run nothing of ours, while its folder is there."""
    names, slots = (f"/opt/phoenix/{folder}/bin/phoenix-{each}" for each in ("names", "slots"))
    if platform.inside(guest, "test", "-x", names)[0]:
        # One that was adopted has our folder only from its next start on.
        return
    if platform.inside(guest, "test", "-x", slots)[0] == 0:
        _inside(platform, guest, slots, "off")
    units = "systemctl list-units --plain --no-legend 'phoenix-*' | cut -d' ' -f1"
    _inside(platform, guest, "sh", "-c", f"{units} | xargs -r systemctl stop")
    _inside(platform, guest, names, "remove")


def ready(platform: Platform, guest: int, limit: float) -> None:
    """Await a started guest's own system; raises FailedError."""
    end = time.monotonic() + limit
    said = ""
    while time.monotonic() < end:
        said = platform.inside(guest, "systemctl", "is-system-running", "--wait", limit=limit)[1]
        if said.strip() in ("running", "degraded"):
            return
        # Until its first process is systemd, there is nobody to ask.
        time.sleep(0.1)
    raise FailedError(f"guest {guest} has not started after {limit:g} s: {said.strip()}")


def draining(platform: Platform, guest: int) -> Draining | None:
    """A guest's slot that drains; None where none does."""
    # A guest without slots has no such script; nor did that of every generation know the word.
    code, said = platform.inside(guest, *_any_slots("drains"))
    if code or len(said.split()) != 5:
        return None
    slot, *numbers, folder = said.split()
    connections, since, left = map(int, numbers)
    return Draining(guest, slot, connections, since, left, PurePosixPath(folder).name)


def end(platform: Platform, drains: Draining) -> None:
    """Stop a guest's slot, whoever is still connected."""
    _inside(platform, drains.guest, *_any_slots("stop", drains.slot))


def _any_slots(*words: str) -> tuple[str, ...]:
    return ("sh", "-c", _ANY_SLOTS, "sh", *words)


def let_go(platform: Platform, folders: Mapping[int, str]) -> None:
    """Stop what drains of guests' slots that run from these folders."""
    running = platform.all()
    for guest, folder in folders.items():
        left = draining(platform, guest) if running.get(guest) else None
        if left and left.folder == folder:
            end(platform, left)


def _slot(platform: Platform, effect: GuestEffect, daemon: str, ask: Ask, limit: float) -> None:
    guest = effect.number
    live = _inside(platform, guest, _SLOTS, "live").strip()
    other = _OTHER[live]
    if effect.anew or not _runs(platform, guest, daemon, other):
        # One that still drains from a change before is ended: this change needs its place.
        _inside(platform, guest, _SLOTS, "stop", other)
        _inside(platform, guest, _SLOTS, "start", other)
    end = time.monotonic() + limit
    while (fault := ask(guest, daemon, other)) is not None:
        if time.monotonic() > end:
            raise FailedError(f"guest {guest}: {daemon} in slot {other}: {fault}")
        time.sleep(0.05)
    _inside(platform, guest, _SLOTS, "flip", other)
    _inside(platform, guest, _SLOTS, "drain", live)


def _runs(platform: Platform, guest: int, daemon: str, slot: str) -> bool:
    """Whether a slot still runs from what is the running folder again: going back is one flip."""
    unit = f"systemctl --quiet is-active phoenix-{daemon}@{slot}.service"
    links = f"readlink /var/lib/phoenix/slots/{daemon}/{slot}; readlink -f /opt/phoenix/current"
    code, said = platform.inside(guest, "sh", "-c", f"{unit} && {{ {links}; }}")
    lines = said.split()
    return code == 0 and len(lines) == 2 and f"{lines[0]}/".startswith(f"{lines[1]}/")


def _inside(platform: Platform, guest: int, *command: str) -> str:
    code, said = platform.inside(guest, *command)
    if code:
        raise FailedError(f"guest {guest}: {' '.join(command)}: exit {code}: {said.strip()[-300:]}")
    return said
