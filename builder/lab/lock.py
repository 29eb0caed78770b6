"""Locks between processes, by files."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path


@contextlib.contextmanager
def held(place: Path, busy: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a file; `busy` is called before somebody else is awaited. Who holds it may
    delete the file."""
    while True:
        with place.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                busy()
                fcntl.flock(stream, fcntl.LOCK_EX)
            # Else it was deleted meanwhile, and who comes next makes another one.
            if place.exists() and place.stat().st_ino == os.fstat(stream.fileno()).st_ino:
                yield
                return
