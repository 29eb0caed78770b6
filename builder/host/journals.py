"""The journal of the transaction under way: there or not there, whole."""

from __future__ import annotations

import contextlib

from . import files, guard
from .commands import FailedError
from .host import Host
from .state import Journal, load_journal


def opened(host: Host) -> Journal | None:
    """The open journal, if there is one."""
    data = files.read(host.paths.journal)
    return None if data is None else load_journal(data)


def close(host: Host, journal: Journal) -> None:
    """Decide the transaction: what stands, stands."""
    if any(change.path.startswith(files.PVE) for change in journal.changes):
        # The cluster file system's fsync does nothing; its database is written through here.
        files.sync_all(host.paths.at("/var/lib/pve-cluster"))
    if files.read(host.paths.journal) is not None:
        files.remove(host.paths.journal)
    if host.guarded:
        # A timer that is left finds no journal.
        with contextlib.suppress(FailedError):
            guard.disarm(journal.generation, "changing", "confirming")
