"""The reference's mesh, that the tests of a module share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kinds.traefik.backends import backend
from tests.kinds.traefik.running import Mesh, network, running


@pytest.fixture(scope="module")
def reference() -> Iterator[Mesh]:
    """The reference with all its backends."""
    with running(network()) as mesh:
        for guest, port in (
            ("vllm-1", 8000), ("vllm-2", 8000), ("vllm-1", 8001), ("vllm-2", 8001),
            ("webui", 8080), ("qdrant", 6333), ("workstation", 8443),
        ):  # fmt: skip
            backend(mesh, guest, port)
        yield mesh
