"""Points at which the host program stands still until a test lets it go on.

It goes into the copy of the program that such a release brings (`program`), beside the modules of
`builder/host/`, all of which are as they are. A point is armed by two pipes in `FOLDER`:

    NAME.at     the program writes a line here when it comes by, once: the first who comes takes it
    NAME.go     and reads one here before it goes on

Files in that folder take something away: `no-timer` the guard's timer, `forgets` what has come of
a file before; `unwell` has the health check fail.
"""

from __future__ import annotations

import functools
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path("/var/lib/phoenix/hold")
POINTS = (
    "plan", "transfer", "staging", "guard", "swap", "reload", "waiting", "asked", "taken", "undo",
)  # fmt: skip
ARRIVED = 5 << 20
"""How many bytes of files have come at the point "transfer"."""
_MAIN = b"""\
import sys
from host import holds
from host.program import main
holds.place()
if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
"""


def program() -> bytes:
    """The host program with these points in it."""
    from builder import program as made

    host = Path(made.__file__).with_name("host")
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "host")
        shutil.copytree(host, copy, ignore=shutil.ignore_patterns("__pycache__"))
        (copy / "__main__.py").rename(copy / "program.py")
        (copy / "__main__.py").write_bytes(_MAIN)
        shutil.copyfile(__file__, copy / "holds.py")
        return made.host_program(copy)


def stop(name: str) -> None:
    """Stand still at a point, if it is armed."""
    at = FOLDER / f"{name}.at"
    mine = at.with_suffix(f".{os.getpid()}")
    try:
        at.rename(mine)
    except FileNotFoundError:
        return
    # Of a unit that is killed here, the test has heard all the same.
    mine.open("w").write(f"{name}\n")
    with (FOLDER / f"{name}.go").open() as go:
        go.readline()


def _wrapped(module: str, path: str, wrap: Callable[[Any], Any]) -> None:
    """Put something in a name's place; a name that is not there any more is an error."""
    place: Any = importlib.import_module(f"host.{module}")
    *owners, name = path.split(".")
    for owner in owners:
        place = getattr(place, owner)
    setattr(place, name, functools.wraps(getattr(place, name))(wrap(getattr(place, name))))


def _before(name: str) -> Callable[[Any], Any]:
    """Stop before a function does anything."""

    def wrap(original: Any) -> Any:
        def stopped(*args: Any, **named: Any) -> Any:
            stop(name)
            return original(*args, **named)

        return stopped

    return wrap


def _nth(name: str, number: int) -> Callable[[Any], Any]:
    """Stop before a function's n-th call in a process."""

    def wrap(original: Any) -> Any:
        calls = 0

        def stopped(*args: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == number:
                stop(name)
            return original(*args, **named)

        return stopped

    return wrap


def _arm(original: Any) -> Any:
    def armed(generation: int, stage: str, seconds: int) -> None:
        if not (FOLDER / "no-timer").exists():
            original(generation, stage, seconds)
        if stage == "changing":
            stop("guard")

    return armed


def _status(original: Any) -> Any:
    def done(*command: str, **named: Any) -> Any:
        found = original(*command, **named)
        if command[0] == "ifreload":
            stop("reload")
        return found

    return done


def _hello(original: Any) -> Any:
    def said(session: Any) -> Any:
        answer = original(session)
        if answer["journal"] and answer["journal"]["stage"] == "confirming":
            stop("waiting")
        return answer

    return said


def _confirm(original: Any) -> Any:
    def confirmed(session: Any, request: Any) -> Any:
        stop("asked")
        answers = [*original(session, request)]
        stop("taken")
        yield from answers

    return confirmed


class _Counted:
    """What a file comes from, with the point in it."""

    def __init__(self, source: Any) -> None:
        self.source, self.count = source, 0

    def read(self, size: int) -> bytes:
        data: bytes = self.source.read(min(size, 1 << 16))
        self.count += len(data)
        if self.count >= ARRIVED:
            stop("transfer")
        return data


def _receive(original: Any) -> Any:
    def received(store: Any, digest: str, begin: int, length: int, source: Any) -> None:
        original(store, digest, begin, length, _Counted(source))

    return received


def _lacking(original: Any) -> Any:
    def lacking(session: Any, request: Any) -> Any:
        if (FOLDER / "forgets").exists():
            shutil.rmtree(session.host.paths.incoming, ignore_errors=True)
        return original(session, request)

    return lacking


def _runs(original: Any) -> Any:
    def runs(*args: Any) -> Any:
        fault = original(*args)
        return "it is unwell" if (FOLDER / "unwell").exists() else fault

    return runs


def place() -> None:
    """Put all points in."""
    _wrapped("serve", "Session._plan", _before("plan"))
    _wrapped("store", "Store.receive", _receive)
    _wrapped("serve", "Session._lacking", _lacking)
    _wrapped("store", "Store._place", _before("staging"))
    _wrapped("guard", "arm", _arm)
    _wrapped("apply", "put", _nth("swap", 3))
    _wrapped("commands", "status", _status)
    _wrapped("serve", "Session.hello", _hello)
    _wrapped("serve", "Session._confirm", _confirm)
    _wrapped("transaction", "_runs", _runs)
    _wrapped("back", "put", _nth("undo", 3))
