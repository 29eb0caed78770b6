"""AI workloads through all hops, live; the steps are in `workloads`."""

from __future__ import annotations

import pytest

from tests.flow import workloads
from tests.flow.stage import Flow
from tests.integration.machine import through

pytestmark = [
    pytest.mark.long(3),
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen", "index"),
]


def test_workloads(own: Flow) -> None:
    with workloads.silences(own):
        through(own, workloads.STEPS)


@pytest.mark.deep
def test_long_workloads(own: Flow) -> None:
    with workloads.silences(own, "10m"):
        workloads.hours(own)
