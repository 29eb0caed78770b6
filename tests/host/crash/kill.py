"""The host program killed before each of its system calls, recovered, and recovery killed too.

    python -m tests.host.crash.kill [--deep] [--first-fault]

Counted from a transaction's lock on, which is its first write. Two calls between which no file
changed leave the same host, and recovery reads nothing else: it runs once for each host that is
left. The install is killed at every index all the same; other scenes, and recovery, before each
call that changes a file, and with --deep at every index as well. Recovery is killed from one host
of each class, by which names differ from the old and from the new ones and the journal's stage;
without --deep from one class of a scene, two of the install.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.host import transaction
from builder.host.paths import Paths
from tests.host.crash import scene
from tests.host.crash.machine import Machine
from tests.host.crash.scene import SCENES, Scene, scratch
from tests.host.crash.trace import CHANGING, Child, killed

Recover = Callable[[Machine], None]


def guarded(machine: Machine) -> None:
    """Recovery on the running host: the guard's."""
    transaction.take_back(machine.host(), "guard")


def rebooted(machine: Machine) -> None:
    """Recovery by a reboot, in its two phases."""
    machine.boot()


RECOVERIES: dict[str, Recover] = {"guard": guarded, "reboot": rebooted}


@dataclass
class Proof:
    """What was counted, and what was found."""

    kills: dict[str, int] = field(default_factory=dict)
    hosts: int = 0
    classes: int = 0
    recoveries: int = 0
    faults: list[str] = field(default_factory=list)
    first: bool = False

    def fault(self, text: str) -> None:
        self.faults.append(text)
        if self.first:
            raise StopIteration


@dataclass
class Ends:
    """What a scene's host is to be in the end: by way of recovery, the old and the new state."""

    old: dict[str, dict[str, Any]] = field(default_factory=dict)
    new: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


def ends(place: Path, each: Scene) -> Ends:
    """The old and the new host of a scene, as they are and after a reboot."""
    found = Ends()
    with scratch(place / each.before) as root:
        machine = Machine(root)
        found.before = found.old["guard"] = scene.state(root)
        each.does(machine)
        found.after = found.new["guard"] = scene.state(root)
        machine.boot()
        found.new["reboot"] = scene.state(root)
    with scratch(place / each.before) as root:
        Machine(root).boot()
        found.old["reboot"] = scene.state(root)
    return found


def changing(place: Path, before: str, body: Callable[[Machine], None]) -> list[int]:
    """The indices after a call that may change a file, and the first."""
    found = [0]
    with scratch(place / before) as root:
        child = Child(lambda: body(Machine(root)))
        try:
            while child.next():
                if child.call().number in CHANGING:
                    found.append(child.index + 1)
            assert child.code == 0
        finally:
            child.kill()
    return found


def indices(place: Path, each: Scene, deep: bool) -> Iterator[int]:
    """Where a scene is killed."""
    if not deep and each.name != "install":
        yield from changing(place, each.before, each.does)
        return
    with scratch(place / each.before) as root:
        child = Child(lambda: each.does(Machine(root)))
        while child.next():
            yield child.index
        assert child.code == 0


def judged(root: Path, way: str, known: Ends) -> list[str]:
    """How a recovered host is neither wholly old nor wholly new; recovers once more."""
    now = scene.state(root)
    news = scene.differs(now, known.new[way])
    faults = [] if not news else scene.differs(now, known.old[way])
    if faults and len(news) < len(faults):
        faults = news
    if scene.stage(root):
        faults.append("the journal is still there")
    machine, was = Machine(root), scene.raw(root)
    if transaction.take_back(machine.host(), "again") or scene.raw(root) != was:
        faults.append("a second recovery changed something")
    return faults


