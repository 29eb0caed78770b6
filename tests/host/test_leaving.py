"""Guests that were there before us and are ours no more: what is done in them while they run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from builder.host import decide, guests
from builder.host.decide import GuestEffect, Overlay, Taken

FOLDER = "0123456789abcdef"


class Inside:
    """A guest with its systemctl; what it has of ours is below a folder of the test."""

    def __init__(self, root: Path, units: str) -> None:
        self.root, self.calls = root, root / "calls"
        self.calls.touch()
        listed = f"case $1 in list-units) printf '{units}'; exit ;; esac"
        self.tool("systemctl", f'{listed}; [ $# -gt 1 ] || exit 1; echo "$*" >>{self.calls}')

    def tool(self, name: str, script: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def inside(self, _guest: int, *command: str) -> tuple[int, str]:
        words = [each.replace("/opt/phoenix", str(self.root)) for each in command]
        path = f"{self.root}:{os.environ['PATH']}"
        try:
            done = subprocess.run(words, capture_output=True, check=False, env={"PATH": path})
        except FileNotFoundError:
            return 127, ""
        return done.returncode, done.stdout.decode()

    def leave(self) -> list[str]:
        """What was called in it."""
        place: Any = self
        guests.leave(place, 111, FOLDER)
        return self.calls.read_text().splitlines()


def test_one_that_owes_its_restart_has_nothing_of_ours(tmp_path: Path):
    assert Inside(tmp_path, "").leave() == []


@pytest.mark.parametrize("units", ["", "phoenix-names.path loaded\\nphoenix-names.timer loaded\\n"])
def test_it_leaves_by_the_folder_that_it_has(tmp_path: Path, units: str):
    """Also where no link leads there any more, and another way back stopped its units already."""
    guest = Inside(tmp_path, units)
    for name in ("names", "slots"):
        guest.tool(f"{FOLDER}/bin/phoenix-{name}", f'echo "{name} $*" >>{guest.calls}')
    stopped = ["stop phoenix-names.path phoenix-names.timer"] if units else []
    assert guest.leave() == ["slots off", *stopped, "names remove"]


@pytest.mark.parametrize("ran", [None, (111,)])
def test_the_folder_is_known(ran: tuple[int, ...] | None):
    before = {111: Overlay({}, folder=FOLDER)}
    found = decide.effects((), {}, before, {}, (111,), lambda _old, _new: Taken(), ran)
    assert found.guests == (GuestEffect(111, "leave", folder=FOLDER),)
