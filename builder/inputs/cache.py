"""The cache: write-once, one maker at a time, whole or not there.

    <cache>/<key>/          a layer: layer.tar, index.json, meta.json
    <cache>/files/<sha256>  what was fetched or built, by content
    <cache>/apt/            APT's lists for suites that the machine itself does not follow
    <cache>/locks/ tmp/     who is at it, and what they have so far

What has its final name is complete and is never written again; so it is trusted without a look.
Everything is made below tmp/, written through to the disk, and renamed once. A maker that is killed
leaves its folder in tmp/; the next one for the same name finds it under the lock and removes it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from builder.problems import UserError

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder on one file system, and where to say what is going on."""

    root: Path
    progress: Progress

    def once(self, place: str, label: str, make: Callable[[Path], Path]) -> Path:
        """The file or folder at `place`, made by `make` if it is not there yet.

        `make` gets an empty folder and returns the path inside of it that becomes `place`. While
        another process makes the same, this waits, and says so with `label`. Raises UserError where
        the cache can't be written, and whatever `make` raises; then nothing is left behind.
        """
        target = self.root / place
        if target.exists():
            return target
        name = place.replace("/", "-")
        try:
            with self.locked(name, label):
                if not target.exists():
                    self._make(target, name, make)
        except OSError as error:
            what = "is full" if error.errno == errno.ENOSPC else f"can't be used: {error}"
            hint = "make room, or set XDG_CACHE_HOME to a folder that can be written"
            raise UserError(f"the cache {self.root} {what}", hint) from error
        return target

    def _make(self, target: Path, name: str, make: Callable[[Path], Path]) -> None:
        with self.scratch(name) as temp:
            made = make(temp)
            _settle(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            made.rename(target)
            _sync(target.parent)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder that goes when it is left; so do those that killed holders left."""
        beside = self.root / "tmp"
        beside.mkdir(parents=True, exist_ok=True)
        for stale in beside.glob(f"{name}.*"):
            shutil.rmtree(stale, ignore_errors=True)
        temp = beside / f"{name}.{os.getpid()}"
        temp.mkdir()
        try:
            yield temp
        finally:
            shutil.rmtree(temp, ignore_errors=True)

    @contextmanager
    def locked(self, name: str, label: str) -> Iterator[None]:
        """Hold the lock called `name`; the kernel gives it back when its holder dies."""
        path = self.root / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.progress(f"{label}: another process is fetching it, waiting")
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield


def _settle(made: Path) -> None:
    """Make what was made read-only, and bring it to the disk before it gets its name."""
    inside = sorted(made.rglob("*")) if made.is_dir() else []
    for path in [*inside, made]:
        if path.is_file():
            path.chmod(0o444)
        else:
            path.chmod(0o755)
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
