"""AI workloads through all hops, live; the steps are in `workloads`."""

from __future__ import annotations

import time

import pytest

from tests.flow import workloads
from tests.flow.stage import Flow

pytestmark = pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen", "index")


def test_workloads(own: Flow) -> None:
    with workloads.silences(own):
        for step in workloads.STEPS:
            began = time.monotonic()
            print(f"== {step.__name__}: {step.__doc__}", flush=True)
            try:
                step(own)
            except BaseException as error:
                error.add_note(f"in the step {step.__name__}")
                raise
            print(f"== {step.__name__}: {time.monotonic() - began:.1f} s", flush=True)


@pytest.mark.deep
def test_long_workloads(own: Flow) -> None:
    with workloads.silences(own, "10m"):
        workloads.hours(own)
