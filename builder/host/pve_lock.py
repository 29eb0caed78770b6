"""The locks of PVE's own tools (PVE::Tools, lock_file): flock of a file that is never removed,
since whoever waits for it holds the file that he opened."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

from .commands import FailedError

NETWORK = "/etc/network/.pve-interfaces.lock"
_PATIENCE = 10.0
"""Seconds that PVE's own tools wait for one."""


def guest(number: str) -> str:
    """The lock of a guest's configuration."""
    return f"/run/lock/lxc/pve-config-{number}.lock"


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a lock; raises FailedError where another does not let go of it in time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + _PATIENCE
    with path.open("ab") as stream:
        while not _taken(stream.fileno()):
            if time.monotonic() > end:
                raise FailedError(f"another program holds the lock {path}")
            time.sleep(0.05)
        yield


def busy(path: Path) -> bool:
    """Whether another holds a lock now."""
    if not path.exists():
        return False
    with path.open("ab") as stream:
        return not _taken(stream.fileno())


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
