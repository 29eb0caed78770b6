"""The host program killed before each of its system calls, recovered, and recovery killed too.

    python -m tests.host.crash.kill [--deep] [--first-fault] [locks] [SCENE …]

Counted from a transaction's lock on, which is its first write. An install and a rollback are
killed at every index, the other scenes before each call that changes a file; with --deep they too
at every index. What was left is recovered once for each host that differs, since recovery reads
nothing else.

Recovery is stopped before each of its calls, from one host of each class, by which names differ
from the old and from the new ones and the journal's stage, and in both ways: the guard's, and a
reboot; that is of an install and a rollback, and with --deep of every scene. The host that stands
there is what a kill there leaves, as those of the scenes show; where nothing before has left the
same, its copy is recovered again. With --deep recovery is killed there for good, after each change
and whatever was seen.

While they run, an install and a rollback are interrupted by another program of ours, which has to
find the lock held; and a file of PVE's changes under PVE's own lock only.
"""

from __future__ import annotations

import json
import random
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
from tests.host.crash.locked import LOCKED
from tests.host.crash.machine import Machine
from tests.host.crash.record import Recorder
from tests.host.crash.scene import SCENES, Scene, scratch
from tests.host.crash.trace import CHANGING, NAMES, Child, killed

Recover = Callable[[Machine], None]
EVERY = ("install", "rollback")
"""The scenes that are killed at every index, and that never let go of the lock."""
_CONF = re.compile(r"etc/pve/lxc/(\d+)\.conf")


def rebooted(machine: Machine) -> None:
    """Recovery by a reboot, in its two phases."""
    machine.boot()


RECOVERIES: dict[str, Recover] = {"guard": scene.guarded, "reboot": rebooted}


class EnoughError(Exception):
    """A fault was found, and no more is asked for."""


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
            raise EnoughError


@dataclass
class Ends:
    """What a scene's host is to be in the end: by way of recovery, the old and the new state."""

    old: dict[str, dict[str, Any]] = field(default_factory=dict)
    new: dict[str, dict[str, Any]] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stop:
    """A run before one of its calls: how many before it have changed a file, and how many others
    were made since the last of those."""

    root: Path
    child: Child
    changes: int
    calls: int


def ends(place: Path, each: Scene) -> Ends:
    """The old and the new host of a scene, as they are and after a reboot."""
    found = Ends()
    # Until its journal is there again, what `undone` takes back is wholly new.
    does = SCENES[0].does if each.name == "undone" else each.does
    with scratch(place / each.before) as root:
        machine = Machine(root)
        found.before = found.old["guard"] = scene.state(root)
        does(machine)
        found.after = found.new["guard"] = scene.state(root)
        machine.boot()
        found.new["reboot"] = scene.state(root)
    with scratch(place / each.before) as root:
        Machine(root).boot()
        found.old["reboot"] = scene.state(root)
    if each.name == "undone":
        with scratch(place / each.before) as root:
            each.does(Machine(root))
            assert not scene.differs(scene.state(root), found.before)
    return found


def stops(before: Path, body: Callable[[Machine], None]) -> Iterator[Stop]:
    """Run it on a copy of a host; it stands still before each of its calls."""
    with scratch(before) as root:
        machine = Machine(root)
        child = Child(lambda: body(machine))
        changes = calls = 0
        try:
            while child.next():
                yield Stop(root, child, changes, calls)
                changed = child.call().number in CHANGING
                changes, calls = (changes + 1, 0) if changed else (changes, calls + 1)
            assert child.code == 0, f"ended with {child.code}"
        finally:
            child.kill()


@dataclass(frozen=True, slots=True)
class Index:
    """Where a scene is killed, and the host that is left there."""

    changes: int
    calls: int
    left: str


def walk(place: Path, each: Scene, proof: Proof) -> Iterator[Index]:
    """Every index of a scene; looks after the locks meanwhile."""
    left = ""
    for stop in stops(place / each.before, each.does):
        where = f"{each.name} before call {stop.child.index}"
        if not stop.calls:
            left = scene.raw(stop.root)
            if each.name in EVERY and (why := _meddled(stop.root, left, proof)):
                proof.fault(f"{where}: {why}")
        if path := unlocked(stop):
            proof.fault(f"{where}: changes {path} without PVE's lock")
        yield Index(stop.changes, stop.calls, left)


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


