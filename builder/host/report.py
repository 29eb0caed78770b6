"""What is told of a host before a change and between changes: the plan, and how it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from . import counted, decide, files, generations, journals, owed, preflight, seen, survey
from .decide import Goal
from .gate import Hop
from .host import Host
from .release import Release
from .state import Change, load_record


def plan(host: Host, wanted: Release, used: Mapping[int, str] | None = None) -> dict[str, Any]:
    """What activating a release would change, and the seal of the state that says so; only the
    files that its manifest names have to be in the store."""
    record = load_record(files.read(host.paths.record))
    goal = survey.goal_of(host, -1, wanted, record, used or {})
    creates = survey.missing(host, wanted)
    live = survey.observe(host, record, goal)
    changes = decide.changes(record, goal, live, host.platform)
    running = [number for number, runs in host.platform.all().items() if runs]
    found = survey.effects(host, record, goal.guests, changes, running)
    return {
        "seal": decide.seal(live, record),
        "problems": list(preflight.problems(host, wanted, record, creates)),
        "draining": list(map(str, preflight.draining(host, goal, found))),
        "creates": sorted(creates),
        "changes": [_shown(change) for change in changes[:-1]],
        "effects": {**found._asdict(), "guests": [each._asdict() for each in found.guests]},
    }


def look(host: Host) -> dict[str, Any]:
    """What runs, and where the host differs from what the record says."""
    record = load_record(files.read(host.paths.record))
    wanted = survey.read_generation(host, record.generation)
    drift = [
        path
        for path, held in record.targets.items()
        if files.read(host.paths.at(path)) != held.written
    ]
    links = decide.paths(record, Goal(record.generation, {}, record.guests))[1]
    used = generations.bundles_of(host.paths, record.generation)
    goal = survey.goal_of(host, record.generation, wanted, record, used)
    live = survey.observe(host, record, goal)
    drift += [
        change.path
        for change in decide.changes(record, goal, live, host.platform)[:-1]
        if change.path in links or change.old == change.new
    ]
    journal = journals.opened(host)
    faults, running = list(host.health(wanted)), host.platform.all()
    daemons: list[dict[str, Any]] = []
    certificates: list[dict[str, Any]] = []
    rates: list[dict[str, Any]] = []
    for number, guest in record.guests.items():
        if running.get(number):
            found, held, asked = seen.look(host.platform, number)
            faults += seen.faults(guest.name, found, held)
            daemons += [asdict(each) for each in found]
            certificates += [asdict(each) for each in held]
            rates += [asdict(each) for each in asked]
    return {
        "generation": record.generation,
        "transaction": journal.stage if journal else None,
        "drift": sorted(set(drift)),
        "restarts": [*owed.owing(host.paths, host.platform)],
        "faults": faults,
        "hops": [_hop(each) for each in host.hops(wanted)],
        "daemons": daemons,
        "certificates": certificates,
        "names": {str(number): guest.name for number, guest in record.guests.items()},
        "rates": rates,
        "minutes": counted.MINUTES,
    }


def _hop(hop: Hop) -> dict[str, Any]:
    """One that could not be asked is neither well nor not."""
    found = hop._asdict() | {"ok": hop.ok if hop.asked else None}
    return {name: found[name] for name in ("source", "target", "name", "ok", "why")}


def _shown(change: Change) -> dict[str, Any]:
    old, new = ((data or b"").decode("utf-8", "replace") for data in (change.old, change.new))
    return {"path": change.path, "old": old, "new": new, "link": change.link}
