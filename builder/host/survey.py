"""What stands on a host, beside what is wanted of it; nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from . import decide, files, generations, journals, owed
from .apply import late
from .decide import Effects, Goal, Live, Overlay
from .host import Host
from .release import Guest, Release, release
from .schema import RefusedError
from .state import Change, Record, load_record


def plan(host: Host, wanted: Release, used: Mapping[int, str] | None = None) -> dict[str, Any]:
    """What activating a release would change, and the seal of the state that says so; only the
    files that its manifest names have to be in the store."""
    record = load_record(files.read(host.paths.record))
    goal = goal_of(host, -1, wanted, record, used or {})
    creates = missing(host, wanted)
    live = observe(host, record, goal)
    changes = decide.changes(record, goal, live, host.platform)
    running = [number for number, runs in host.platform.all().items() if runs]
    found = effects(host, record, goal.guests, changes, running)
    return {
        "seal": decide.seal(live, record),
        "problems": list(problems(host, wanted, record, creates)),
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
    goal = goal_of(host, record.generation, wanted, record, used)
    drift += [
        change.path
        for change in decide.changes(record, goal, observe(host, record, goal), host.platform)
        if change.path in links
    ]
    journal = journals.opened(host)
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
        {p: m for p in names if not late(p) and (m := files.mode(host.paths.at(p))) is not None},
    )


def goal_of(
    host: Host, number: int, wanted: Release | None, record: Record, used: Mapping[int, str]
) -> Goal:
    """What a release wants to stand there as generation `number`; `used` are its bundles."""
    if wanted is None:
        return Goal(0, {}, {})
    contents = {t.content.digest: host.store.read(t.content.digest) for t in wanted.targets}
    made = {number for number, guest in record.guests.items() if guest.made}
    made |= {ref.id for ref in wanted.guests if not host.platform.exists(ref.id)}
    made |= {ref.id for ref in wanted.guests if _retired(host, ref.id)}
    return decide.goal(number, wanted, contents, used, made)


def missing(host: Host, wanted: Release | None) -> dict[int, Mapping[str, Any]]:
    """The guests to be made first, with their creation."""
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


def problems(
    host: Host, wanted: Release | None, record: Record, creates: Mapping[int, Mapping[str, Any]]
) -> Iterable[str]:
    """Why a release can't be activated now."""
    declared = wanted.guests if wanted else ()
    yield from host.platform.problems(creates, {*record.guests, *(ref.id for ref in declared)})
    for ref in declared:
        if ref.id in creates or ref.id in record.guests or _retired(host, ref.id):
            continue
        # Of a guest that is adopted nothing is known that another could be made from.
        if host.platform.exists(ref.id) and host.store.guest(ref.node.digest).creation:
            yield f"guest {ref.id} is there and is none of ours: say `adopt: true`, if it is meant"


def effects(
    host: Host,
    before: Record,
    after: Mapping[int, Any],
    done: Iterable[Change],
    running: Iterable[int],
    ran: Collection[int] | None = None,
) -> Effects:
    """What follows from `done`, as `decide.effects` says; `after` are the guests that are ours in
    the end."""
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
