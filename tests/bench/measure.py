"""Running a command for its time and memory, and what many runs come to."""

from __future__ import annotations

import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One run: seconds by the wall clock, and the largest memory of any of its processes.

    Of memory it is an upper bound: Linux counts in what the one who started it had itself.
    """

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
    with tempfile.TemporaryFile() as words:
        began = time.perf_counter()
        child = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=words
        )
        try:
            _, status, used = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        seconds = time.perf_counter() - began
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            words.seek(0)
            said = words.read().decode(errors="replace")[-1000:]
            raise RuntimeError(f"{' '.join(map(str, command))} failed in {cwd}:\n{said}")
    return Run(seconds, used.ru_maxrss / 1024)


def alternately(rounds: int, *sides: Callable[[], Run], turning: bool = True) -> tuple[Series, ...]:
    """Each side in turn, `rounds` times. Where `turning`, another begins each round, so that no
    side always profits from what the one before it left warm."""
    found: list[list[Run]] = [[] for _ in sides]
    for number in range(rounds):
        for step in range(len(sides)):
            at = (number * turning + step) % len(sides)
            found[at].append(sides[at]())
    return tuple(Series(tuple(runs)) for runs in found)
