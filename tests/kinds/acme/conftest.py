"""The running CA that the tests of the ACME client share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kinds.step_ca.running import Site, site
from tests.kinds.traefik.running import network


@pytest.fixture
def running() -> Iterator[Site]:
    """The reference's CA and its mesh guest, without a certificate yet."""
    with site(network()) as found:
        yield found
