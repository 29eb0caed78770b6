from __future__ import annotations

import json
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from builder import cli
from builder.lab import commands, packages, up
from builder.lab.engine import Engine
from builder.lab.shape import Lab
from builder.lab.state import State
from builder.problems import UserError

LAB = Lab("lab", "lab", IPv4Network("198.18.0.0/24"))


def found(made: bool, socket: str = "") -> up.Up:
    return up.Up(LAB, State(LAB, Path("/state/lab")), Engine(socket), made)


def test_an_unknown_shape_is_the_users_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(lambda: commands.up("labs", False)) == cli.USER
    assert "did you mean 'lab'?" in capsys.readouterr().err


def test_up_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(up, "up", lambda *_: found(False, "/run/socket"))
    assert commands.up("lab", False) == cli.DONE
    text = capsys.readouterr().out
    assert "lab lab is up already: 198.18.0.10 in 198.18.0.0/24" in text
    assert "ssh -F /state/lab/ssh_config lab\n" in text
    assert "DOCKER_HOST=unix:///run/socket docker exec -it phoenix-lab-lan bash" in text
    assert commands.up("lab", True) == cli.DONE
    told = json.loads(capsys.readouterr().out)
    assert told["address"] == "198.18.0.10"
    assert told["made"] is False
    assert [each["id"] for each in told["foreign"]] == [901, 902, 903]


@pytest.mark.parametrize(("there", "text"), [(True, "taken away"), (False, "was not there")])
def test_down_is_told(
    there: bool, text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(up, "down", lambda *_: there)
    assert commands.down("lab", False) == cli.DONE
    assert capsys.readouterr().out == f"lab lab: {text}\n"


def test_only_root_makes_a_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(UserError, match="only root"):
        packages.ensure(lambda _: None)


def test_what_lacks_is_installed_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"apt-get", "dockerd", "docker", "ip", "unshare", "ssh"}
    verbs, said = list[str](), list[str]()

    def apt(verb: str, *_: str) -> str:
        verbs.append(verb)
        return "E: none"

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(packages, "program", lambda name: name if name in there else None)
    monkeypatch.setattr(packages, "_apt", apt)
    with pytest.raises(UserError, match="apt-get brought no mmdebstrap: E: none"):
        packages.ensure(said.append)
    assert said[0] == "installing mmdebstrap with apt-get, for mmdebstrap"
    assert verbs == ["install", "update", "install"]
