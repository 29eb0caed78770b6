"""The test command ends with what it started, and after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from tests import needs
from tests.conftest import _spread

# What is run takes longer to clean up than subprocess.run would wait for it.
CLEANING = """
import pathlib, time
try:
    pathlib.Path("begun").touch()
    time.sleep(60)
finally:
    time.sleep(0.6)
    pathlib.Path("cleaned").touch()
"""
RUNNING = f"""
import sys
from tests import needs, run
needs.ROOT = sys.argv[1]
run._ended([sys.executable, "-c", {CLEANING!r}])
"""


def test_an_interrupted_run_is_let_clean_up(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUNNING, tmp_path],
        cwd=needs.ROOT, stderr=subprocess.DEVNULL, start_new_session=True,
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 60
        while not (tmp_path / "begun").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == -signal.SIGINT
    assert (tmp_path / "cleaned").exists()


class Item(NamedTuple):
    nodeid: str
    path: str
    lab: Any

    def get_closest_marker(self, _: str) -> Any:
        return self.lab


def _items(*minutes: float, path: str = "", **more: Any) -> list[Any]:
    marks = (SimpleNamespace(args=(each,), kwargs=more) if each else None for each in minutes)
    return [Item(f"{path}{number}", path or str(number), mark) for number, mark in enumerate(marks)]


def test_the_longest_begin_first():
    rest = _items(*[0] * 12)
    spread = _spread([*rest, *_items(1, 5, 3, 3, path="own")], 2)
    assert [x.lab.args[0] if x.lab else 0 for x in spread[:8]] == [5, 1, *[0] * 6]
    assert [x.lab.args[0] if x.lab else 0 for x in spread[8:]] == [3, 3, *[0] * 6]
    assert [x for x in spread if not x.lab] == rest
    assert _spread(rest, 1) == rest


def test_what_shares_a_lab_stays_together():
    spread = _spread([*_items(2, 2, 2, path="a", shared=True), *_items(4, 1, path="b")], 2)
    assert [x.nodeid for x in spread] == ["a0", "a1", "a2", "b0", "b1"]
