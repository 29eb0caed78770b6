"""The test command ends with what it started, and after it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests import needs

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
