"""The zipapp: one file, the same bytes, run by a bare Python."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from builder import program

HOST = Path(__file__).parents[2] / "builder/host"


def test_it_is_the_same_from_another_folder(tmp_path: Path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(HOST, copy)
    (copy / "__pycache__").mkdir(exist_ok=True)
    for path in copy.glob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert program.host_program(copy) == program.host_program()
    (copy / "files.py").write_bytes((copy / "files.py").read_bytes() + b"# more\n")
    assert program.host_program(copy) != program.host_program()


def test_a_bare_python_runs_it(tmp_path: Path):
    path = tmp_path / "phoenix"
    path.write_bytes(program.host_program())
    bare = [sys.executable, "-I", "-S", str(path)]
    done = subprocess.run([*bare, "--help"], capture_output=True, text=True, env={}, check=True)
    assert "rollback [N]" in done.stdout
    wrong = subprocess.run([*bare, "nonsense"], capture_output=True, text=True, env={}, check=False)
    assert wrong.returncode == 1
    assert "nonsense" in wrong.stderr
