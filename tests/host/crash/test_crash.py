"""The proofs by counting; each runs in a process of its own, since it forks and is traced.

What is left to --deep is said where each proof is: in kill, power, faults and mutants. What was
counted is printed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.host.crash import mutants, scene, trace

ROOT = Path(__file__).resolve().parents[3]
pytestmark = [
    pytest.mark.long(1),
    pytest.mark.skipif(not trace.HERE, reason="the registers differ"),
]
Show = Callable[[str], None]


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Show:
    def shown(text: str) -> None:
        with capsys.disabled():
            print(f"\n{text}")

    return shown


def proved(show: Show, name: str, *words: str) -> dict[str, Any]:
    """What a proof counted; shows it, and fails with its first faults."""
    command = [sys.executable, "-m", f"tests.host.crash.{name}", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200)
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    faults = found.pop("faults")
    show(f"{name}: " + "; ".join(f"{key} {value}" for key, value in found.items()))
    assert not faults, f"{len(faults)}: {faults[:10]}"
    return found


@pytest.mark.parametrize("name", ["install", "rollback"])
def test_killed_at_every_call(name: str, show: Show) -> None:
    found = proved(show, "kill", name)
    assert found["kills"][name] > 1000
    assert found["classes"][name] > 20
    assert found["indices of recovery"][name] > 10000


def test_killed_where_a_file_changes(show: Show) -> None:
    found = proved(show, "kill", "locks", "first", "confirmed", "leave", "undone")
    assert sum(found["kills"].values()) > 500
    assert found["lock found held"] > 300


def test_power_cut_at_every_step(show: Show) -> None:
    found = proved(show, "power")
    assert sum(found["states"].values()) > 1000


@pytest.mark.parametrize("name", [each.name for each in scene.FAILING])
def test_every_call_fails(name: str, show: Show) -> None:
    found = proved(show, "faults", name)
    assert {"done", "undone", "degraded", "failed"} <= found["ends"].keys()


@pytest.mark.deep
@pytest.mark.parametrize("name", ["kill", "power", "faults"])
def test_deep(name: str, show: Show) -> None:
    proved(show, name, "--deep")


def test_mutants_that_show_at_once(show: Show) -> None:
    _mutants(show, "unlocked", "files.write", "files.locked", "files._flock", "journals.")


@pytest.mark.deep
@pytest.mark.parametrize("part", ["1/2", "2/2"])
def test_every_mutant(part: str, show: Show) -> None:
    _mutants(show, "--part", part)


def test_there_are_mutants() -> None:
    names = [mutant.name for mutant in mutants.every()]
    assert len(names) == len({*names})
    for word in ("fsync", "torn os.rename", "flock", "host.paths.journal"):
        assert any(word in name for name in names), word


def _mutants(show: Show, *words: str) -> None:
    command = [sys.executable, "-m", "tests.host.crash.mutants", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200)
    show(done.stdout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
