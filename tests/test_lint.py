"""ruff and mypy find nothing, and would."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import needs, run

SETTINGS = f"--config={needs.ROOT / 'pyproject.toml'}"


@pytest.mark.parametrize("command", run.LINT, ids=" ".join)
def test_finds_nothing(command: tuple[str, ...]) -> None:
    assert run.run(*command).returncode == 0


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        (("ruff", "check", "--quiet", SETTINGS), "def f() -> None: ...\n"),
        (("ruff", "format", "--check", "--quiet", SETTINGS), "x = 'one'\n"),
        (("mypy", "--no-error-summary"), "def f(x): return x\n"),
    ],
    ids=["docstring", "quotes", "types"],
)
def test_guard_trips(tmp_path: Path, command: tuple[str, ...], fault: str) -> None:
    (tmp_path / "faulty.py").write_text(fault)
    assert run.run(*command, str(tmp_path / "faulty.py")).returncode == 1
