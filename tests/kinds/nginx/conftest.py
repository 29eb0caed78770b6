"""The gateway that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kinds.nginx.gateway import Gateway, serving


@pytest.fixture(scope="module", name="gateway")
def _gateway() -> Iterator[Gateway]:
    with serving() as found:
        yield found
