"""The test command ends with what it started, and after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from tests import needs
from tests.conftest import SLOW, _spread

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


def test_what_waits_is_spread_over_the_workers():
    items = [SimpleNamespace(path=SLOW[0] / "a.py", n=n) for n in range(5)]
    items += [SimpleNamespace(path=Path("tests/b.py"), n=n) for n in range(5, 25)]
    spread = _spread(items, 2)  # type: ignore[arg-type]
    order = [item.n for item in spread]  # type: ignore[attr-defined]
    assert order == [0, 2, 4, *range(5, 15), 1, 3, *range(15, 25)]
    assert _spread(items, 1) == items  # type: ignore[arg-type]
