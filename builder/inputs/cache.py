"""The cache: write-once, one maker at a time, whole or not there.

    <cache>/<key>/          a layer: layer.tar, index.json, meta.json
    <cache>/files/<sha256>  what was fetched or built, by content
    <cache>/apt/            APT's lists for suites that the machine itself does not follow
    <cache>/locks/ tmp/     who is at it, and what they have so far

What has its final name is complete and is never written again; whoever takes it says how it is
known to be whole still, and what is not is made anew. Everything is made below tmp/, written
through to the disk, and renamed once. A maker that is killed leaves its folder in tmp/; the next
one for the same name finds it under the lock and removes it.

Each use leaves its time; what nobody has used for `KEPT` seconds goes at the end of a fetch, such
as layers of an older recipe and files of pins that have moved.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from builder.problems import UserError

Progress = Callable[[str], None]

KEPT = 30 * 24 * 3600.0
"""Seconds for which an object stays that no build has used."""

_OBJECT = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder on one file system, and where to say what is going on."""

    root: Path
    progress: Progress

    def once(
        self,
        place: str,
        label: str,
        make: Callable[[Path], Path],
        whole: Callable[[Path], bool] = Path.exists,
    ) -> Path:
        """The file or folder at `place`, made by `make` if it is not there and `whole`.

        `make` gets an empty folder and returns the path inside of it that becomes `place`. While
        another process makes the same, this waits, and says so with `label`. Raises UserError where
        the cache can't be written, and whatever `make` raises; then nothing is left behind.
        """
        target, name = self.root / place, place.replace("/", "-")
        with self.telling():
            if whole(target):
                return target
            with self.locked(name, label):
                if not whole(target):
                    self._make(target, name, make)
        return target

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turn what the file system refuses into a UserError about the cache."""
        try:
            yield
        except OSError as error:
            what = "is full" if error.errno == errno.ENOSPC else f"can't be used: {error}"
            hint = "make room, or set XDG_CACHE_HOME to a folder that can be written"
            raise UserError(f"the cache {self.root} {what}", hint) from error

    def _make(self, target: Path, name: str, make: Callable[[Path], Path]) -> None:
        with self.scratch(name) as temp:
            made = make(temp)
            _settle(made)
            # Clients set the times of what they fetch to the server's.
            os.utime(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                target.rename(temp / ".damaged")
            made.rename(target)
            _sync(target.parent)

    def used(self, places: Iterable[str]) -> None:
        """Note that these are in use, as far as they are there: no sweep takes them for a while."""
        with suppress(OSError), self._flocked("used", fcntl.LOCK_SH):
            for place in places:
                with suppress(FileNotFoundError):
                    os.utime(self.root / place)

    def sweep(self) -> None:
        """Remove what was not used for `KEPT` seconds. Best effort, whole or not at all."""
        beside = self.root / "tmp"
        with suppress(OSError), self._flocked("used", fcntl.LOCK_EX):
            for path in self._unused(time.time() - KEPT):
                gone = beside / f"unused-{path.name}.{os.getpid()}"
                path.rename(gone)
                if gone.is_dir():
                    shutil.rmtree(gone, ignore_errors=True)
                else:
                    gone.unlink()

    def _unused(self, since: float) -> Iterator[Path]:
        objects = [*self.root.iterdir(), *(self.root / "files").glob("*")]
        found = [path for path in objects if _OBJECT.fullmatch(path.name)]
        for path in [*found, *(self.root / "tmp").glob("*")]:
            if path.lstat().st_mtime < since:
                yield path

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """An empty folder that goes when it is left; so do those that killed holders left."""
        beside = self.root / "tmp"
        beside.mkdir(parents=True, exist_ok=True)
        for stale in beside.iterdir():
            if re.fullmatch(rf"{re.escape(name)}\.[0-9]+", stale.name):
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

        def waiting() -> None:
            self.progress(f"{label}: another process is fetching it, waiting")

        with self._flocked(name, fcntl.LOCK_EX, waiting):
            yield

    @contextmanager
    def _flocked(
        self, name: str, how: int, waiting: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        path = self.root / "locks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as stream:
            try:
                fcntl.flock(stream, how | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(stream, how)
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
