"""The running front that all tests of slots share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kinds.slots.world import SCRIPT, do, front, leads, opened
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine


@pytest.fixture(scope="package")
def world() -> Iterator[tuple[Lab, Machine]]:
    with front() as found:
        yield found


@pytest.fixture
def lab(world: tuple[Lab, Machine]) -> Lab:
    return world[0]


@pytest.fixture
def guest(world: tuple[Lab, Machine]) -> Machine:
    """The guest with slot a live, b stopped, generation 1 running."""
    found = world[1]
    while opened:
        opened.pop().close()
    found.flip(1)
    if leads(found) == "b" and found.run(SCRIPT, "flip", "a").code != 0:
        do(found, "start", "a")
    do(found, "flip", "a")
    do(found, "stop", "b")
    return found
