"""`invoke check`: what it says, and that it writes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from builder import commands
from builder.cli import exit_code
from tests.written import HOST, ROOT, write, written


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(tmp_path)


def run_check(root: Path, *, json_: bool, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(commands, "ROOT", root)
    return exit_code(lambda: commands.check(json_), json=json_)


def test_check_says_that_all_is_good(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_check(root, json_=False, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "configs/ is good: base\n"
    assert run_check(root, json_=True, monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"problems": []}


def test_check_ends_with_1_and_tells_problems(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root, "hosts/base.yaml", HOST.replace("id: 111", "id: 103"))
    assert run_check(root, json_=False, monkeypatch=monkeypatch) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.endswith("           ^\n1 problem\n")
    assert run_check(root, json_=True, monkeypatch=monkeypatch) == 1
    assert json.loads(capsys.readouterr().out) == {
        "problems": [
            {
                "file": "configs/hosts/base.yaml",
                "line": 11,
                "column": 12,
                "message": "id 103 is also that of 'app'",
                "code": "duplicate-id",
            }
        ]
    }


WATCH = """
import os, sys
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod",
           "os.truncate", "os.utime", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp"}

def watch(event, values):
    if event in CHANGES or (event == "open" and values[2] & WRITING):
        os.write(1, f"{event} {values[0]}\\n".encode())

sys.dont_write_bytecode = True
from builder import commands
commands.ROOT = Path(sys.argv[1])
sys.addaudithook(watch)
if len(sys.argv) > 2:
    Path(sys.argv[2]).write_text("")
commands.check(False)
"""


def watched(*arguments: object) -> list[str]:
    """What `check` printed and wrote, in a process that tells each write."""
    command = [sys.executable, "-c", WATCH, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_check_writes_nothing(root: Path) -> None:
    assert watched(root) == ["configs/ is good: base"]


def test_a_write_would_be_seen(root: Path, tmp_path: Path) -> None:
    assert watched(root, tmp_path / "x") == [f"open {tmp_path / 'x'}", "configs/ is good: base"]
