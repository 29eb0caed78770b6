"""One host with each kind of hop: what passes each is encrypted and verified, and what is not
declared is not reached; the steps are in `hops` and `reach`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow import edge, hops, reach
from tests.integration.handle import Handle
from tests.integration.machine import through

pytestmark = [
    pytest.mark.long(3, shared=True),
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen"),
]


@pytest.fixture(scope="module")
def host() -> Iterator[Handle]:
    with edge.edge() as made:
        yield made


def test_every_hop(host: Handle) -> None:
    through(host, hops.STEPS)


def test_least_reach_and_names(host: Handle) -> None:
    through(host, reach.STEPS)
