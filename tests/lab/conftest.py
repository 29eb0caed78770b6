from __future__ import annotations

from collections.abc import Iterator

import pytest

from builder.lab.up import Up
from tests.lab import labs


@pytest.fixture(scope="session")
def lab() -> Iterator[Up]:
    """A lab of shape `lab`, for tests that leave it as it is; all processes of a run share it."""
    with labs.shared("lab") as found:
        yield found
