"""What a transaction works with, and how it may end."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from . import generations
from .decide import Effects
from .gate import Hop
from .generations import Kept
from .guests import Draining
from .paths import Paths
from .platforms import Platform
from .release import Release
from .store import Store

Tell = Callable[[str, Mapping[str, Any]], None]
"""Says what happens: an event's name and its facts."""


class Host(NamedTuple):
    """What a transaction works with."""

    paths: Paths
    store: Store
    platform: Platform
    perform: Callable[[Platform, Effects], None]
    """Has what runs follow from changed files; raises FailedError."""
    health: Callable[[Release | None], Iterable[str]]
    """What of a running release is not as it should be."""
    tell: Tell
    guarded: bool = True
    lacking: Callable[[], Iterable[str]] = lambda: ()
    """What of the network is not there, though the host's files say so."""
    trusted: Callable[[Paths, int], Kept] = generations.trusted
    """A kept generation, its signature verified anew."""
    mend: Callable[[Release | None], Effects] = lambda _: Effects()
    """What has a release run as it should, where all files are as they should be."""
    hops: Callable[[Release | None], tuple[Hop, ...]] = lambda _: ()
    """Each hop of a running release's ways, asked once."""
    let_go: Callable[[Mapping[int, str]], None] = lambda _: None
    """Ends guests' slots that were left and run from these folders, whoever is connected."""
    worn: Callable[[Release | None], Iterable[str]] = lambda _: ()
    """Which certificates of a running release are not renewed as they should be."""
    draining: Callable[[int], Draining | None] = lambda _: None
    """A running guest's slot that drains."""


class UndoneError(Exception):
    """The host is as it was; the text says why."""


class DegradedError(Exception):
    """The host could not be brought to what it was; the text says what fails."""
