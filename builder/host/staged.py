"""Has a release's own programs judge its files before anything is changed.

Each guest's folder brings `bin/phoenix-check`, which looks from throw-away namespaces. Where the
guest runs they are over its root file system, in its own confines. Where it does not, they are over
the host's: a guest's files are never run as the host's root.
"""

from __future__ import annotations

from collections.abc import Iterator

from . import commands
from .host import Host
from .release import GuestRef, Release
from .state import Record
from .store import NODE

_CHECK = "bin/phoenix-check"
_UNABLE = 75
_LIMIT = 60


def faults(host: Host, record: Record, wanted: Release | None) -> Iterator[str]:
    """What the programs refuse of the unpacked folders of guests that change."""
    running = host.platform.all()
    for ref in wanted.guests if wanted else ():
        held = record.guests.get(ref.id)
        if held and held.node == ref.node.digest:
            continue
        if (host.paths.guest(ref.id) / ref.node.digest[:NODE] / _CHECK).exists():
            code, said = _checked(host, ref, running.get(ref.id, False))
            words = said.strip()[-300:]
            if code == _UNABLE:
                host.tell("unchecked", {"guest": ref.id, "why": words})
            elif code:
                yield f"guest {ref.id} ({ref.name}): its own programs refuse its files: {words}"


def _checked(host: Host, ref: GuestRef, runs: bool) -> tuple[int, str]:
    folder = ref.node.digest[:NODE]
    there = f"/opt/phoenix/{folder}/{_CHECK}"
    # One that is adopted has its folder only from its next start on.
    if runs and host.platform.inside(ref.id, "test", "-x", there)[0] == 0:
        return host.platform.inside(ref.id, there, limit=_LIMIT)
    return commands.status(str(host.paths.guest(ref.id) / folder / _CHECK), limit=_LIMIT)
