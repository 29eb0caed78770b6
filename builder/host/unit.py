"""Commands of this program as a unit of their own: who follows one may go, and it stays."""

from __future__ import annotations

import json
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from typing import IO, Any

from . import files
from .paths import Paths

UNIT = "phoenix-activate.service"
Answer = dict[str, Any]
Follow = Callable[[str, list[str]], Iterator[Answer]]
"""Runs one of this program's commands as a unit of its own, and yields its events."""


def follow(verb: str, arguments: list[str]) -> Iterator[Answer]:
    """Run a command as a unit of its own, and yield its events until it ends; the last answer has
    its exit code. Whoever follows may go: the unit stays."""
    paths = Paths()
    begin = size(paths)
    command = ["systemd-run", "--quiet", "--wait", "--collect", f"--unit={UNIT}",
               "/usr/local/sbin/phoenix", verb, *arguments]  # fmt: skip
    with (
        subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as unit,
        paths.events.open("a+b") as told,
    ):
        told.seek(begin)
        ended = os.pidfd_open(unit.pid)
        done = False
        while not done:
            done = bool(select.select([ended], [], [], 0.02)[0])
            yield from lines(told)
        os.close(ended)
        code = unit.wait()
        assert unit.stderr
        if code and f"{UNIT} was already loaded".encode() in unit.stderr.read():
            raise files.BusyError((files.read(paths.lock) or b"").decode().strip())
    yield {"ok": code == 0, "code": code}


def size(paths: Paths) -> int:
    """How many bytes of events there are."""
    return paths.events.stat().st_size if paths.events.exists() else 0


def lines(told: IO[bytes]) -> Iterator[Answer]:
    """The whole lines that have come since; half of one is left for the next time, and what a
    crash has torn is left out."""
    while line := told.readline():
        if not line.endswith(b"\n"):
            told.seek(-len(line), os.SEEK_CUR)
            return
        try:
            yield json.loads(line)
        except ValueError:
            continue
