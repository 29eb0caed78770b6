"""What is to change on a host for a generation to run, and what follows from it: values in, out.

The order of the changes is such that a host which stops after any of them boots: first what only
the guests' folders hold, then what the next boot reads, then confs, then the network; the record is
last. Going back is the same list from its end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import NamedTuple, Protocol

from . import merge
from .release import Entry, Release, Target, digest
from .state import Change, Held, HeldGuest, Record, dump_record
from .store import NODE

_RULES = "/etc/phoenix/"
_UNITS = "/etc/systemd/system/"
_WANTED_BY = re.compile(rb"^WantedBy=(\S+)$", re.MULTILINE)
_ORDER = ("other", "firewall", "lxc-conf", "interfaces")


class Goal(NamedTuple):
    """What shall run: a release's targets with their content, and its guests; for generation 0
    nothing."""

    generation: int
    targets: Mapping[str, tuple[Target, bytes]]
    guests: Mapping[int, HeldGuest]


class Live(NamedTuple):
    """What stands there: files by path (None for nothing), links by path, the content of the
    targets that are ours, by digest, and the modes of those files that have one to choose."""

    files: Mapping[str, bytes | None]
    links: Mapping[str, str | None]
    contents: Mapping[str, bytes]
    modes: Mapping[str, int]


class Confs(Protocol):
    """What a platform knows of guests' configurations; see `platforms.Platform`."""

    def conf(self, guest: int) -> str: ...

    def retired(self, conf: bytes) -> bytes: ...

    def revived(self, conf: bytes) -> bytes: ...


def paths(record: Record, goal: Goal) -> tuple[set[str], set[str]]:
    """The files and the links that a change from `record` to `goal` may touch."""
    held = {path: _wants(path, each.written) for path, each in record.targets.items()}
    wanted = {path: _wants(path, data) for path, (_, data) in goal.targets.items()}
    links = {path for each in (record, goal) for path, _ in _guest_links(each.guests)}
    for each in (*held.values(), *wanted.values()):
        links |= set(each)
    return set(held) | set(wanted), links | {"/var/lib/phoenix/current"}


def changes(record: Record, goal: Goal, live: Live, confs: Confs) -> tuple[Change, ...]:
    """Every name that differs, in order; the last one is the record. Empty where all is so.

    A guest that we made, and that the goal says nothing of, retires.
    """
    gone = {confs.conf(n) for n, guest in record.guests.items() if guest.made}
    gone -= {confs.conf(n) for n in goal.guests}
    held: dict[str, Held] = {}
    found: list[tuple[str, Change]] = []
    for path in sorted(record.targets.keys() | goal.targets.keys()):
        held_then, wanted = record.targets.get(path), goal.targets.get(path)
        change, kept, how = _target(path, held_then, wanted, live, confs.revived)
        left = change.new if change.new is not None else change.old
        if path in gone and left is not None:
            change = change._replace(new=confs.retired(left))
        if kept:
            held[path] = kept
        found.append((how, change))
    found.sort(key=lambda each: _ORDER.index(each[0] if each[0] in _ORDER else "other"))
    links = _links(record, goal, live)
    after = Record(goal.generation, held, goal.guests)
    ordered = (*links[:-1], *(change for _, change in found), links[-1])
    needed = tuple(change for change in ordered if change.needed)
    if not needed and after == record:
        return ()
    old = dump_record(record) if record != Record() else None
    return (*needed, Change("/var/lib/phoenix/record", old, dump_record(after), 0o600, 0o600))


def _target(
    path: str,
    held: Held | None,
    wanted: tuple[Target, bytes] | None,
    live: Live,
    revived: Callable[[bytes], bytes],
) -> tuple[Change, Held | None, str]:
    """A target's change, what the record will say of it, and how it is merged."""
    now = live.files[path]
    how = wanted[0].merge if wanted else held.merge if held else "replace"
    base = revived(now) if now is not None and how == "lxc-conf" else now
    if held:
        edited = now != held.written
        base = merge.base(how, now, live.contents[held.content], held.base) if edited else held.base
    if not wanted:
        mode = held.stood if held else 0o644
        was = live.modes.get(path, mode)
        return Change(path, now, merge.merge(how, base, None, now), mode, was), None, how
    target, content = wanted
    was = live.modes.get(path, target.mode)
    new = merge.merge(how, base, content, now)
    assert new is not None, f"{path} has content"
    stood = held.stood if held else was
    kept = Held(how, target.mode, target.content.digest, base, stood, new)
    return Change(path, now, new, target.mode, was), kept, how


