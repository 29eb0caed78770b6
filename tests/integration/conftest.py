"""Hosts of labs that a test has to itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.handle import Handle, handle


@pytest.fixture(params=["lab", "lab-bridged"])
def own(request: pytest.FixtureRequest) -> Iterator[Handle]:
    """A lab of each shape with nothing of ours on it, taken away at the end."""
    with handle(request.param) as made:
        yield made
