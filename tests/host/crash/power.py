"""The host program on a machine whose power is cut, at every moment and in every way.

    python -m tests.host.crash.power [--deep] [--first-fault]

Recorded are whole deploys (files received, generation kept, activated, confirmed) of much and of a
line, a rollback and a recovery. From each state that can be left the host boots; then it has to be
wholly old or wholly new, wholly new where the program had ended before; the generation that runs
has all its files; and the same deploy has to go through. Without --deep the deploy of much is
tried again after every seventh state, and /etc/pve is rolled back to the earliest moment and to
none, not to those between.
"""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from builder.host import files, generations
from builder.host.compiled import compiled
from builder.host.host import DegradedError, UndoneError
from builder.host.schema import RefusedError
from builder.host.state import load_record
from tests.host.crash import disk, kill, scene
from tests.host.crash.disk import Disk
from tests.host.crash.machine import Machine
from tests.host.crash.record import Recorder, Step
from tests.host.crash.scene import Scene, scratch

_SOME = 7
# Nothing that is read again; and other programs' own.
_ASIDE = ("run/", "var/lib/vz/", f"{scene.HOME}/lock", "etc/network/.pve-interfaces.lock")


@dataclass
class Proof:
    """What was counted, and what was found."""

    steps: dict[str, int] = field(default_factory=dict)
    states: dict[str, int] = field(default_factory=dict)
    bound: dict[str, int] = field(default_factory=dict)
    again: int = 0
    faults: list[str] = field(default_factory=list)
    first: bool = False

    def fault(self, text: str) -> None:
        self.faults.append(text)
        if self.first:
            raise kill.EnoughError


def steps(place: Path, each: Scene) -> list[Step]:
    """What a scene does to files that last."""
    with scratch(place / each.before) as root:
        machine = Machine(root)
        every = Recorder(root).record(lambda: each.does(machine))
    return [step for step in every if not step.path.startswith(_ASIDE)]


@dataclass(frozen=True, slots=True)
class Cut:
    """What a power cut has left after so many steps, and whether the program had ended."""

    where: str
    left: disk.Tree
    ended: bool


def cuts(place: Path, each: Scene, proof: Proof, deep: bool) -> Iterator[Cut]:
    """All that can be left of a scene, each once."""
    every, model = steps(place, each), Disk(place / each.before)
    proof.steps[each.name], proof.bound[each.name] = len(every), 0
    seen: set[str] = set()
    for index, step in enumerate([None, *every]):
        if step:
            model.do(step)
        proof.bound[each.name] += len(model.pending) > disk.MANY
        ended = index == len(every)
        for left in model.states(deep):
            name = _name(left) + str(ended)
            if name not in seen:
                seen.add(name)
                yield Cut(f"{each.name} cut after step {index} ({step})", left, ended)


def prove(place: Path, each: Scene, proof: Proof, deep: bool) -> None:
    """Cut the power in a scene."""
    known, was = kill.ends(place, each), disk.tree(place / each.before)
    every = list(cuts(place, each, proof, deep))
    if proof.first:
        random.Random(1).shuffle(every)  # Whatever is wrong, is soon seen.
    for number, cut in enumerate(every):
        with scratch(place / each.before) as root:
            disk.lay(root, was, cut.left)
            _check(root, known, cut, proof)
            if each.name == "line" or (each.name == "deploy" and (deep or number % _SOME == 0)):
                _again(root, each, known, cut.where, proof)
    proof.states[each.name] = len(every)


def _check(root: Path, known: kill.Ends, cut: Cut, proof: Proof) -> None:
    try:
        Machine(root).boot()
        faults = kill.judged(root, "reboot", known)
        if cut.ended and not faults:
            faults = scene.differs(scene.state(root), known.new["reboot"])
        if faults:
            proof.fault(f"{cut.where}: {', '.join(faults)}")
        _verify(root)
    except (
        *(OSError, ValueError, AssertionError, LookupError),
        *(DegradedError, RefusedError),
    ) as error:
        proof.fault(f"{cut.where}: {error!r}")


def _verify(root: Path) -> None:
    """Raises RefusedError where something of the generation that runs is lost."""
    machine = Machine(root)
    number = load_record(files.read(machine.paths.record)).generation
    if number:
        kept = generations.kept(machine.paths, number)
        machine.store.verify(machine.store.needed(kept.release))
    if link := files.leads(machine.paths.command):
        name = Path(link).name
        plain, runs = machine.store.read(name[:64]), files.read(machine.paths.store / name)
        assert (runs or b"lost") in (plain, compiled(plain)), "the program is lost"


def _again(root: Path, each: Scene, known: kill.Ends, where: str, proof: Proof) -> None:
    proof.again += 1
    try:
        each.does(Machine(root))
        if faults := scene.differs(scene.state(root), known.new["reboot"]):
            proof.fault(f"{where}, deployed again: {', '.join(faults)}")
    except (OSError, ValueError, RefusedError, UndoneError) as error:
        proof.fault(f"{where}, deployed again: {error!r}")


def _name(left: disk.Tree) -> str:
    parts = (f"{n}:{kind}:{mode}:{hashlib.sha256(data).hexdigest()}" if kind == "file" else
             f"{n}:{data!r}" for n, (kind, data, mode) in sorted(left.items()))  # fmt: skip
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def main(arguments: list[str]) -> int:
    """Prove all scenes; prints what was counted, and each fault."""
    scene.settle()
    proof = Proof(first="--first-fault" in arguments)
    with scene.workplace() as place:
        scene.furnish(place)
        try:
            for each in scene.CUT:
                prove(place, each, proof, "--deep" in arguments)
        except kill.EnoughError:
            pass
    counted: dict[str, object] = {"steps": proof.steps, "states": proof.states}
    counted |= {"deployed again": proof.again, f"steps with over {disk.MANY} names": proof.bound}
    print(json.dumps(counted | {"faults": proof.faults}, indent=1))
    return 1 if proof.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
