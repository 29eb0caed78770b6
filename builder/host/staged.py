"""Has a release's own programs judge its files before anything is changed.

Each guest's folder brings `bin/phoenix-check`, which looks from throw-away namespaces. Where the
guest runs they are over its root file system, in its own confines. Where it does not, they are over
the host's: a guest's files are never run as the host's root.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import commands
from .host import Host
from .release import GuestRef, Release
from .state import Change, Record
from .store import NODE

_CHECK = "bin/phoenix-check"
_UNABLE = 75
_LIMIT = 60
_INTERFACES, _IFUP = "/etc/network/interfaces", "/sbin/ifup"
_COMPLAINT = re.compile(r"error:|warning:")
# Said of what is right: PVE itself writes `bridge-ports none`.
_WRONGLY_SAID = re.compile(r'bridge-ports: invalid value "none"')


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


def network(host: Host, changes: Iterable[Change]) -> Iterator[str]:
    """What ifupdown2 refuses of a changed interfaces file that it does not refuse of the one that
    is there; it swallows much, so what is reloaded is looked at all the same."""
    ifup = host.paths.at(_IFUP)
    if not ifup.exists():
        return
    for change in changes:
        if change.path == _INTERFACES and change.new is not None:
            old = _complaints(ifup, change.old or b"")
            for complaint in sorted(_complaints(ifup, change.new) - old):
                yield f"{_INTERFACES}: {complaint}"


def _complaints(ifup: Path, text: bytes) -> set[str]:
    import tempfile

    with tempfile.NamedTemporaryFile(prefix="phoenix-interfaces-") as staged:
        staged.write(text)
        staged.flush()
        found = commands.told(str(ifup), "--all", "--syntax-check", "--interfaces", staged.name)
        lines = (line.replace(staged.name, "").strip() for line in found.splitlines())
    said = (re.sub(r"line ?\d+:?", "", line) for line in lines if _COMPLAINT.match(line))
    return {line for line in said if not _WRONGLY_SAID.search(line)}
