"""The one procedure behind install, rollback, recovery and repair.

    lock → read what is wanted → preflight → prepare → decide → journal and guard → apply →
    effects → health → await the confirmation → close

Until the journal is closed nothing is decided: whoever finds it open takes everything back.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from . import bundles, decide, files, generations, guard, merge, owed
from .commands import FailedError
from .decide import Effects, Goal, Live, Overlay
from .paths import Paths
from .platforms import Platform
from .release import Guest, Release, release
from .schema import RefusedError
from .state import Change, Journal, Record, dump_journal, load_journal, load_record
from .store import Store

PATIENCE = 60.0
"""Seconds that a way back awaits a cluster without quorum; at boot it has all the time."""
Tell = Callable[[str, Mapping[str, Any]], None]
"""Says what happens: an event's name and its facts."""


@dataclass(frozen=True, slots=True)
class Host:
    """What a transaction works with."""

    paths: Paths
    store: Store
    platform: Platform
    perform: Callable[[Platform, Effects], None]
    """Has what runs follow from changed files; raises FailedError."""
    health: Callable[[Release | None], Iterable[str]]
    """What of a running release is not as it should be."""
    tell: Tell
    guarded: bool = True


class UndoneError(Exception):
    """The host is as it was; the text says why."""


class DegradedError(Exception):
    """The host could not be brought to what it was; the text says what fails."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to activate, and then to confirm; no `confirm` closes at once."""

    activate: int = 300
    confirm: int | None = None


def activate(
    host: Host, number: int, who: str, limits: Limits, sealed: str = "", settle: bool = False
) -> bool:
    """Have generation `number` run; False where it did already.

    With `sealed` only from the state that a plan was made from. With `settle`, as a rollback and a
    repair are done, what fails is told and nothing is taken back for it. Raises RefusedError where
    nothing was changed, UndoneError where everything was taken back, DegradedError where it could
    not be, or where it was settled and something fails.
    """
    with files.locked(host.paths.lock, who):
        _finish(host)
        record = load_record(files.read(host.paths.record))
        wanted = read_generation(host, number)
        goal = _goal(host, number, wanted, record, generations.bundles_of(host.paths, number))
        creates = _missing(host, wanted)
        _preflight(host, wanted, record, creates)
        live = observe(host, record, goal)
        if sealed and decide.seal(live, record) != sealed:
            raise RefusedError("the host changed since the plan was made")
        running = tuple(guest for guest, runs in host.platform.all().items() if runs)
        journal = Journal(number, record.generation, "preparing", 0, who, tuple(creates), running)
        try:
            _prepare(host, journal, wanted, creates)
            changes = decide.changes(record, goal, observe(host, record, goal), host.platform)
            if not changes:
                close(host, journal)
                return False
            journal = _begin(host, journal, changes, limits.activate)
            host.tell("changing", {"generation": number, "count": len(changes) - 1})
            _apply(host, changes)
            effects = _effects(host, record, goal.guests, changes, running)
            fault = _runs(host, effects, wanted)
            if fault and not settle:
                raise FailedError(fault)
            if limits.confirm is None:
                close(host, journal)
            else:
                _await(host, journal, limits.confirm)
        except (FailedError, RefusedError, OSError) as error:
            host.tell("failed", {"why": str(error)})
            undo(host, journal)
            raise UndoneError(str(error)) from error
    if fault:
        host.tell("failed", {"why": fault})
        raise DegradedError(fault)
    return True


def plan(host: Host, wanted: Release, used: Mapping[int, str] | None = None) -> dict[str, Any]:
    """What activating a release would change, and the seal of the state that says so; only the
    files that its manifest names have to be in the store."""
    record = load_record(files.read(host.paths.record))
    goal = _goal(host, -1, wanted, record, used or {})
    creates = _missing(host, wanted)
    live = observe(host, record, goal)
    changes = decide.changes(record, goal, live, host.platform)
    running = [number for number, runs in host.platform.all().items() if runs]
    found = _effects(host, record, goal.guests, changes, running)
    return {
        "seal": decide.seal(live, record),
        "problems": list(_problems(host, wanted, record, creates)),
        "creates": sorted(creates),
        "changes": [_shown(change) for change in changes[:-1]],
        "effects": asdict(found),
    }


