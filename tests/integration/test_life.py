"""A host's life in each shape of lab, on real hosts; the steps are in `steps`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest

from tests.integration import steps
from tests.integration.handle import Handle
from tests.integration.walk import Walk

pytestmark = pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen")


def test_the_life_of_a_host(own: Handle) -> None:
    _through(own, steps.STEPS)


@pytest.mark.deep
def test_the_power_goes_at_each_event(own: Handle) -> None:
    _through(own, [steps.found, steps.first, steps.one_line, steps.cut_at_each_event])


@pytest.mark.deep
def test_from_each_generation_to_each_other(own: Handle) -> None:
    wanted = [steps.found, steps.first, steps.one_line, steps.add, steps.move, steps.drop]
    _through(own, [*wanted, steps.each_to_each])


def _through(host: Handle, wanted: Sequence[Callable[[Walk], None]]) -> None:
    walk = Walk(host)
    for step in wanted:
        began = time.monotonic()
        print(f"== {step.__name__}: {step.__doc__}", flush=True)
        try:
            step(walk)
        except BaseException as error:
            error.add_note(f"in the step {step.__name__}")
            raise
        print(f"== {step.__name__}: {time.monotonic() - began:.1f} s", flush=True)
