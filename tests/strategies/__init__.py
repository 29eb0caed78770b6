"""Random valid configurations: every document that these strategies draw must pass all checks.

They draw what a person would write, by construction free of clashes: each guest, service, address
and port comes from a running number. `examples` gives a fixed list for a seed, so that the tests
that judge them and the one that counts what occurs in them look at the same ones.
"""

from __future__ import annotations

from functools import lru_cache
from unittest import mock

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.internal.cache import LRUCache
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tests.strategies.common import Data, Draw
from tests.strategies.host import hosts
from tests.strategies.site import PROFILES, PROTOCOLS, sites

__all__ = ["PROFILES", "PROTOCOLS", "configurations", "examples"]


@st.composite
def configurations(draw: Draw) -> Data:
    """A site with one host: {"site": document, "host": document}."""
    host = draw(hosts())
    site = draw(sites(host))
    if len(site["services"]) > 1 and draw(st.integers(0, 4)) == 0:
        kept = sorted(site["services"])[1:]
        host["services"] = kept
    return {"site": site, "host": host}


@lru_cache(maxsize=64)
def examples(number: int, count: int) -> tuple[Data, ...]:
    """`count` configurations of the list with this number; the same ones each time."""
    found: list[Data] = []

    @seed(number)
    @settings(
        # The first one of every list is the simplest of all, and always the same.
        max_examples=count + 1,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(configurations())
    def collect(data: Data) -> None:
        found.append(data)

    # Hypothesis draws texts and numbers of our own modules too: of those that are loaded by now.
    with (
        mock.patch.object(providers, "_get_local_constants", Constants),
        mock.patch.object(providers, "CONSTANTS_CACHE", LRUCache(1024)),
    ):
        collect()
    return tuple(found[1 : count + 1])
