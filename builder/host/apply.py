"""One change of a file or a link: what stands there, and what is put in its place."""

from __future__ import annotations

from collections.abc import Iterable

from . import files
from .commands import FailedError
from .decide import Effects
from .host import Host
from .state import Change


def apply(host: Host, changes: Iterable[Change]) -> None:
    """Make all changes; raises FailedError where somebody else has written there meanwhile."""
    for change in changes:
        with host.platform.locked(change.path):
            now = stands(host, change)
            ours = change.path.startswith("/var/lib/phoenix/")
            if not ours and now not in (change.old, change.new):
                raise FailedError(f"{change.path} was changed meanwhile")
            put(host, change._replace(old=now))


def stands(host: Host, change: Change) -> bytes | None:
    """What is there now: a file's bytes, or where the link leads."""
    path = host.paths.at(change.path)
    if not change.link:
        return files.read(path)
    leads = files.leads(path)
    return None if leads is None else leads.encode()


def needs(host: Host, change: Change) -> bool:
    """Whether a change from what stands there does anything; no temporary file is left of it."""
    path = host.paths.at(change.path)
    files.sweep(path)
    plain = change.link or change.new is None or late(change.path)
    return change.old != change.new or not (plain or files.mode(path) == change.mode)


def put(host: Host, change: Change) -> None:
    """Have what the change says stand there; `change.old` is what does now."""
    path = host.paths.at(change.path)
    if not needs(host, change):
        return
    files.folder(path.parent)
    if change.new is None:
        files.remove(path)
    elif change.link:
        files.link(path, change.new.decode())
    else:
        files.write(path, change.new, change.mode)


def late(path: str) -> bool:
    """Whether a file is there only once the platform's own services are."""
    return path.startswith(files.PVE)


def perform(host: Host, effects: Effects) -> None:
    """Have what runs follow; raises FailedError. What a guest goes on owing is told."""
    host.perform(host.platform, effects)
    for guest in effects.guests:
        if guest.what == "owe":
            host.tell("owes a restart", {"guest": guest.number, "keys": guest.keys})
