"""What stands on a host, beside what is wanted of it; nothing here changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from . import decide, files, generations
from .apply import late
from .decide import Effects, Goal, Live, Overlay
from .host import Host
from .release import Entry, Guest, Release
from .state import Change, Record
from .store import NODE


def read_generation(host: Host, number: int) -> Release | None:
    """A kept generation's release; None for generation 0, the host as it was found."""
    return generations.kept(host.paths, number).release if number else None


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
    made |= {ref.id for ref in wanted.guests if retired(host, ref.id)}
    return decide.goal(number, wanted, contents, used, made)


def missing(host: Host, wanted: Release | None) -> dict[int, Mapping[str, Any]]:
    """The guests to be made first, with their creation."""
    guests = wanted.guests if wanted else ()
    return {
        ref.id: host.store.guest(ref.node.digest).creation
        for ref in guests
        if not host.platform.exists(ref.id)
    }


def retired(host: Host, guest: int) -> bool:
    """Whether we made this guest, and it was ours no more."""
    conf = files.read(host.paths.at(host.platform.conf(guest)))
    return conf is not None and host.platform.revived(conf) != conf


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
        entries = host.store.entries(guest)
        secrets = _readers(host, entries, held.bundle) if held.bundle else {}
        found[number] = Overlay(
            entries, daemons, secrets, guest.restart, held.made, held.node[:NODE]
        )
    return found


def _readers(host: Host, entries: Mapping[str, Entry], bundle: str) -> dict[str, str]:
    """The units that are handed secrets, with the bundle that these are in. One whose file is still
    to come, as in a plan, is another one than before in any case."""
    return {
        path: bundle
        for path, entry in entries.items()
        if path.startswith("units/") and not entry.target and host.store.has(entry.content.digest)
        if b":/opt/phoenix-secrets/" in host.store.read(entry.content.digest)
    }