def locks(place: Path, proof: Proof) -> None:
    """Whoever changes the host takes the lock, and PVE's own for its files."""
    for each in LOCKED:
        with scratch(place / each.before) as root:
            machine, was = Machine(root), scene.raw(root)
            try:
                with files.locked(machine.paths.lock, "one"):
                    each.does(machine)
            except files.BusyError:
                proof.held += 1
                was = "" if scene.raw(root) == was else "changed something all the same"
            else:
                was = "went on though another held the lock"
            if was:
                proof.fault(f"{each.name}: {was}")
    for each in SCENES:
        for _ in walk(place, each, proof):
            pass
    for stop in stops(place / "open", scene.guarded):
        if path := unlocked(stop):
            proof.fault(f"guard: changes {path} without PVE's lock")


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
            self.kills()
            proof.classes[name] = len(self.classes)
            proof.recoveries[name] = proof.again[name] = 0
            for left in self.classes.values() if self.deep or name in EVERY else ():
                for way in RECOVERIES:
                    self._recoveries(left, way)
        finally:
            for left in self.classes.values():
                scene.remove(left)

    def kills(self) -> None:
        """Kill the scene everywhere."""
        name, proof = self.scene.name, self.proof
        every = list(walk(self.place, self.scene, proof))
        hosts = {index.left for index in every}
        some = [(at, index) for at, index in enumerate(every)
                if not index.calls or self.deep or name in EVERY]  # fmt: skip
        if proof.first:
            random.Random(1).shuffle(some)  # Whatever is wrong, is soon seen.
        proof.kills[name] = 0
        for at, index in some:
            proof.kills[name] += 1
            where = f"{name} killed before call {at}"
            with scratch(self.place / self.scene.before) as root:
                machine = Machine(root)
                assert killed(lambda: self.scene.does(machine), index.changes, index.calls)  # noqa: B023
                left = scene.raw(root)
                if left != index.left:
                    proof.fault(f"{where}: is another host than that at which it was stopped")
                if (left, "guard") not in self.seen:
                    self._classify(root)
                    self._judge(root, where, left, tuple(RECOVERIES))
        if {left for left, _ in self.seen} != hosts:
            proof.fault(f"{name}: a host at which it was stopped is none that a kill has left")
        proof.hosts[name] = len(hosts)

    def _classify(self, root: Path) -> None:
        now, known = scene.state(root), self.known
        differ = (tuple(scene.differs(now, end)) for end in (known.before, known.after))
        key = (*differ, scene.stage(root))
        if key not in self.classes and key[-1]:
            self.classes[key] = self.place / f"class-{self.scene.name}-{len(self.classes)}"
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
        proof, name, deaths = self.proof, self.scene.name, list[int]()
        for stop in stops(left, RECOVERIES[way]):
            proof.recoveries[name] += 1
            where = f"{name} left as {left.name}, {way} killed before call {stop.child.index}"
            if path := unlocked(stop):
                proof.fault(f"{where}: changes {path} without PVE's lock")
            if stop.calls:
                continue
            found = scene.raw(stop.root)
            if self.deep:
                deaths.append(stop.changes)
            elif fresh := tuple(w for w in ways if (found, w) not in self.seen):
                proof.again[name] += 1
                with scratch(stop.root) as root:
                    self._judge(root, where, found, fresh)
        for changes in deaths:
            with scratch(left) as root:
                machine = Machine(root)
                assert killed(lambda: RECOVERIES[way](machine), changes, 0)  # noqa: B023
                proof.again[name] += 1
                where = f"{name} left as {left.name}, {way} killed after change {changes}"
                self._judge(root, where, scene.raw(root), ways)


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
            if not names or "locks" in names:
                locks(place, proof)
            for each in SCENES:
                if not names or each.name in names:
                    Killer(place, each, proof, "--deep" in arguments).run()
        except EnoughError:
            pass
    counted: dict[str, object] = {
        "kills": proof.kills,
        "hosts left": proof.hosts,
        "lock found held": proof.held,
        "classes": proof.classes,
        "indices of recovery": proof.recoveries,
        "recoveries recovered": proof.again,
        "faults": proof.faults,
    }
    print(json.dumps(counted, indent=1))
    return 1 if proof.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
