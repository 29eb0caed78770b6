"""ruff and mypy find nothing."""

from __future__ import annotations

import pytest

from tests import run


@pytest.mark.parametrize("command", run.LINT, ids=" ".join)
def test_finds_nothing(command: tuple[str, ...]) -> None:
    assert run.run(*command).returncode == 0
