"""Both parsers, whose events come to the same."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from builder.source import positions


@pytest.fixture(params=["libyaml", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "pure":
        monkeypatch.setattr(yaml, "__with_libyaml__", False)
    else:
        assert yaml.__with_libyaml__, "PyYAML is here without libyaml"
    positions.cache_clear()
    yield request.param
    positions.cache_clear()
