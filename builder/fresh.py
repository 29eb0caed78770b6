"""Whether anything that a build read has changed since: the fast way out of a build.

A stamp in dist/ holds size, mtime, ctime and inode of every file that a build reads, and what the
build said. Times have a grain: a file could change again within the tick of its last write and
look the same. So what was not clearly older than the build's beginning, by the clock of the file
system itself, is compared by content as well (git's index has the same problem and remedy).

Standard library only, and little of it: this runs before anything else is imported. The facts are
one text that is made anew and compared whole; nothing of it is parsed.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

READ = ("configs", "schema", "builder", "overlays")
"""The folders that a build reads, below the root."""

GRAIN = 2_000_000_000
"""Nanoseconds; coarser than the times of any file system in use (FAT: 2 s)."""

Form = Literal["text", "json"]
Before = tuple[str, Mapping[str, str]]
"""Facts of all that a build is about to read, and the content of what of it is young."""

_STAMP = ".stamp"
_FORMAT = b"phoenix-stamp-2"
_Found = Iterable[tuple[str, os.stat_result]]


def answer(root: str, question: Sequence[str], form: Form) -> str | None:
    """What the last build of these hosts said, None where something may have changed since."""
    try:
        facts, young, said = _held(os.path.join(root, "dist", _STAMP), form)
        now = _facts(_read(root)) + _facts(_around()) + _facts(_made(root)) + _asked(question)
        if facts != now:
            return None
    except (OSError, ValueError):
        return None
    parts = young.split("\0")
    held = zip(parts[::2], parts[1::2], strict=False)
    return said if all(_content(root, path) == was for path, was in held) else None


def observe(root: str) -> Before:
    """What a build that begins now will read; to be handed to `keep` at its end.

    Whatever changes after this is seen as a change by the next `answer`, also within one tick of
    the clock: what is young now is held by content, as it was before the build read it.
    """
    # Asked first: what is older than this cannot change without a later time.
    clock = _clock(root)
    found = list(_read(root))
    young = (path for path, at in found if _young(at, clock))
    return _facts(found) + _facts(_around()), {path: _content(root, path) for path in young}


def keep(
    root: str,
    question: Sequence[str],
    before: Before,
    said: Mapping[Form, str],
    links: Mapping[str, str],
) -> None:
    """Stamp a build that began with `before` and ended by saying `said`, in each form.

    `links` are the links in dist/ that it left, with their targets: where another build has set
    them since, nothing is stamped. Best effort: what has no stamp is built again the next time.
    """
    dist = os.path.join(root, "dist")
    with contextlib.suppress(OSError):
        facts = before[0] + _facts(_made(root)) + _asked(question)
        if any(os.readlink(os.path.join(dist, name)) != links[name] for name in links):
            return
        young = "\0".join(part for pair in before[1].items() for part in pair)
        parts = [os.fsencode(part) for part in (facts, young, said["text"], said["json"])]
        head = b" ".join((_FORMAT, *(b"%d" % len(part) for part in parts)))
        replace(os.path.join(dist, _STAMP), b"\n".join((head, b"".join(parts))))


def _young(at: os.stat_result, clock: int) -> bool:
    newest = max(at.st_mtime_ns, at.st_ctime_ns)
    return stat.S_ISREG(at.st_mode) and newest > clock - GRAIN


def replace(path: str, data: bytes) -> None:
    """Put `data` in the place of a file, whole or not at all; removes what killed ones left."""
    folder, name = os.path.split(path)
    for other in os.listdir(folder):
        # One that is still being written is lost with this, which its writer takes as a failure.
        if other.startswith(f"{name}."):
            os.unlink(os.path.join(folder, other))
    temp = f"{path}.{os.getpid()}"
    with open(temp, "wb") as stream:
        stream.write(data)
    os.replace(temp, path)


def _held(stamp: str, form: Form) -> tuple[str, str, str]:
    """Facts, young contents and answer of a stamp; ValueError where it is not whole."""
    with open(stamp, "rb") as stream:
        kind, *sizes = stream.readline().split()
        facts, young, text, data = map(int, sizes)
        end = stream.tell() + facts + young + text + data
        if kind != _FORMAT or os.fstat(stream.fileno()).st_size != end:
            raise ValueError("not a whole stamp of this format")
        first = os.fsdecode(stream.read(facts)), os.fsdecode(stream.read(young))
        if form == "json":
            stream.seek(text, os.SEEK_CUR)
        return *first, os.fsdecode(stream.read(text if form == "text" else data))


def _asked(question: Sequence[str]) -> str:
    key = os.environ.get("PHOENIX_SIGNING_KEY", "")
    return "\0".join((sys.version, key, *question))


def _facts(found: _Found) -> str:
    lines = [f"{p}\0{s.st_size} {s.st_mtime_ns} {s.st_ctime_ns} {s.st_ino}\n" for p, s in found]
    lines.sort()
    return "".join(lines)


def _read(root: str) -> _Found:
    """Each file below the root that a build reads. Of a link, it and what it leads to."""
    followed: set[tuple[int, int]] = set()
    for folder in READ:
        yield from _walk(root, folder, followed)


def _around() -> _Found:
    """What a build depends on elsewhere: the signing key, and the folders of Python's packages,
    which each installation changes."""
    for path in (*_keys(), *(path for path in sys.path if path.endswith("-packages"))):
        if os.path.exists(path):
            yield path, os.stat(path)


def _walk(root: str, folder: str, followed: set[tuple[int, int]]) -> _Found:
    try:
        entries = list(os.scandir(os.path.join(root, folder)))
    except (FileNotFoundError, NotADirectoryError):
        # The build says what is missing.
        return
    for entry in entries:
        path = f"{folder}/{entry.name}"
        try:
            if entry.is_symlink():
                yield f"{path}\0link", entry.stat(follow_symlinks=False)
                target = entry.stat()
                if entry.is_dir() and (target.st_dev, target.st_ino) in followed:
                    continue
                followed.add((target.st_dev, target.st_ino))
            if not entry.is_dir():
                if not entry.name.endswith(".pyc"):
                    yield path, entry.stat()
            elif entry.name != "__pycache__":
                yield from _walk(root, path, followed)
        except FileNotFoundError:
            # A link to nowhere, or what an editor has taken away since it was listed.
            continue


def _keys() -> tuple[str, str]:
    """Where a signing key is looked for: as `keys` does it."""
    home = os.environ.get("XDG_CONFIG_HOME", "")
    home = home if os.path.isabs(home) else os.path.expanduser("~/.config")
    named = os.environ.get("PHOENIX_SIGNING_KEY")
    path = os.path.expanduser(named) if named else os.path.join(home, "phoenix", "signing_key")
    return path, f"{path}.pub"


def _made(root: str) -> _Found:
    """What a build leaves: the store's folder, and the release that each host's link leads to."""
    dist = os.path.join(root, "dist")
    yield "dist/store", os.stat(os.path.join(dist, "store"))
    with os.scandir(dist) as entries:
        for entry in entries:
            if entry.is_symlink():
                yield f"dist/{entry.name}", entry.stat()
                manifest = f"{entry.path}/manifest.json"
                yield f"dist/{entry.name}/manifest.json", os.lstat(manifest)


def _clock(root: str) -> int:
    """The time by the clock of the file system, whose ticks may be coarser than ours."""
    probe = os.path.join(root, "dist", f"{_STAMP}.{os.getpid()}")
    try:
        with open(probe, "wb") as stream:
            now = os.fstat(stream.fileno()).st_mtime_ns
        os.unlink(probe)
    except OSError:
        # Everything is young then; that dist/ takes no file, the build says.
        return 0
    return now


def _content(root: str, path: str) -> str:
    import hashlib

    try:
        with open(os.path.join(root, path), "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest()
    except OSError:
        return ""
