"""What happened becomes words on the right stream, and the right exit code."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import cli
from builder.problems import ConfigError, Location, Problem, UserError

ROOT = Path(__file__).resolve().parent.parent
PROBLEM = Problem(
    Location("configs/site.yaml", 3, 9), "bridge 'vmbr9' is not defined", "unknown-bridge",
    "bridge: vmbr9",
)  # fmt: skip
OTHER = Problem(Location("configs/hosts/pve1.yaml", 1, 1), "empty", "empty")

Capture = pytest.CaptureFixture[str]


def fails(error: BaseException) -> Callable[[], int | None]:
    def function() -> int | None:
        raise error

    return function


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (2, 2), (4, 4), (5, 5)])
def test_returned_code(returned: int | None, code: int) -> None:
    assert cli.exit_code(lambda: returned) == code


def test_run_returns_or_leaves() -> None:
    cli.run(lambda: None)
    with pytest.raises(SystemExit) as leaving:
        cli.run(lambda: 2)
    assert leaving.value.code == 2


def test_problems(capsys: Capture) -> None:
    assert cli.exit_code(fails(ConfigError([PROBLEM, OTHER]))) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        "configs/hosts/pve1.yaml:1:1: empty [empty]\n"
        "configs/site.yaml:3:9: bridge 'vmbr9' is not defined [unknown-bridge]\n"
        "    bridge: vmbr9\n"
        "            ^\n"
        "2 problems\n"
    )


def test_one_problem(capsys: Capture) -> None:
    cli.exit_code(fails(ConfigError([OTHER])))
    assert capsys.readouterr().err.endswith("\n1 problem\n")


def test_problems_as_json(capsys: Capture) -> None:
    assert cli.exit_code(fails(ConfigError([PROBLEM])), json=True) == 1
    assert json.loads(capsys.readouterr().out) == {
        "problems": [
            {
                "file": "configs/site.yaml",
                "line": 3,
                "column": 9,
                "message": "bridge 'vmbr9' is not defined",
                "code": "unknown-bridge",
            }
        ]
    }


def test_user_error(capsys: Capture) -> None:
    assert cli.exit_code(fails(UserError("no key", "./invoke key.init"))) == 1
    assert capsys.readouterr() == ("", "error: no key\n  ./invoke key.init\n")


def test_a_user_error_sends_a_terminal_nothing_that_it_acts_on(capsys: Capture) -> None:
    cli.exit_code(fails(UserError("a\x1b[2J", "one\n  two\x07")))
    assert capsys.readouterr().err == "error: a␛[2J\n  one\n  two␇\n"


def test_user_error_as_json(capsys: Capture) -> None:
    assert cli.exit_code(fails(UserError("no key", "mend")), json=True) == 1
    error = {"message": "no key", "hint": "mend"}
    assert json.loads(capsys.readouterr().out) == {"error": error}


def test_full_disk_is_no_bug(capsys: Capture) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "dist/store/x")
    assert cli.exit_code(fails(full)) == 1
    assert capsys.readouterr().err == "error: dist/store/x: No space left on device\n"


@pytest.mark.parametrize("error", [AssertionError("odd"), FileNotFoundError(2, "gone", "x")])
def test_bug_keeps_its_traceback(error: Exception, capsys: Capture) -> None:
    assert cli.exit_code(fails(error)) == 3
    err = capsys.readouterr().err
    found = re.search(r"the traceback is in (\S+);", err)
    assert found
    kept = Path(found[1])
    assert "in function" in kept.read_text()
    assert str(error) in kept.read_text()
    assert kept.stat().st_mode & 0o077 == 0
    kept.unlink()


def test_bug_without_room_for_its_traceback(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: fails(OSError("no room"))())
    assert cli.exit_code(fails(AssertionError("odd"))) == 3
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_interrupt(capsys: Capture) -> None:
    assert cli.exit_code(fails(KeyboardInterrupt())) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_progress_is_plain_lines_elsewhere(capsys: Capture) -> None:
    for text in ("fetching nginx", "fetching nginx", "fetching lego", ""):
        cli.progress(text)
    assert capsys.readouterr() == ("", "fetching nginx\nfetching lego\n")


def on_terminal(code: str, **environment: str) -> str:
    """What a terminal of 40 columns is sent by `code`, with `cli` imported."""
    reader, writer = pty.openpty()
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "CI")}
    subprocess.run(
        [sys.executable, "-c", f"from builder import cli\n{code}"],
        cwd=ROOT, stderr=writer, check=True,
        env={**clean, "TERM": "xterm", "COLUMNS": "40", **environment},
    )  # fmt: skip
    os.close(writer)
    with open(reader, "rb", buffering=0) as terminal:
        sent = b""
        with contextlib.suppress(OSError):  # EIO: nobody has it open, and all is read
            while more := terminal.read(4096):
                sent += more
    return sent.decode().replace("\r\n", "\n")


LIVE = "cli.progress('one'); cli.progress('x' * 60); cli.say(cli.style('told', cli.RED))"


def test_live_line_on_a_terminal() -> None:
    shown = on_terminal(LIVE)
    assert shown == f"\r\x1b[Kone\r\x1b[K{'x' * 39}\r\x1b[K\x1b[31mtold\x1b[0m\n"


@pytest.mark.parametrize("unwanted", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colour_where_unwanted(unwanted: dict[str, str]) -> None:
    assert "\x1b[31m" not in on_terminal(LIVE, **unwanted)


def invoke(*arguments: str, tasks: Path = ROOT) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return subprocess.Popen(
        [sys.executable, "-m", "invoke", *arguments],
        cwd=tasks, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch"], b"No idea what 'nosuch' is!"),
        (["build", "--nosuch"], b"No idea what '--nosuch' is!"),
        (["diff", "one"], b"did not receive required positional arguments: 'b'"),
    ],
)
def test_usage_errors(arguments: list[str], words: bytes) -> None:
    process = invoke(*arguments)
    _, err = process.communicate()
    assert (process.returncode, words in err) == (1, True)


def test_every_command_is_listed() -> None:
    out, _ = invoke("--complete", "--", "").communicate()
    assert set(out.decode().split()) >= {
        "check", "build", "diff", "ca.init", "key.init", "inputs.update", "test", "lint", "bench",
    }  # fmt: skip


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A folder with our tasks.py and one more task, whose body is under test."""
    text = (
        (ROOT / "tasks.py").read_text().replace("\nnamespace = ", "\n" + EXTRA + "\nnamespace = ")
    )
    (tmp_path / "tasks.py").write_text(text.replace("*(check,", "*(extra, check,"))
    return tmp_path


