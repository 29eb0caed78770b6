"""Guests that stop while they are looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.host import asking, commands, owed
from builder.host.gate import Answer, Ask
from builder.host.paths import Paths
from builder.host.platform_lxc import Lxc
from builder.host.platforms import platform
from builder.host.probe import closed, in_network_of


def _tool(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """liblxc's, to which a guest runs no more."""
    monkeypatch.setattr(commands, "_PATH", f"{tmp_path}:/usr/bin:/bin")
    _tool(tmp_path, "lxc-info", "exit 0")
    _tool(tmp_path, "lxc-stop", "echo 101 is not running >&2; exit 2")
    return tmp_path


@pytest.mark.parametrize("kind", ["lxc", "proxmox"])
def test_it_has_no_process_that_could_be_entered(tools: Path, kind: str):
    process = platform(kind, Paths(tools)).process(101)
    assert closed(process, (1,)) == "its network can't be entered"
    ask = Ask("k", "101", "102", "chat", "open", "127.0.0.1", 1)
    answers = asking.all_of([ask], {"101": in_network_of(process)}, {})
    assert answers == {"k": Answer(failed="place", why="its network can't be entered")}


def test_it_need_not_be_stopped(tools: Path):
    Lxc(Paths(tools)).stop(101)


def test_it_owes_no_restart(tools: Path):
    _tool(tools, "lxc-ls", "echo NAME STATE; echo 101 RUNNING")
    (tools / "run/phoenix-owed").mkdir(parents=True)
    (tools / "run/phoenix-owed/101").write_text("4711")
    assert not [*owed.owing(Paths(tools), Lxc(Paths(tools)))]