def look(host: Host) -> dict[str, Any]:
    """What runs, and where the host differs from what the record says."""
    record = load_record(files.read(host.paths.record))
    wanted = read_generation(host, record.generation)
    drift = [
        path
        for path, held in record.targets.items()
        if files.read(host.paths.at(path)) != held.written
    ]
    links = decide.paths(record, Goal(record.generation, {}, record.guests))[1]
    used = generations.bundles_of(host.paths, record.generation)
    goal = _goal(host, record.generation, wanted, record, used)
    drift += [
        change.path
        for change in decide.changes(record, goal, observe(host, record, goal), host.platform)
        if change.path in links
    ]
    journal = _open(host)
    return {
        "generation": record.generation,
        "transaction": journal.stage if journal else None,
        "drift": sorted(set(drift)),
        "restarts": [*owed.owing(host.paths, host.platform)],
        "faults": list(host.health(wanted)),
    }


def _shown(change: Change) -> dict[str, Any]:
    old, new = ((data or b"").decode("utf-8", "replace") for data in (change.old, change.new))
    return {"path": change.path, "old": old, "new": new, "link": change.link}


def confirm(host: Host, number: int, who: str) -> None:
    """The deployer's word that the host is reachable: generation `number` stays."""
    with files.locked(host.paths.lock, who):
        journal = _open(host)
        if journal is None or journal.generation != number or journal.stage != "confirming":
            raise RefusedError(f"generation {number} does not wait for a confirmation")
        close(host, journal)


def take_back(host: Host, who: str, early: bool = False, patience: float = PATIENCE) -> bool:
    """Undo what an open journal left; False where none is open. `early` is before the network is
    there: only what lies on the root file system, and nothing is started."""
    with files.locked(host.paths.lock, who):
        journal = _open(host)
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


def close(host: Host, journal: Journal) -> None:
    """Decide the transaction: what stands, stands."""
    if any(change.path.startswith(files.PVE) for change in journal.changes):
        # The cluster file system's fsync does nothing; its database is written through here.
        files.sync_all(host.paths.at("/var/lib/pve-cluster"))
    if files.read(host.paths.journal) is not None:
        files.remove(host.paths.journal)
    if host.guarded:
        for stage in ("changing", "confirming"):
            # A timer that is left finds no journal.
            with contextlib.suppress(FailedError):
                guard.disarm(journal.generation, stage)


def read_generation(host: Host, number: int) -> Release | None:
    """A kept generation's release; None for generation 0, the host as it was found."""
    if number == 0:
        return None
    data = files.read(host.paths.generation(number) / "manifest.json")
    if data is None:
        raise RefusedError(f"there is no generation {number}")
    return release(data)


def observe(host: Host, record: Record, goal: Goal) -> Live:
    """What stands on the host of all that a change to `goal` may touch."""
    names, links = decide.paths(record, goal)
    contents = {held.content: host.store.read(held.content) for held in record.targets.values()}
    return Live(
        {path: files.read(host.paths.at(path)) for path in names},
        {path: files.leads(host.paths.at(path)) for path in links},
        contents,
        {p: m for p in names if not _late(p) and (m := files.mode(host.paths.at(p))) is not None},
    )


def _goal(
    host: Host, number: int, wanted: Release | None, record: Record, used: Mapping[int, str]
) -> Goal:
    if wanted is None:
        return Goal(0, {}, {})
    contents = {t.content.digest: host.store.read(t.content.digest) for t in wanted.targets}
    made = {number for number, guest in record.guests.items() if guest.made}
    made |= {ref.id for ref in wanted.guests if not host.platform.exists(ref.id)}
    made |= {ref.id for ref in wanted.guests if _retired(host, ref.id)}
    return decide.goal(number, wanted, contents, used, made)


def _missing(host: Host, wanted: Release | None) -> dict[int, Mapping[str, Any]]:
    guests = wanted.guests if wanted else ()
    return {
        ref.id: host.store.guest(ref.node.digest).creation
        for ref in guests
        if not host.platform.exists(ref.id)
    }


def _retired(host: Host, guest: int) -> bool:
    """Whether we made this guest, and it was ours no more."""
    conf = files.read(host.paths.at(host.platform.conf(guest)))
    return conf is not None and host.platform.revived(conf) != conf