EXTRA = """
@command(iterable=["host"])
def extra(_, host, do=""):
    import time
    print(names(host), sys.dont_write_bytecode, flush=True)
    if do == "wait":
        time.sleep(60)
    if do == "flood":
        while True: print("x" * 1000)
    if do == "foreign":
        print("über → ₂")
    return 4 if do == "four" else None
"""


def test_interrupted_through_invoke(stand_in: Path) -> None:
    process = invoke("extra", "--do", "wait", tasks=stand_in)
    assert process.stdout
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (130, b"interrupted\n")


def test_what_the_encoding_of_a_terminal_lacks(
    stand_in: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "latin-1")
    process = invoke("extra", "--do", "foreign", tasks=stand_in)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, b"")
    assert out.endswith(b"\xfcber \\u2192 \\u2082\n")


def test_reader_gone_through_invoke(stand_in: Path) -> None:
    process = invoke("extra", "--do", "flood", tasks=stand_in)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == cli.BROKEN_PIPE


def test_codes_and_names_through_invoke(stand_in: Path) -> None:
    process = invoke("extra", "--host", "a,b", "--host", "c", "--do", "four", tasks=stand_in)
    out, _ = process.communicate()
    assert (process.returncode, out) == (4, b"['a', 'b', 'c'] False\n")
