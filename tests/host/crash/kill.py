"""The host program killed before each of its system calls, recovered, and recovery killed too.

    python -m tests.host.crash.kill [--deep] [--first-fault] [SCENE …]

Counted from a transaction's lock on, which is its first write. An install and a rollback are
killed at every index, the other scenes before each call that changes a file; with --deep they too
at every index. What was left is recovered once for each host that differs, since recovery reads
nothing else.

Recovery is killed from one host of each class, by which names differ from the old and from the
new ones and the journal's stage, and in both ways: the guard's, and a reboot. It is stopped before
every call; where a host stands there that no kill before has left, it is killed, and recovered
again. With --deep it is killed at every index after a change, whatever was seen.

While they run, an install and a rollback are interrupted by another program of ours, which has to
find the lock held; and a file of PVE's changes under PVE's own lock only.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.host import back, files, pve_lock
from builder.host.host import DegradedError
from builder.host.paths import Paths
from tests.host.crash import scene
from tests.host.crash.machine import Machine
from tests.host.crash.record import Recorder
from tests.host.crash.scene import SCENES, Scene, scratch
from tests.host.crash.trace import CHANGING, NAMES, Child, killed, killed_after

Recover = Callable[[Machine], None]
EVERY = ("install", "rollback")
"""The scenes that are killed at every index, and that never let go of the lock."""
_CONF = re.compile(r"etc/pve/lxc/(\d+)\.conf")


def guarded(machine: Machine) -> None:
    """Recovery on the running host: the guard's."""
    back.take_back(machine.host(), "guard")


def rebooted(machine: Machine) -> None:
    """Recovery by a reboot, in its two phases."""
    machine.boot()


RECOVERIES: dict[str, Recover] = {"guard": guarded, "reboot": rebooted}


@dataclass
class Proof:
    """What was counted, and what was found."""

    kills: dict[str, int] = field(default_factory=dict)
    hosts: dict[str, int] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)
    recoveries: dict[str, int] = field(default_factory=dict)
    again: dict[str, int] = field(default_factory=dict)
    held: int = 0
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


@dataclass(frozen=True, slots=True)
class Stop:
    """A run before one of its calls; whether a file may have changed since the last one, and how
    often one has."""

    root: Path
    child: Child
    changed: bool
    changes: int


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


def stops(before: Path, body: Callable[[Machine], None]) -> Iterator[Stop]:
    """Run it on a copy of a host; it stands still before each of its calls."""
    with scratch(before) as root:
        machine = Machine(root)
        child = Child(lambda: body(machine))
        changed, changes = True, 0
        try:
            while child.next():
                yield Stop(root, child, changed, changes)
                changed = child.call().number in CHANGING
                changes += changed
            assert child.code == 0, f"ended with {child.code}"
        finally:
            child.kill()


def walk(place: Path, each: Scene, proof: Proof) -> list[str]:
    """The host at each index of a scene; looks after the locks meanwhile."""
    found: list[str] = []
    for stop in stops(place / each.before, each.does):
        if stop.changed:
            left = scene.raw(stop.root)
            if each.name in EVERY and (why := _meddled(stop.root, left, proof)):
                proof.fault(f"{each.name} before call {len(found)}: {why}")
        if path := unlocked(stop):
            proof.fault(f"{each.name} at call {len(found)}: {path} without PVE's lock")
        found.append(left)
    return found


def _meddled(root: Path, left: str, proof: Proof) -> str:
    """What another program of ours does to the host while this one is at it."""
    try:
        took = back.take_back(Machine(root).host(), "another")
    except files.BusyError:
        proof.held += 1
        took = False
    return "two at once" if took or scene.raw(root) != left else ""


def unlocked(stop: Stop) -> str:
    """The file of PVE's own that is changed now though PVE's lock is not held; "" for none."""
    call = stop.child.call()
    name = NAMES.get(call.number, "")
    if not name.startswith("rename"):
        return ""
    old, new = [*Recorder(stop.root)._paths(stop.child, call, name), "", ""][:2]
    conf, network = _CONF.fullmatch(new), new == "etc/network/interfaces"
    if "/.phoenix-new." not in old or not (conf or network):
        return ""
    lock = pve_lock.guest(conf[1]) if conf else pve_lock.NETWORK
    return "" if pve_lock.busy(Paths(stop.root).at(lock)) else new


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
    if back.take_back(machine.host(), "again") or scene.raw(root) != was:
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


