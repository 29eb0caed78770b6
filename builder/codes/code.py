"""One code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Code:
    """What a code means, in one sentence, and why it matters, in a few."""

    title: str
    why: str
