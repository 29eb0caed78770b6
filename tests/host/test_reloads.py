"""systemd reads its units again where one of them changed, and only there: it takes it long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.host import commands, decide, guard, perform
from builder.host.decide import Effects, Taken
from builder.host.paths import Paths
from builder.host.platforms import Platform
from builder.host.state import Change
from tests.host.making import Standing

UNIT = "/etc/systemd/system/phoenix-firewall.service"
RULES = "/etc/phoenix/firewall.nft"


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """What was run; a timer stands already where its name was taken once."""
    found: list[tuple[str, ...]] = []

    def run(*command: str, **_: Any) -> str:
        found.append(command)
        return ""

    monkeypatch.setattr(commands, "run", run)
    return found


def effects(*changes: Change) -> Effects:
    return decide.effects(changes, {}, {}, {}, (), lambda _old, _new: Taken())


def does(tmp_path: Path, found: Effects) -> None:
    paths = Paths(tmp_path)
    place: Platform = Standing(paths)  # type: ignore[assignment]
    perform.perform(paths, place, found, lambda *_: None)


def test_new_rules_are_just_loaded(tmp_path: Path, said: list[tuple[str, ...]]):
    does(tmp_path, effects(Change(RULES, b"old", b"new")))
    assert said == [("systemctl", "reload-or-restart", "phoenix-firewall.service")]


@pytest.mark.parametrize("old", [None, b"old"])
def test_a_changed_unit_is_read_first(
    tmp_path: Path, said: list[tuple[str, ...]], old: bytes | None
):
    does(tmp_path, effects(Change(RULES, b"old", b"new"), Change(UNIT, old, b"new")))
    assert said == [
        ("systemctl", "daemon-reload"),
        ("systemctl", "reload-or-restart", "phoenix-firewall.service"),
    ]


def test_a_unit_that_is_gone_is_forgotten(tmp_path: Path, said: list[tuple[str, ...]]):
    does(tmp_path, effects(Change(UNIT, b"old", None)))
    assert said == [
        ("systemctl", "stop", "phoenix-firewall.service"),
        ("systemctl", "daemon-reload"),
    ]


@pytest.mark.parametrize("left", [False, True])
def test_a_timer_that_was_left_gives_way(
    said: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, left: bool
):
    monkeypatch.setattr(commands, "status", lambda *command: (int(left), said.append(command)))
    guard.arm(7, "changing", 60)
    timer = "phoenix-guard-7-changing"
    assert [each[:2] for each in said] == [
        ("systemd-run", f"--unit={timer}"),
        *([("systemctl", "stop"), ("systemd-run", f"--unit={timer}")] if left else []),
    ]
