"""Running a command for its time and memory, and what many runs come to."""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SPAWN = Path(__file__).with_name("spawn.py")


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds by the wall clock, and the largest memory of any of its processes, which is
    never less than the 9 MiB of what starts it."""

    seconds: float
    mebibytes: float


@dataclass(frozen=True, slots=True)
class Series:
    """Several runs of the same."""

    runs: tuple[Run, ...]

    @property
    def seconds(self) -> float:
        """The median."""
        return statistics.median(run.seconds for run in self.runs)

    @property
    def mebibytes(self) -> float:
        """The largest."""
        return max(run.mebibytes for run in self.runs)

    def __str__(self) -> str:
        every = sorted(run.seconds for run in self.runs)
        if len(every) == 1:
            return f"{_told(every[0])} (once)"
        spread = f"{_told(every[0])} – {_told(every[-1])}"
        return f"{_told(self.seconds)} ({spread}, {len(every)}×)"

    def as_json(self) -> Mapping[str, object]:
        """Median, each run's seconds, the largest memory."""
        return {
            "median": self.seconds,
            "seconds": [run.seconds for run in self.runs],
            "mebibytes": self.mebibytes,
        }


def _told(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"


def run(command: Sequence[str | Path], cwd: Path, environment: Mapping[str, str]) -> Run:
    """Run a command to its end; RuntimeError with its last words where it fails.

    Where this process is stopped meanwhile, the command ends too.
    """
    with tempfile.TemporaryFile() as words, tempfile.TemporaryFile() as told:
        spawn: list[str | Path] = [sys.executable, "-I", "-S", SPAWN, str(told.fileno())]
        starter = subprocess.Popen(
            [*spawn, *command],
            cwd=cwd,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=words,
            pass_fds=[told.fileno()],
            start_new_session=True,
        )
        try:
            failed = starter.wait() != 0
        except BaseException:
            os.killpg(starter.pid, signal.SIGKILL)
            starter.wait()
            raise
        told.seek(0)
        seconds, mebibytes, code = (0.0, 0.0, 1) if failed else json.load(told)
        if code != 0:
            words.seek(0)
            said = words.read().decode(errors="replace")[-1000:]
            raise RuntimeError(f"{' '.join(map(str, command))} failed in {cwd}:\n{said}")
    return Run(seconds, mebibytes)


def alternately(rounds: int, *sides: Callable[[], Run], turning: bool = True) -> tuple[Series, ...]:
    """Each side in turn, `rounds` times. Where `turning`, another begins each round, so that no
    side always profits from what the one before it left warm."""
    found: list[list[Run]] = [[] for _ in sides]
    for number in range(rounds):
        for step in range(len(sides)):
            at = (number * turning + step) % len(sides)
            found[at].append(sides[at]())
    return tuple(Series(tuple(runs)) for runs in found)