class Killer:
    """Kills one scene, and its recoveries."""

    def __init__(self, place: Path, each: Scene, proof: Proof, deep: bool) -> None:
        self.place, self.scene, self.proof, self.deep = place, each, proof, deep
        self.known = ends(place, each)
        self.seen: set[tuple[str, str]] = set()
        self.classes: dict[tuple[object, ...], Path] = {}

    def run(self) -> None:
        """Kill the scene everywhere, and the recovery of one host of each class."""
        name, proof = self.scene.name, self.proof
        try:
            self._kills(walk(self.place, self.scene, proof))
            proof.classes[name] = len(self.classes)
            proof.recoveries[name] = proof.again[name] = 0
            for left in self.classes.values():
                for way in RECOVERIES:
                    self._recoveries(left, way)
        finally:
            for left in self.classes.values():
                scene.remove(left)

    def _kills(self, hosts: list[str]) -> None:
        name, proof = self.scene.name, self.proof
        every = self.deep or name in EVERY
        proof.kills[name] = 0
        for index, expected in enumerate(hosts):
            if not every and index and expected == hosts[index - 1]:
                continue
            proof.kills[name] += 1
            where = f"{name} killed before call {index}"
            with scratch(self.place / self.scene.before) as root:
                machine = Machine(root)
                assert killed(lambda: self.scene.does(machine), index)  # noqa: B023
                if (left := scene.raw(root)) not in hosts:
                    proof.fault(f"{where}: no host that stood there when it was stopped")
                if (left, "guard") not in self.seen:
                    self._classify(root)
                    self._judge(root, where, left, tuple(RECOVERIES))
        if {left for left, _ in self.seen} != {*hosts}:
            proof.fault(f"{name}: a host at which it was stopped is none that a kill has left")
        proof.hosts[name] = len(self.seen) // len(RECOVERIES)

    def _classify(self, root: Path) -> None:
        now, known = scene.state(root), self.known
        differ = (tuple(scene.differs(now, end)) for end in (known.before, known.after))
        key = (*differ, scene.stage(root))
        if key not in self.classes and key[-1]:
            self.classes[key] = self.place / f"class{len(self.classes)}"
            scene.copy(root, self.classes[key])

    def _judge(self, root: Path, where: str, left: str, ways: tuple[str, ...]) -> None:
        """Recover a killed host, in each way; nothing is half even before that."""
        known, proof = self.known, self.proof
        if "guard" in ways and (why := unguarded(root)):
            proof.fault(f"{where}: {why}")
        if half := scene.half(root, known.before, known.after):
            proof.fault(f"{where}: {', '.join(half)}")
        for way in ways[:-1]:
            with scratch(root) as again:
                recovered(again, way, known, proof, where)
        recovered(root, ways[-1], known, proof, where)
        self.seen |= {(left, way) for way in ways}

    def _recoveries(self, left: Path, way: str) -> None:
        """Kill a recovery of the host `left`."""
        # A guard's timer is gone after a reboot.
        ways = tuple(RECOVERIES) if way == "guard" else ("reboot",)
        recover, proof, name = RECOVERIES[way], self.proof, self.scene.name
        new: list[tuple[int, tuple[str, ...]]] = []
        for stop in stops(left, recover):
            proof.recoveries[name] += 1
            if stop.changed:
                found = scene.raw(stop.root)
                fresh = tuple(w for w in ways if self.deep or (found, w) not in self.seen)
                self.seen |= {(found, w) for w in fresh}
                new += [(stop.changes, fresh)] if fresh else []
            if path := unlocked(stop):
                proof.fault(f"{name} left as {left.name}, {way}: {path} without PVE's lock")
        for change, fresh in new:
            where = f"{name} left as {left.name}, {way} killed after change {change}"
            with scratch(left) as root:
                machine = Machine(root)
                assert killed_after(lambda: recover(machine), change)  # noqa: B023
                proof.again[name] += 1
                self._judge(root, where, scene.raw(root), fresh)


def recovered(root: Path, way: str, known: Ends, proof: Proof, where: str) -> None:
    """Recover a host, and judge it."""
    try:
        RECOVERIES[way](Machine(root))
        if faults := judged(root, way, known):
            proof.fault(f"{where}, then {way}: torn: {', '.join(faults)}")
    except (OSError, ValueError, DegradedError, AssertionError, LookupError) as error:
        proof.fault(f"{where}, then {way}: {error!r}")


def main(arguments: list[str]) -> int:
    """Prove all scenes, or some; prints what was counted, and each fault."""
    scene.settle()
    proof = Proof(first="--first-fault" in arguments)
    names = {each for each in arguments if not each.startswith("--")}
    with scene.workplace() as place:
        scene.furnish(place)
        try:
            for each in SCENES:
                if not names or each.name in names:
                    Killer(place, each, proof, "--deep" in arguments).run()
        except StopIteration:
            pass
    counted: dict[str, object] = {
        "kills": proof.kills,
        "hosts left": proof.hosts,
        "lock found held": proof.held,
        "classes": proof.classes,
        "indices of recovery": proof.recoveries,
        "recoveries killed": proof.again,
        "faults": proof.faults,
    }
    print(json.dumps(counted, indent=1))
    return 1 if proof.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