def _links(record: Record, goal: Goal, live: Live) -> list[Change]:
    """The links that differ; the last one says which generation runs."""
    wanted = dict(_guest_links(goal.guests))
    for path, (_, data) in goal.targets.items():
        wanted |= _wants(path, data)
    known = set(wanted)
    for path, held in record.targets.items():
        known |= set(_wants(path, held.written))
    current = "/var/lib/phoenix/current"
    if goal.generation:
        wanted[current] = f"generations/{goal.generation}"
    return [
        Change(path, _bytes(live.links[path]), _bytes(wanted.get(path)), link=True)
        for path in (*sorted(known), current)
    ]


def _bytes(target: str | None) -> bytes | None:
    return None if target is None else target.encode()


def _guest_links(guests: Mapping[int, HeldGuest]) -> Iterable[tuple[str, str]]:
    """A guest's links; they stay when it is ours no more, since it may still run on them."""
    for number, guest in guests.items():
        place = f"/var/lib/phoenix/guests/{number}"
        yield f"{place}/system", "current/units"
        yield f"{place}/system.conf.d", "current/system.conf.d"
        if guest.bundle:
            yield f"/var/lib/phoenix/secrets/{number}/current", guest.bundle
        yield f"{place}/current", guest.node[:NODE]


def _wants(path: str, unit: bytes) -> dict[str, str]:
    """The links that `systemctl enable` would make for a unit of the host."""
    if not path.startswith(_UNITS):
        return {}
    name = PurePosixPath(path).name
    wanted = (each.decode() for each in _WANTED_BY.findall(unit))
    return {f"{_UNITS}{target}.wants/{name}": f"../{name}" for target in wanted}


class Taken(NamedTuple):
    """How a running guest takes its changed configuration: the keys that it takes hot, and those
    that it takes at its next start; all others change nothing that runs."""

    hot: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()


class GuestEffect(NamedTuple):
    """What is done with a guest: `what` is start, restart, leave (ours no more), retire (nor was it
    there before us), hot, owe (a restart that its release refuses) or switch; for a switch its
    slotted daemons that changed, and the other units that did, whether they start `anew` from the
    folder that they run from already, the `dropped` folder whose slots leave, and the units that
    are `gone`; for hot and owe the `keys` that it is for, and what the configuration `was`; for
    leave the `folder` that was ours, to which no link may lead any more."""

    number: int
    what: str
    daemons: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    was: str = ""
    anew: bool = False
    dropped: str = ""
    gone: tuple[str, ...] = ()
    folder: str = ""


class Effects(NamedTuple):
    """What follows from changed files, in the order in which it is done. `units`: whether systemd
    has to read its units again for it, which takes it longer than all else; `lacking`: what was not
    there of the network before, and need not be afterwards."""

    stopped: tuple[str, ...] = ()
    units: bool = True
    modules: tuple[str, ...] = ()
    sysctls: tuple[str, ...] = ()
    reloaded: tuple[str, ...] = ()
    network: bool = False
    lacking: tuple[str, ...] = ()
    guests: tuple[GuestEffect, ...] = ()


class Overlay(NamedTuple):
    """A guest's files by path, which of its daemons run in slots, and the bundle of each unit that
    reads secrets, by its path; whether it may be restarted, whether we made it, and the name of its
    folder."""

    entries: Mapping[str, Entry]
    daemons: tuple[str, ...] = ()
    secrets: Mapping[str, str] = MappingProxyType({})
    restart: bool = True
    made: bool = False
    folder: str = ""

    @property
    def read(self) -> tuple[object, ...]:
        """What the guest's daemons and units read: where it is the same, nothing is done."""
        return self.entries, self.daemons, self.secrets


def effects(
    done: Iterable[Change],
    confs: Mapping[str, int],
    before: Mapping[int, Overlay],
    after: Mapping[int, Overlay],
    running: Iterable[int],
    takes: Callable[[bytes, bytes], Taken],
    ran: Collection[int] | None = None,
) -> Effects:
    """What follows from `done`; `confs` are the paths of guests' configurations with their ids,
    `before` and `after` the overlays of the guests that are ours, in the order of their start,
    `takes` says how a running guest takes its configuration's change.

    A guest that was ours and does not run is left so: somebody stopped it. On the way back those
    run in the end that `ran` before: what was interrupted may have stopped or started any.
    """
    changed = [change for change in done if change.needed]
    names = {change.path for change in changed}
    stopped, reloaded = _services(changed)
    alive = set(running)
    rewritten = {confs[change.path]: change for change in changed if change.path in confs}
    guests: list[GuestEffect] = []
    for number, overlay in after.items():
        if number in alive:
            guests += _running(number, before.get(number), overlay, rewritten.get(number), takes)
        elif number in ran if ran is not None else number not in before:
            guests.append(GuestEffect(number, "start"))
    gone = [
        GuestEffect(n, "retire")
        if (overlay.made if ran is None else n not in ran)
        else GuestEffect(n, "leave", folder=overlay.folder)
        for n, overlay in before.items()
        if n not in after and n in alive
    ]
    for guest in gone:
        if guest.what == "leave":
            # It goes on as what its configuration says without us.
            number, held = guest.number, before[guest.number]
            guests += _running(number, held, held, rewritten.get(number), takes)
    return Effects(
        stopped=stopped,
        units=any(change.path.startswith(_UNITS) for change in changed),
        modules=_new(changed, "/etc/modules-load.d/"),
        sysctls=_new(changed, "/etc/sysctl.d/"),
        reloaded=reloaded,
        network="/etc/network/interfaces" in names,
        guests=(*gone, *guests),
    )


