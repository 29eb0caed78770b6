"""The host program on a disk that is full, broken, read-only or not its own.

    python -m tests.host.crash.faults [--deep] [SCENE …]

Each call that changes a file (or syncs one) fails, once, and in another run from there on; a write
is short. The kernel skips the call and hands back the error. Without --deep each call gets two of
the errors, in turn. Whatever comes, the program says so and leaves the old generation, at the
latest once the fault is over and it is taken back; or it is through, and that is the new one.
"""

from __future__ import annotations

import errno
import json
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from builder.host.commands import FailedError
from builder.host.host import DegradedError, UndoneError
from builder.host.schema import RefusedError
from tests.host.crash import kill, scene
from tests.host.crash.machine import Machine
from tests.host.crash.record import Recorder
from tests.host.crash.scene import Scene, scratch
from tests.host.crash.trace import CHANGING, NAMES, Child

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS)
ENDS = {0: "done", 2: "refused", 4: "undone", 5: "failed", 6: "degraded"}
SHORT = -1
_SYNCS = ("fsync", "syncfs")


@dataclass
class Proof:
    """What was counted, and what was found."""

    calls: dict[str, int] = field(default_factory=dict)
    ends: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    first: bool = False


def ended(does: Callable[[], object]) -> None:
    """Run it, and exit as the program does; see `builder.host.__main__`."""
    try:
        does()
    except RefusedError:
        raise SystemExit(2) from None
    except UndoneError:
        raise SystemExit(4) from None
    except DegradedError:
        raise SystemExit(6) from None
    except (OSError, FailedError):
        raise SystemExit(5) from None


def _lasts(recorder: Recorder, child: Child) -> str:
    """The call's name, if it is one that changes what lasts."""
    call = child.call()
    name = NAMES.get(call.number, "")
    if call.number not in CHANGING and name not in _SYNCS:
        return ""
    paths = [path for path in recorder._paths(child, call, name) if not path.startswith("run/")]
    return name if paths else ""


def places(place: Path, each: Scene) -> dict[int, str]:
    """The calls of a scene that can fail, by their index."""
    with scratch(place / each.before) as root:
        found, recorder = {}, Recorder(root)
        child = Child(lambda: ended(lambda: each.does(Machine(root))))
        while child.next():
            if name := _lasts(recorder, child):
                found[child.index] = name
        assert child.code == 0
    return found


def failing(root: Path, each: Scene, at: int, error: int, forever: bool) -> int:
    """Run a scene with a fault; its exit code."""
    recorder = Recorder(root)
    child = Child(lambda: ended(lambda: each.does(Machine(root))))
    try:
        while child.next():
            fails = child.index == at or (forever and child.index > at and _lasts(recorder, child))
            if fails and not _fail(child, error):
                break
        assert child.code is not None
        return child.code
    finally:
        child.kill()


def _fail(child: Child, error: int) -> bool:
    registers = child.registers()
    if error == SHORT:
        registers.rdx = (registers.rdx + 1) // 2
        child.change(registers)
        return True
    registers.orig_rax = 2**64 - 1
    child.change(registers)
    if not child.done():
        return False
    registers = child.registers()
    registers.rax = 2**64 - error
    child.change(registers)
    return True


def prove(place: Path, each: Scene, proof: Proof, deep: bool) -> None:
    """Let each call of a scene fail."""
    known = kill.ends(place, each)
    found = places(place, each)
    proof.calls[each.name] = len(found)
    for turn, (index, name) in enumerate(found.items()):
        errors = ERRORS if deep else (ERRORS[turn % 4],)
        runs = [(error, forever) for error in errors for forever in (False, True)]
        if name == "write":
            runs += [(SHORT, False), (SHORT, True)]
        for error, forever in runs:
            word = "short" if error == SHORT else errno.errorcode[error]
            where = f"{each.name}: {word} at call {index} ({name}){' and ever' if forever else ''}"
            with scratch(place / each.before) as root:
                code = failing(root, each, index, error, forever)
                proof.ends[ENDS.get(code, f"exit {code}")] += 1
                if why := _judged(root, code, known, forever or error == SHORT):
                    proof.faults.append(f"{where}: {ENDS.get(code, code)}: {why}")
                    if proof.first:
                        raise kill.EnoughError


def _judged(root: Path, code: int, known: kill.Ends, forever: bool) -> str:
    """How a fault's end is not as it should be."""
    if code not in ENDS:
        return "no clear error"
    if code == 6 and not forever:
        return "one fault is too much"
    now, stage = scene.state(root), scene.stage(root)
    old, new = scene.differs(now, known.before), scene.differs(now, known.after)
    # What failed may be the confirmation: then it waits, and is taken back, or it has come.
    fine = {0: not new, 5: not old or not new or stage == "confirming", 6: True}
    if not fine.get(code, not old):
        return f"is not as it should be: {', '.join(new if code == 0 else old)}"
    try:
        scene.guarded(Machine(root))
    except DegradedError as error:
        return f"does not recover: {error}"
    return ", ".join(kill.judged(root, "guard", known))


def main(arguments: list[str]) -> int:
    """Prove; prints what was counted, and each fault."""
    scene.settle()
    proof, names = Proof(), {each for each in arguments if not each.startswith("--")}
    with scene.workplace() as place:
        scene.furnish(place)
        for each in scene.FAILING:
            if not names or each.name in names:
                prove(place, each, proof, "--deep" in arguments)
    print(json.dumps({"calls": proof.calls, "ends": proof.ends, "faults": proof.faults}, indent=1))
    return 1 if proof.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
