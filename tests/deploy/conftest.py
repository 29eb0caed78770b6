from __future__ import annotations

from pathlib import Path

import pytest

from builder.deploy.memory import Memory
from tests.deploy.making import HOST, Project, Staged, Wire, project


@pytest.fixture
def made(tmp_path: Path) -> Project:
    return project(tmp_path / "project")


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    return Wire(Staged(tmp_path / "host"))


@pytest.fixture
def memory(tmp_path: Path) -> Memory:
    return Memory(tmp_path / "state" / "phoenix", "phoenix", HOST)