def _running(
    number: int,
    before: Overlay | None,
    after: Overlay,
    conf: Change | None,
    takes: Callable[[bytes, bytes], Taken],
) -> Iterable[GuestEffect]:
    """What is done with a guest that runs."""
    old, new = (conf.old or b"", conf.new or b"") if conf else (b"", b"")
    taken = takes(old, new)
    if after.restart and (taken.restart or before is None):
        yield GuestEffect(number, "restart", keys=taken.restart)
        return
    if taken.restart or before is None:
        yield GuestEffect(number, "owe", keys=taken.restart)
    if taken.hot:
        yield GuestEffect(number, "hot", keys=taken.hot, was=old.decode("latin-1"))
    if before is not None and before.read != after.read:
        yield _switch(number, before, after)


def _new(changed: Iterable[Change], folder: str) -> tuple[str, ...]:
    return tuple(c.path for c in changed if c.path.startswith(folder) and c.new is not None)


def _services(changed: Iterable[Change]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The host's units that go, and those that are to read their files again: a unit NAME.service
    reads /etc/NAME.nft with its dashes as slashes, or is itself new."""
    stopped, reloaded = [], set()
    for change in changed:
        path = PurePosixPath(change.path)
        if change.path.startswith(_UNITS) and path.suffix == ".service" and not change.link:
            if change.new is None:
                stopped.append(path.name)
            else:
                reloaded.add(path.name)
        elif change.path.startswith(_RULES) and path.suffix == ".nft" and change.new is not None:
            reloaded.add(f"phoenix-{path.stem}.service")
    return tuple(stopped), tuple(sorted(reloaded))


def _switch(number: int, before: Overlay, after: Overlay) -> GuestEffect:
    """What of a running guest's daemons and units differs by what they read."""
    every = before.entries.keys() | after.entries.keys()
    differs = {path for path in every if before.entries.get(path) != after.entries.get(path)}
    anew = not differs
    differs |= {path for path in every if before.secrets.get(path) != after.secrets.get(path)}
    daemons = tuple(
        name
        for name in sorted(after.daemons)
        if _touched(differs, (f"{name}/", f"programs/{name}/", "slots/", f"units/phoenix-{name}@"))
    )
    slotted = tuple(f"phoenix-{name}@" for name in (*before.daemons, *after.daemons))
    wanted, units = _units(after, slotted), []
    for name in wanted:
        stem = name.rpartition(".")[0].removeprefix("phoenix-")
        if _touched(differs, (f"units/{name}", f"{stem}/", f"programs/{stem}/")):
            units.append(name)
    gone = tuple(name for name in _units(before, slotted) if name not in wanted)
    dropped = before.folder if {*before.daemons} - {*after.daemons} else ""
    return GuestEffect(number, "switch", daemons, tuple(units), (), "", anew, dropped, gone)


def _units(overlay: Overlay, slotted: tuple[str, ...]) -> list[str]:
    """A guest's units, but for those of its slots."""
    names = (path.removeprefix("units/") for path in overlay.entries if path.startswith("units/"))
    return sorted(name for name in names if "/" not in name and not name.startswith(slotted))


def _touched(differs: Iterable[str], places: tuple[str, ...]) -> bool:
    return any(path.startswith(places) for path in differs)


def seal(live: Live, record: Record) -> str:
    """A digest of the state that a plan was made from."""
    parts = [f"{path}={digest(data) if data is not None else '-'}" for path, data in
             sorted(live.files.items())]  # fmt: skip
    parts += [f"{path}>{target or '-'}" for path, target in sorted(live.links.items())]
    return digest("\n".join([str(record.generation), *parts]).encode())


def goal(number: int, wanted: Release, contents: Mapping[str, bytes],
         bundles: Mapping[int, str], made: Iterable[int]) -> Goal:  # fmt: skip
    """The goal of running a release as generation `number`."""
    ours = set(made)
    return Goal(
        number,
        {target.path: (target, contents[target.content.digest]) for target in wanted.targets},
        {
            ref.id: HeldGuest(ref.name, ref.node.digest, bundles.get(ref.id, ""), ref.id in ours)
            for ref in wanted.guests
        },
    )
