"""A host's life in each shape of lab, on real hosts; the steps are in `steps`."""

from __future__ import annotations

import pytest

from tests.integration import steps
from tests.integration.handle import Handle
from tests.integration.machine import through
from tests.integration.walk import Walk

pytestmark = [pytest.mark.long(5), pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen")]


def test_the_life_of_a_host(own: Handle) -> None:
    through(Walk(own), steps.STEPS)


@pytest.mark.deep
def test_the_power_goes_at_each_event(own: Handle) -> None:
    through(Walk(own), [steps.found, steps.first, steps.one_line, steps.cut_at_each_event])


@pytest.mark.deep
def test_from_each_generation_to_each_other(own: Handle) -> None:
    wanted = [steps.found, steps.first, steps.one_line, steps.add, steps.move, steps.drop]
    through(Walk(own), [*wanted, steps.each_to_each])
