"""What a release's own programs refuse is refused before anything is changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.host.schema import RefusedError
from builder.host.transaction import Limits, activate
from tests.host.making import INTERFACES, INTERFACES_PATH, Stage, released

CHECK = "bin/phoenix-check"
IFUP = """\
#!/usr/bin/python3
import sys
*words, path = sys.argv[1:]
assert words == ["--all", "--syntax-check", "--interfaces"]
for number, line in enumerate(open(path), 1):
    if line.split() == ["bridge-ports", "none"]:
        print('warning: vmbr0: bridge-ports: invalid value "none": valid: []', file=sys.stderr)
    if line.split()[-1:] == ["statik"]:
        print(f"error: {path}: line{number}: unsupported method 'statik'", file=sys.stderr)
sys.exit(1)
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def _judged(stage: Stage, script: str) -> int:
    """A kept release whose guest 101 brings this judge."""
    return stage.keep(released(stage.store, guests={101: {CHECK: f"#!/bin/sh\n{script}\n"}}))


def test_refused_before_anything_is_changed(stage: Stage):
    number, before = _judged(stage, "echo 'nginx: [emerg] no' ; exit 1"), set(stage.files())
    with pytest.raises(RefusedError, match=r"guest 101 .*\[emerg\] no"):
        activate(stage.host(), number, "test", Limits())
    assert {n for n in {*stage.files()} - before if "guests/101/" not in n} == set()
    assert not stage.platform.exists(101)


def test_taken_where_it_is_good(stage: Stage):
    assert activate(stage.host(), _judged(stage, "exit 0"), "test", Limits())
    assert "unchecked" not in stage.events


def test_where_it_can_not_look_it_is_told(stage: Stage):
    assert activate(stage.host(), _judged(stage, "exit 75"), "test", Limits())
    assert "unchecked" in stage.events


def test_nothing_new_is_not_judged_again(stage: Stage, tmp_path: Path):
    said = tmp_path / "said"
    number = _judged(stage, f"echo x >>{said}")
    activate(stage.host(), number, "test", Limits())
    activate(stage.host(), number, "test", Limits())
    assert said.read_text() == "x\n"


def test_a_way_back_is_not_judged(stage: Stage, tmp_path: Path):
    number = _judged(stage, f"test ! -e {tmp_path}/bad")
    activate(stage.host(), number, "test", Limits())
    activate(stage.host(), 0, "test", Limits(), settle=True)
    (tmp_path / "bad").touch()
    assert activate(stage.host(), number, "test", Limits(), settle=True)


@pytest.fixture
def ifup(stage: Stage) -> None:
    """Says of a file what ifupdown2 3.0 says of it; its exit code is 1 for any bridge."""
    path = stage.paths.at("/sbin/ifup")
    path.parent.mkdir()
    path.write_text(IFUP)
    path.chmod(0o755)


@pytest.mark.usefixtures("ifup")
def test_a_bad_interfaces_file_is_not_put_there(stage: Stage):
    bad = INTERFACES.replace(b"inet static", b"inet statik")
    number, before = stage.keep(released(stage.store, interfaces=bad)), stage.files()
    with pytest.raises(RefusedError, match=r"interfaces: error: .*statik"):
        activate(stage.host(), number, "test", Limits())
    assert stage.files() == before


@pytest.mark.usefixtures("ifup")
def test_what_was_bad_before_is_not_ours(stage: Stage):
    path = stage.paths.at(INTERFACES_PATH)
    path.write_text("\nauto eth7\niface eth7 inet statik\n")
    assert activate(stage.host(), stage.keep(released(stage.store)), "test", Limits())
    assert "statik" in path.read_text()
