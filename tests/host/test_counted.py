"""How requests ended, as a guest's shell counts them."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from builder.host import counted
from builder.host.counted import Rate

ENOUGH = ("awk", "date", "tail")


def _counted(root: Path, tools: str = "") -> list[Rate]:
    """What the script tells of the logs in `root`."""
    script = counted.SCRIPT.replace("/var/log/phoenix-nginx", str(root)) + "echo 'asked a b c'\n"
    done = subprocess.run(
        ["/bin/sh", "-c", script], capture_output=True, text=True, check=True,
        env={"PATH": tools or os.environ["PATH"]},
    )  # fmt: skip
    assert done.stderr == ""
    return [*counted.rates(101, done.stdout.splitlines())]


def _line(minutes: int, service: str, status: str, host: str = "a.example.org") -> str:
    """One as nginx writes it, `minutes` ago; the client's words are hostile."""
    at = (datetime.datetime.now() - datetime.timedelta(minutes=minutes)).isoformat("T", "seconds")
    return (
        f'{{"time":"{at}+00:00","slot":"a","id":"{"0" * 32}","service":"{service}",'
        f'"client":"192.0.2.1","connection":7,"method":"GET","host":"{host}",'
        f'"path":"/\\",\\"service\\":\\"x\\",\\"status\\":\\"500\\"","protocol":"HTTP/1.1",'
        f'"status":"{status}","sent":1,"agent":"\\"status\\":\\"503\\""}}\n'
    )


def test_errors_of_late_are_counted(tmp_path: Path):
    """By service and name, over a turned log, without what is older or is no whole line."""
    lines = [_line(1, "chat", code) for code in ("200", "404", "499", "000", "502", "504")]
    lines += [_line(2, "chat", "200", "b.example.org"), _line(1, "", "503")]
    lines += [_line(30, "chat", "500"), "no line\n", _line(1, "page", "500")[:-20]]
    (tmp_path / "access.json").write_text("".join(lines))
    (tmp_path / "access.json.1").write_text(_line(3, "page", "503"))
    assert _counted(tmp_path) == [
        Rate(101, "chat", "a.example.org", 6, 2),
        Rate(101, "chat", "b.example.org", 1, 0),
        Rate(101, "page", "a.example.org", 1, 1),
    ]


def test_our_own_looks_are_not_counted(tmp_path: Path):
    ours = _line(1, "chat", "502").rpartition('"agent"')[0] + '"agent":"phoenix"}\n'
    (tmp_path / "access.json").write_text(ours * 3 + _line(1, "chat", "200"))
    assert _counted(tmp_path) == [Rate(101, "chat", "a.example.org", 1, 0)]


def test_of_a_large_log_the_end_is_read(tmp_path: Path):
    line = _line(1, "chat", "200")
    (tmp_path / "access.json").write_text(line * 20000 + _line(1, "chat", "502") * 5)
    (rate,) = _counted(tmp_path)
    assert rate.failed == 5
    assert 10000 < rate.asked < 20000


def test_many_names_are_counted_together(tmp_path: Path):
    lines = (_line(1, "chat", "200", f"{i}.example.org") for i in range(700))
    (tmp_path / "access.json").write_text("".join(lines))
    rates = _counted(tmp_path)
    assert len(rates) == 501
    assert sum(rate.asked for rate in rates) == 700
    assert next(rate for rate in rates if rate.host == "*").asked == 200


def test_no_log_and_an_empty_one(tmp_path: Path):
    assert _counted(tmp_path) == []
    (tmp_path / "access.json").touch()
    assert _counted(tmp_path) == []


@pytest.mark.parametrize("without", ["", *ENOUGH])
def test_a_guest_without_a_tool_tells_nothing(without: str, tmp_path: Path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in {*ENOUGH} - {without}:
        (tools / name).symlink_to(shutil.which(name) or "")
    (tmp_path / "access.json").write_text(_line(1, "chat", "500"))
    expected = [] if without else [Rate(101, "chat", "a.example.org", 1, 1)]
    assert _counted(tmp_path, str(tools)) == expected
