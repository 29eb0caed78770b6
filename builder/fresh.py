"""Whether anything that a build read has changed since: the fast way out of a build.

A stamp in dist/ holds size, mtime, ctime and inode of every file that a build reads, and what the
build said. Times have a grain: a file could change again within the tick of its last write and
look the same. So what was not clearly older than the build's beginning, by the clock of the file
system itself, is compared by content as well (git's index has the same problem and remedy).

Standard library only, and little of it: this runs before anything else is imported. The facts are
one text, compared whole: nothing of them is parsed.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

READ = ("configs", "schema", "builder", "overlays")
"""The folders that a build reads, below the root."""

GRAIN = 2_000_000_000
"""Nanoseconds; coarser than the times of any file system in use (FAT: 2 s)."""

Form = Literal["text", "json"]

_STAMP = "dist/.stamp"
_FORMAT = b"phoenix-stamp-2"

_Times = tuple[int, int]
_Facts = dict[str, tuple[str, _Times]]


@dataclass(frozen=True, slots=True)
class Before:
    """What a build that begins will read: `facts` of the files, and the content of `young` ones."""

    facts: str
    young: Mapping[str, str]


def answer(root: str, question: Sequence[str], form: Form) -> str | None:
    """What the last build of these hosts said, None where something may have changed since."""
    try:
        with open(os.path.join(root, _STAMP), "rb") as stream:
            kind, *sizes = stream.readline().split()
            if kind != _FORMAT:
                return None
            facts, young, text, data = (stream.read(int(size)) for size in sizes)
        if facts != _bytes(_head(question) + _told(_inputs(root)) + _outputs(root)):
            return None
        if any(_content(root, path) != held for path, held in _pairs(young)):
            return None
        said = text if form == "text" else data
        return said.decode() if len(data) == int(sizes[-1]) else None
    except (OSError, ValueError):
        return None
