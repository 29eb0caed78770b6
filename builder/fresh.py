"""Whether anything that a build read has changed since: the fast way out of a build.

A stamp in dist/ holds size, mtime, ctime and inode of every file that a build reads, and what the
build said. Times have a grain: a file could change again within the tick of its last write and
look the same. So what was not clearly older than the build's beginning, by the clock of the file
system itself, is compared by content as well (git's index has the same problem and remedy).

Standard library only, and little of it: this runs before anything else is imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import cast

READ = ("configs", "schema", "builder", "overlays")
"""The folders that a build reads, below the root."""

GRAIN = 2_000_000_000
"""Nanoseconds; coarser than the times of any file system in use (FAT: 2 s)."""

_STAMP = "dist/.stamp"
_FORMAT = 1

Facts = dict[str, list[int]]


def answer(root: str, question: Sequence[str]) -> object | None:
    """What the last build of these hosts said, None where something may have changed since."""
    try:
        with open(os.path.join(root, _STAMP), encoding="utf-8") as stream:
            stamp = json.load(stream)
        if stamp["format"] != _FORMAT or stamp["question"] != list(question):
            return None
        if {**_inputs(root), **_outputs(root)} != stamp["facts"]:
            return None
        if any(_content(root, path) != held for path, held in stamp["young"].items()):
            return None
        answered: object = stamp["answer"]
        return answered
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def observe(root: str) -> dict[str, object]:
    """What a build that begins now will read; to be handed to `keep` at its end.

    Whatever changes after this is seen as a change by the next `answer`, also within one tick of
    the clock: what is young now is held by content, as it was before the build read it.
    """
    found = _inputs(root)
    probe = os.path.join(root, f"{_STAMP}.{os.getpid()}")
    with open(probe, "w", encoding="utf-8") as stream:
        clock = os.fstat(stream.fileno()).st_mtime_ns
    os.unlink(probe)
    return {"facts": found, "young": {p: _content(root, p) for p in _young(found, clock)}}


def keep(root: str, question: Sequence[str], before: Mapping[str, object], said: object) -> None:
    """Stamp a build that began with `before` and ended by saying `said`.

    Best effort: what cannot be stamped is built again the next time.
    """
    path = os.path.join(root, _STAMP)
    with contextlib.suppress(OSError):
        known = {**cast(Facts, before["facts"]), **_outputs(root)}
        head = {"format": _FORMAT, "question": list(question), "answer": said}
        temp = f"{path}.{os.getpid()}"
        with open(temp, "w", encoding="utf-8") as stream:
            json.dump({**head, "facts": known, "young": before["young"]}, stream)
        os.replace(temp, path)


def _inputs(root: str) -> Facts:
    """[size, mtime, ctime, inode] of each file that a build reads; a signing key is one."""
    found: Facts = {}
    for folder in READ:
        for path in _walk(os.path.join(root, folder)):
            found[os.path.relpath(path, root)] = _stat(path)
    key = _key()
    if os.path.exists(key):
        found[key] = _stat(key)
    return found


def _key() -> str:
    home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return os.environ.get("PHOENIX_SIGNING_KEY") or os.path.join(home, "phoenix", "signing_key")


def _walk(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != "__pycache__":
                    yield from _walk(entry.path)
            elif not entry.name.endswith(".pyc"):
                yield entry.path


def _outputs(root: str) -> Facts:
    """The same of what a build leaves: the store's folder, each host's link and manifest."""
    found = {"dist/store": _stat(os.path.join(root, "dist/store"))}
    with os.scandir(os.path.join(root, "dist")) as entries:
        for entry in entries:
            if entry.is_symlink():
                found[f"dist/{entry.name}"] = _stat(entry.path)
                found[f"dist/{entry.name}/manifest.json"] = _stat(f"{entry.path}/manifest.json")
    return found


def _stat(path: str) -> list[int]:
    found = os.lstat(path)
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _young(known: Facts, clock: int) -> Iterator[str]:
    for path, (_, modified, changed, _) in known.items():
        if max(modified, changed) > clock - GRAIN:
            yield path


def _content(root: str, path: str) -> str:
    with open(os.path.join(root, path), "rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()