def unguarded(root: Path) -> str | None:
    """What is missing for a killed transaction to be taken back."""
    stage, machine = scene.stage(root), Machine(root)
    if stage in ("", "preparing"):
        return None
    if not any(name.endswith(stage) for name in machine.timers()):
        return f"no timer for {stage}"
    wants = Paths(root).at("/etc/systemd/system/sysinit.target.wants/phoenix-early.service")
    return None if wants.exists() else "no boot unit"


def prove(place: Path, each: Scene, proof: Proof, deep: bool) -> None:
    """Kill a scene, and its recoveries."""
    known = ends(place, each)
    seen: set[str] = set()
    classes: dict[tuple[object, ...], Path] = {}
    proof.kills[each.name] = 0
    for index in list(indices(place, each, deep)):
        with scratch(place / each.before) as root:
            machine = Machine(root)
            assert killed(lambda: each.does(machine), index)  # noqa: B023
            proof.kills[each.name] += 1
            left = scene.raw(root)
            if left in seen:
                continue
            seen.add(left)
            where = f"{each.name} killed before call {index}"
            if why := unguarded(root) or ", ".join(scene.half(root, known.before, known.after)):
                proof.fault(f"{where}: {why}")
            for way, recover in RECOVERIES.items():
                again = place / "recovered"
                recovered(root, again, way, recover, known, proof, where)
            now = scene.state(root)
            key = (
                tuple(scene.differs(now, known.before)),
                tuple(scene.differs(now, known.after)),
                scene.stage(root),
            )
            if key not in classes and scene.stage(root):
                classes[key] = place / f"class{len(classes)}"
                scene.copy(root, classes[key])
    proof.hosts += len(seen)
    proof.classes += len(classes)
    every = list(classes.values())
    some = every[len(every) // 2 :: max(len(every) // 3, 1)][: 2 if each.name == "install" else 1]
    for left_by in every if deep else some:
        for way, recover in RECOVERIES.items():
            _recovery(place, each.name, left_by, way, recover, known, proof)
    for left_by in every:
        scene.remove(left_by)


def recovered(
    root: Path, again: Path, way: str, recover: Recover, known: Ends, proof: Proof, where: str
) -> None:
    """Recover a copy of a host, and judge it."""
    scene.copy(root, again)
    try:
        recover(Machine(again))
        if faults := judged(again, way, known):
            proof.fault(f"{where}, then {way}: torn: {', '.join(faults)}")
    except (OSError, ValueError, transaction.DegradedError, AssertionError, LookupError) as error:
        proof.fault(f"{where}, then {way}: {error!r}")
    finally:
        scene.remove(again)


def _recovery(
    place: Path, name: str, left: Path, way: str, recover: Recover, known: Ends, proof: Proof
) -> None:
    """Kill a recovery of the host `left`, and recover again, in each way."""
    seen: set[str] = set()
    for index in changing(place, left.name, recover):
        with scratch(left) as root:
            machine = Machine(root)
            assert killed(lambda: recover(machine), index)  # noqa: B023
            proof.recoveries += 1
            if (found := scene.raw(root)) in seen:
                continue
            seen.add(found)
            where = f"{name} left as {left.name}, {way} killed before call {index}"
            for second, then in RECOVERIES.items():
                if way == "reboot" and second == "guard":
                    continue  # A guard's timer is gone after a reboot.
                recovered(root, place / "recovered", second, then, known, proof, where)


def main(arguments: list[str]) -> int:
    """Prove all scenes; prints what was counted, and each fault."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # They wait for each other.
    proof = Proof(first="--first-fault" in arguments)
    deep = "--deep" in arguments
    with scene.workplace() as place:
        scene.furnish(place)
        try:
            for each in SCENES:
                prove(place, each, proof, deep)
        except StopIteration:
            pass
    counted: dict[str, object] = {
        "kills": proof.kills,
        "hosts": proof.hosts,
        "classes": proof.classes,
    }
    counted |= {"recoveries killed": proof.recoveries, "faults": proof.faults}
    print(json.dumps(counted, indent=1))
    return 1 if proof.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
