"""What is measured: each case is a method that yields figures, by the name that `--only` takes."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.bench import flowing, project
from tests.bench.deploying import Deploying
from tests.bench.figure import Figure, ratio
from tests.bench.measure import Series, alternately
from tests.bench.nix import Nix
from tests.bench.project import Project

FLEET = 100
GROWTH = (10, 100, 1000)


class Cases:
    """The cases, on projects that they share below `folder`; `rounds` for what is quick. Those
    that deploy keep what they install in `cache`; without it there are none."""

    def __init__(self, folder: Path, rounds: int, nix: bool, cache: Path | None = None) -> None:
        self.folder, self.rounds, self.nix = folder, rounds, nix
        self.deploying = Deploying(folder, cache, rounds, nix) if cache else None

    @cached_property
    def reference(self) -> Project:
        """The reference network, built."""
        return _warm(project.reference(self.folder / "reference"))

    @cached_property
    def fleet(self) -> Project:
        """`FLEET` hosts, built."""
        return _warm(project.fleet(self.folder / f"fleet-{FLEET}", FLEET))

    @cached_property
    def fleet_nix(self) -> Nix:
        """Nix with the artifacts of the fleet."""
        return Nix(self.folder / "fleet-nix", self.fleet.root / "dist")

    def noop(self) -> Iterator[Figure]:
        """A build of 100 hosts where nothing has changed, and a task that does nothing."""
        fleet, empty = self.fleet, project.empty(self.folder / "empty")
        fleet.build()
        before = _written(fleet.root / "dist")
        ours, idle = alternately(4 * self.rounds, fleet.build, lambda: project.idle(empty))
        assert _written(fleet.root / "dist") == before, "it was not without effect"
        what = f"no-op build of {FLEET} hosts ÷ an empty invoke task"
        yield ratio("noop", what, ours, "empty task", idle, 1.10)

    def cold(self) -> Iterator[Figure]:
        """The reference into an empty dist/, and Nix into an empty store."""
        reference = self.reference
        if not self.nix:
            yield _alone("cold", "cold build of the reference", self.rounds, reference)
            return
        nix = Nix(self.folder / "reference-nix", reference.root / "dist")
        sides = (reference.cold, lambda: nix.cold("linked"), lambda: nix.cold("whole"))
        ours, linked, whole = alternately(2 * self.rounds, *sides)
        nix.remove()
        what = "cold build of the reference ÷ Nix"
        yield ratio("cold", f"{what}, linked", ours, "Nix, linked", linked, 2.8)
        yield ratio("cold", f"{what}, whole", ours, "Nix, whole", whole, None)

    def fleet_cold(self) -> Iterator[Figure]:
        """100 hosts into an empty dist/: once for Nix, which takes long."""
        fleet, what = self.fleet, f"cold build of {FLEET} hosts"
        (ours,) = alternately((self.rounds + 1) // 2, fleet.cold)
        if self.nix:
            nix = self.fleet_nix
            whole, linked = alternately(1, lambda: nix.cold("whole"), lambda: nix.cold("linked"))
        # Before and after Nix, so that neither side has the quieter half of the time.
        ours = Series(ours.runs + alternately(self.rounds // 2, fleet.cold)[0].runs)
        yield Figure("fleet", f"{what}: memory", ours.mebibytes, "MiB", 64, {"ours": ours})
        if self.nix:
            yield ratio("fleet", f"{what} ÷ Nix, linked", ours, "Nix, linked", linked, 0.15)
            yield ratio("fleet", f"{what} ÷ Nix, whole", ours, "Nix, whole", whole, None)

    def change(self) -> Iterator[Figure]:
        """One line in one of 100 hosts, then a build of all; Nix gets what came of it."""
        fleet, host, number = self.fleet, f"edge{FLEET // 2}", iter(range(5, 1000))
        fleet.build()

        def ours() -> Any:
            fleet.change(f"hosts/{host}.yaml", r"memory: \d+GiB", f"memory: {next(number)}GiB")
            return fleet.build()

        what = f"one line in one of {FLEET} hosts"
        if not self.nix:
            (alone,) = alternately(self.rounds, ours)
            yield Figure("change", what, alone.seconds, "s", None, {"ours": alone})
            return
        nix = self.fleet_nix
        if not nix.begun():
            nix.cold("linked")
        nix.build("linked")
        nix.build("whole")

        def linked() -> Any:
            nix.take([host])
            return nix.build("linked")

        # In this order: Nix gets what ours has made.
        sides = (ours, linked, lambda: nix.build("whole"))
        series = alternately(self.rounds, *sides, turning=False)
        yield ratio("change", f"{what} ÷ Nix, linked", series[0], "Nix, linked", series[1], 1.1)
        yield ratio("change", f"{what} ÷ Nix, whole", series[0], "Nix, whole", series[2], None)

    def growth(self) -> Iterator[Figure]:
        """Cold builds of 10, 100 and 1000 hosts."""
        found: dict[int, Series] = {}
        for count in GROWTH:
            grown = project.fleet(self.folder / f"growth-{count}", count)
            rounds = self.rounds if count < GROWTH[-1] else 1
            (found[count],) = alternately(rounds, grown.cold)
            shutil.rmtree(grown.root)
        per_host = {count: series.seconds / count for count, series in found.items()}
        _, middle, last = GROWTH
        series = {f"{count} hosts": found[count] for count in GROWTH}
        what = f"time for each host, of {last} ÷ of {middle}"
        yield Figure("growth", what, per_host[last] / per_host[middle], "×", 1.25, series)
        exponent = math.log(found[last].seconds / found[middle].seconds) / math.log(last / middle)
        yield Figure("growth", f"n in time ~ hostsⁿ, from {middle} to {last}", exponent, "")
        memory = (found[last].mebibytes - found[middle].mebibytes) / (last - middle)
        yield Figure("growth", "memory that each further host takes", memory * 1024, "KiB")

    def program(self) -> Iterator[Figure]:
        """A line that changes the configuration beside the largest program."""
        reference = self.reference
        reference.build()
        before = _written(reference.root / "dist")
        largest = max(before.values()) / 1e6
        reference.change("site.yaml", r"health: \{path: /health\}", "health: {path: /healthy}")
        reference.build()
        after = _written(reference.root / "dist")
        new = sum(size for file, size in after.items() if file not in before)
        what = f"written into dist/ for one line beside a program of {largest:.0f} MB"
        yield Figure("program", what, new / 1024, "KiB")

    def requests(self) -> Iterator[Figure]:
        """Requests through a deployed network, and through the same chain made by hand."""
        yield from flowing.requests(self.rounds)

    def phases(self) -> Iterator[Figure]:
        """Where the time of a cold build of the reference goes, by its phases."""
        script = Path(__file__).with_name("phases.py")
        command = [sys.executable, str(script), *self.reference.hosts]
        root, found = self.reference.root, dict[str, list[float]]()
        for _ in range(self.rounds):
            shutil.rmtree(root / "dist")
            environment = project.environment(root / "home")
            done = subprocess.run(
                command, cwd=root, env=environment, stdout=subprocess.PIPE, check=True
            )
            for name, seconds in json.loads(done.stdout).items():
                found.setdefault(name, []).append(seconds)
        for name, seconds in found.items():
            middle = sorted(seconds)[len(seconds) // 2]
            yield Figure("phases", name, middle * 1000, "ms")

    def all(self) -> Mapping[str, Callable[[], Iterator[Figure]]]:
        """The cases by name, in the order in which they are measured and told."""
        more = self.deploying
        deploys = (
            {"deploy": more.deploy, "install": more.install, "requests": self.requests}
            if more
            else {}
        )
        return {
            "noop": self.noop,
            "cold": self.cold,
            "fleet": self.fleet_cold,
            "change": self.change,
            "growth": self.growth,
            "program": self.program,
            **deploys,
            "phases": self.phases,
        }


def _alone(case: str, what: str, rounds: int, measured: Project) -> Figure:
    (ours,) = alternately(rounds, measured.cold)
    return Figure(case, what, ours.seconds, "s", None, {"ours": ours})


def _warm(measured: Project) -> Project:
    """Built once, so that inputs are cached, as they are for anyone's second build."""
    measured.build()
    return measured


def _written(folder: Path) -> dict[tuple[Path, int, int], int]:
    """The size of each file, by what tells whether it was written anew: an inode's number alone
    does not, since it is given out again."""
    found = ((path, path.lstat()) for path in folder.rglob("*") if path.is_file())
    return {(path, at.st_ino, at.st_mtime_ns): at.st_size for path, at in found}