def _problems(
    host: Host, wanted: Release | None, record: Record, creates: Mapping[int, Mapping[str, Any]]
) -> Iterable[str]:
    declared = wanted.guests if wanted else ()
    yield from host.platform.problems(creates, {*record.guests, *(ref.id for ref in declared)})
    for ref in declared:
        if ref.id in creates or ref.id in record.guests or _retired(host, ref.id):
            continue
        # Of a guest that is adopted nothing is known that another could be made from.
        if host.platform.exists(ref.id) and host.store.guest(ref.node.digest).creation:
            yield f"guest {ref.id} is there and is none of ours: say `adopt: true`, if it is meant"


def _preflight(
    host: Host, wanted: Release | None, record: Record, creates: Mapping[int, Mapping[str, Any]]
) -> None:
    problems = list(_problems(host, wanted, record, creates))
    if host.paths.at("/etc/network/interfaces.new").exists():
        problems.append("/etc/network/interfaces.new is there: apply or discard that edit first")
    if problems:
        raise RefusedError("; ".join(problems))


def _prepare(
    host: Host,
    journal: Journal,
    wanted: Release | None,
    creates: Mapping[int, Mapping[str, Any]],
) -> None:
    """All that changes nothing that runs: folders of guests, and guests that are missing."""
    for ref in wanted.guests if wanted else ():
        host.store.unpack(ref.node.digest, host.store.guest(ref.node.digest))
        bundles.folder(host.paths, ref.id)
    if creates:
        files.write(host.paths.journal, dump_journal(journal), 0o600)
    for guest, creation in creates.items():
        host.tell("create", {"guest": guest})
        host.platform.create(guest, creation)


def _begin(host: Host, journal: Journal, changes: tuple[Change, ...], seconds: int) -> Journal:
    """From here on, whatever happens, this transaction is confirmed or taken back."""
    deadline = time.time() + seconds
    begun = replace(journal, stage="changing", deadline=deadline, changes=changes)
    if host.guarded:
        guard.install(host.paths)
        guard.arm(journal.generation, "changing", seconds)
    files.write(host.paths.journal, dump_journal(begun), 0o600)
    return begun


def _await(host: Host, journal: Journal, seconds: int) -> None:
    waiting = replace(journal, stage="confirming", deadline=time.time() + seconds)
    if host.guarded:
        guard.arm(journal.generation, "confirming", seconds)
    files.write(host.paths.journal, dump_journal(waiting), 0o600)
    if host.guarded:
        guard.disarm(journal.generation, "changing")
    host.tell("confirming", {"generation": journal.generation, "seconds": seconds})


def _undo(
    host: Host, journal: Journal, changes: list[Change], patience: float, early: bool
) -> None:
    """As `undo` says; `changes` in the order in which they go back."""
    records, (near, late) = changes[:1], _apart(changes[1:])
    for change in near:
        _returned(host, journal, change)
    for change in records if early else ():
        _returned(host, journal, change)
    if early:
        return
    runs = any(files.read(host.paths.record) == change.new for change in records)
    if (late or journal.creates) and host.platform.unready():
        if runs:
            _perform(host, replace(_reverse(host, journal), guests=()))
        _await_ready(host, patience)
    for change in late:
        _returned(host, journal, change)
    if runs:
        _perform(host, _reverse(host, journal))
    for guest in journal.creates:
        _unmake(host, guest)
    for change in records:
        _returned(host, journal, change)
    close(host, journal)
    host.tell("undone", {"generation": journal.before})


def _apart(changes: Iterable[Change]) -> tuple[list[Change], list[Change]]:
    """The changes on the root file system, and those on the platform's own."""
    near: list[Change] = []
    late: list[Change] = []
    for change in changes:
        (late if _late(change.path) else near).append(change)
    return near, late


def _unmake(host: Host, guest: int) -> None:
    if not host.platform.destroy(guest):
        host.tell("kept", {"guest": guest, "why": "it is none that this transaction made"})


def _reverse(host: Host, journal: Journal) -> Effects:
    """The effects of taking the journal's changes back."""
    last = journal.changes[-1]
    before, after = load_record(last.new), load_record(last.old)
    done = [change.back for change in reversed(journal.changes)]
    running = [number for number, runs in host.platform.all().items() if runs]
    return _effects(host, before, after.guests, done, running, journal.running)


