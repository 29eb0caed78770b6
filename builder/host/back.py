"""The way back: every name of an open journal as it was, and what runs with it.

Whoever is interrupted here is gone on with: each step looks at what stands, and does what lacks.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from . import files, journals, merge, survey
from .apply import late, needs, perform, put, stands
from .commands import FailedError
from .decide import Effects
from .host import DegradedError, Host
from .schema import RefusedError
from .state import Change, Journal, dump_journal, load_record

PATIENCE = 60.0
"""Seconds that a way back awaits a cluster without quorum; at boot it has all the time."""


def take_back(host: Host, who: str, early: bool = False, patience: float = PATIENCE) -> bool:
    """Undo what an open journal left; False where none is open. `early` is before the network is
    there: only what lies on the root file system, and nothing is started."""
    with files.locked(host.paths.lock, who):
        journal = journals.opened(host)
        if journal is None:
            return False
        undo(host, journal, early, patience)
        return True


def undo(host: Host, journal: Journal, early: bool = False, patience: float = PATIENCE) -> None:
    """Bring every name of the journal back, have what runs follow, and close.

    It ends with the host as it was, or raises DegradedError; no health check takes it back. What
    lies on the root file system goes first: where the cluster's can't be written because the
    network is cut, it comes back with the network. `patience`: how many seconds it is awaited.

    The record goes back last: while the new one stands, all effects are taken back, those of an
    interrupted way back once more. After `early`, which is before anything runs, none is left.
    """
    try:
        # Whoever finds this interrupted goes on with it.
        if journal.changes and files.read(host.paths.journal) is None:
            files.write(host.paths.journal, dump_journal(journal), 0o600)
        made = {host.platform.conf(n) for n in journal.creates if not host.platform.exists(n)}
        changes = [change for change in reversed(journal.changes) if change.path not in made]
        _undo(host, journal, changes, patience, early)
    except (FailedError, RefusedError, OSError) as error:
        raise DegradedError(str(error)) from error


def _undo(
    host: Host, journal: Journal, changes: list[Change], patience: float, early: bool
) -> None:
    """As `undo` says; `changes` in the order in which they go back."""
    records, (near, far) = changes[:1], _apart(changes[1:])
    for change in near:
        _returned(host, journal, change)
    for change in records if early else ():
        _returned(host, journal, change)
    if early:
        return
    runs = any(files.read(host.paths.record) == change.new for change in records)
    if (far or journal.creates) and host.platform.unready():
        if runs:
            perform(host, _reverse(host, journal)._replace(guests=()))
        _await_ready(host, patience)
    for change in far:
        _returned(host, journal, change)
    if runs:
        perform(host, _reverse(host, journal))
    for guest in journal.creates:
        _unmake(host, guest)
    for change in records:
        _returned(host, journal, change)
    journals.close(host, journal)
    host.tell("undone", {"generation": journal.before})


def _apart(changes: Iterable[Change]) -> tuple[list[Change], list[Change]]:
    """The changes on the root file system, and those on the platform's own."""
    near: list[Change] = []
    far: list[Change] = []
    for change in changes:
        (far if late(change.path) else near).append(change)
    return near, far


def _unmake(host: Host, guest: int) -> None:
    if not host.platform.destroy(guest):
        host.tell("kept", {"guest": guest, "why": "it is none that this transaction made"})


def _reverse(host: Host, journal: Journal) -> Effects:
    """The effects of taking the journal's changes back."""
    last = journal.changes[-1]
    before, after = load_record(last.new), load_record(last.old)
    done = [change.back for change in reversed(journal.changes)]
    running = [number for number, runs in host.platform.all().items() if runs]
    found = survey.effects(host, before, after.guests, done, running, journal.running)
    return found._replace(lacking=journal.lacking)


def _await_ready(host: Host, patience: float) -> None:
    end = time.monotonic() + patience
    said = ""
    while why := host.platform.unready():
        if why != said:
            host.tell("waiting", {"why": why})
            said = why
        if time.monotonic() > end:
            raise FailedError(why)
        time.sleep(0.2)


def _returned(host: Host, journal: Journal, change: Change) -> None:
    """Take one change back."""
    if not needs(host, change.back._replace(old=stands(host, change))):
        # It was never made, and whoever holds its lock may go on.
        return
    with host.platform.locked(change.path):
        put(host, _back(host, journal, change))


def _back(host: Host, journal: Journal, change: Change) -> Change:
    """The change that takes `change` back from whatever stands there now."""
    now = stands(host, change)
    back = change.back._replace(old=now)
    if change.link or now in (change.old, change.new):
        return back
    ends = (change.old, change.new, now)
    if all(each is not None for each in ends) and _is_conf(host, change.path):
        old, new, there = (each or b"" for each in ends)
        if host.platform.between(old, new, there):
            return back
    return back._replace(new=_rebased(host, journal, change, now))


def _rebased(host: Host, journal: Journal, change: Change, now: bytes | None) -> bytes | None:
    """What stood there before, with what somebody else wrote during the transaction kept."""
    last = journal.changes[-1]
    before, after = load_record(last.old), load_record(last.new)
    ours, theirs = after.targets.get(change.path), before.targets.get(change.path)
    if ours is None:
        return change.old
    base = merge.base(ours.merge, now, host.store.read(ours.content), ours.base)
    owned = host.store.read(theirs.content) if theirs else None
    return merge.merge(ours.merge, base, owned, now)


def _is_conf(host: Host, path: str) -> bool:
    number = "".join(each for each in path if each.isdigit())
    return bool(number) and path == host.platform.conf(int(number))
