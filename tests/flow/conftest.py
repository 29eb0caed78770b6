"""Whole flows that a test has to itself."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.flow.stage import Flow, flow


@pytest.fixture
def own() -> Iterator[Flow]:
    """A lab with the usual description, deployed, whose programs answer; taken away at the end."""
    with flow() as made:
        yield made