def _runs(host: Host, effects: Effects, wanted: Release | None) -> str:
    """Have what runs be as the files say; what does not run so, or "" """
    try:
        host.tell("effects", {})
        _perform(host, effects)
        host.tell("health", {})
        return "; ".join(host.health(wanted))
    except (FailedError, OSError) as error:
        return str(error)


def _perform(host: Host, effects: Effects) -> None:
    host.perform(host.platform, effects)
    for guest in effects.guests:
        if guest.what == "owe":
            host.tell("owes a restart", {"guest": guest.number, "keys": guest.keys})


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


def _apply(host: Host, changes: Iterable[Change]) -> None:
    for change in changes:
        with host.platform.locked(change.path):
            now = _stands(host, change)
            ours = change.path.startswith("/var/lib/phoenix/")
            if not ours and now not in (change.old, change.new):
                raise FailedError(f"{change.path} was changed meanwhile")
            _put(host, replace(change, old=now))


def _returned(host: Host, journal: Journal, change: Change) -> None:
    """Take one change back."""
    if not _needs(host, replace(change.back, old=_stands(host, change))):
        # It was never made, and whoever holds its lock may go on.
        return
    with host.platform.locked(change.path):
        _put(host, _back(host, journal, change))


def _needs(host: Host, change: Change) -> bool:
    """Whether a change from what stands there does anything; no temporary file is left of it."""
    path = host.paths.at(change.path)
    files.sweep(path)
    plain = change.link or change.new is None or _late(change.path)
    return change.old != change.new or not (plain or files.mode(path) == change.mode)


def _stands(host: Host, change: Change) -> bytes | None:
    path = host.paths.at(change.path)
    if not change.link:
        return files.read(path)
    leads = files.leads(path)
    return None if leads is None else leads.encode()


def _put(host: Host, change: Change) -> None:
    path = host.paths.at(change.path)
    if not _needs(host, change):
        return
    files.folder(path.parent)
    if change.new is None:
        files.remove(path)
    elif change.link:
        files.link(path, change.new.decode())
    else:
        files.write(path, change.new, change.mode)


def _back(host: Host, journal: Journal, change: Change) -> Change:
    """The change that takes `change` back from whatever stands there now."""
    now = _stands(host, change)
    back = replace(change.back, old=now)
    if change.link or now in (change.old, change.new):
        return back
    ends = (change.old, change.new, now)
    if all(each is not None for each in ends) and _is_conf(host, change.path):
        old, new, there = (each or b"" for each in ends)
        if host.platform.between(old, new, there):
            return back
    return replace(back, new=_rebased(host, journal, change, now))


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


def _late(path: str) -> bool:
    """Whether a file is there only once the platform's own services are."""
    return path.startswith(files.PVE)


def _effects(
    host: Host,
    before: Record,
    after: Mapping[int, Any],
    done: Iterable[Change],
    running: Iterable[int],
    ran: Collection[int] | None = None,
) -> Effects:
    numbers = [*before.guests, *after]
    confs = {host.platform.conf(number): number for number in numbers}
    return decide.effects(
        done,
        confs,
        _overlays(host, before.guests),
        _overlays(host, after),
        running,
        host.platform.takes,
        ran,
    )


def _overlays(host: Host, guests: Mapping[int, Any]) -> dict[int, Overlay]:
    found = {}
    for number, held in guests.items():
        guest: Guest = host.store.guest(held.node)
        daemons = tuple(name for name, _ in guest.daemons)
        found[number] = Overlay(host.store.entries(guest), daemons, guest.restart, held.made)
    return found


def _open(host: Host) -> Journal | None:
    data = files.read(host.paths.journal)
    return None if data is None else load_journal(data)


def _finish(host: Host) -> None:
    """Take back what somebody began who is gone, since the lock is ours."""
    journal = _open(host)
    if journal is not None and journal.stage != "confirming":
        undo(host, journal)
    elif journal is not None:
        raise RefusedError(
            f"generation {journal.generation} is {journal.stage} since {journal.why}: "
            "phoenix recover takes it back"
        )
