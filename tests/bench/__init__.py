"""`./invoke bench`: measures the speed promises, and writes docs/benchmarks.md.

Everything happens in folders of its own beside the cache of inputs, since programs are linked from
there, and is removed in the end, or by the next run where this one is killed. A missed target is
marked, and is no failure: how fast a machine is, is no fault of the code.
"""

from __future__ import annotations

import contextlib
import fcntl
import json as jsons
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from builder import cli, inputs
from builder.problems import UserError, known
from tests import needs
from tests.bench import machine, nix, report
from tests.bench.cases import FLEET, Cases
from tests.bench.figure import Figure

PAGE = needs.ROOT / "docs" / "benchmarks.md"

NIX = needs.program("nix-build", "nix-bin")
_DEPLOYS = ("root", "strace", "index")
"""What deploying to a lab needs of this machine, as tests name it."""


def run(rounds: int = 5, only: str = "", json: bool = False) -> int:
    """Measure all cases, or the one called `only`; the page is written where all ran with Nix."""
    with_nix, rounds = NIX.present(), max(rounds, 1)
    if not with_nix:
        cli.say(f"without Nix there is nothing to compare with: {NIX.mend}")
    cache = inputs.default_cache().parent
    deploys = [name for name in _DEPLOYS if needs.missing(name)]
    for name in deploys:
        cli.say(f"without a host nothing is deployed: {needs.missing(name)}")
    with _folder(cache) as place:
        about = machine.described(place)
        cases = Cases(place, rounds, with_nix, None if deploys else cache / "bench").all()
        if only and only not in cases:
            raise UserError(f"there is no case '{only}'; {known(only, cases)}")
        figures: list[Figure] = []
        for name in [only] if only else cases:
            cli.progress(f"measuring: {name}")
            for figure in cases[name]():
                figures.append(figure)
                if not json:
                    cli.progress("")
                    print(report.line(figure), flush=True)
    cli.progress("")
    if json:
        print(jsons.dumps({"machine": about, "figures": [f.as_json() for f in figures]}, indent=2))
    if with_nix and not deploys and not only:
        new = PAGE.with_suffix(".new")
        new.write_text(report.page(figures, about, FLEET))
        new.replace(PAGE)
    missed = sum(figure.missed for figure in figures)
    cli.say(f"{missed} target{'' if missed == 1 else 's'} missed" if missed else "all targets kept")
    return cli.DONE


@contextlib.contextmanager
def _folder(beside: Path) -> Iterator[Path]:
    """A folder for this run; those of runs that were killed are removed first."""
    beside.mkdir(parents=True, exist_ok=True)
    for left in beside.glob("bench-*"):
        with contextlib.suppress(BlockingIOError), _held(left):
            nix.remove(left)
    with tempfile.TemporaryDirectory(
        dir=beside, prefix="bench-", ignore_cleanup_errors=True
    ) as folder:
        place = Path(folder)
        with _held(place):
            yield place


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """The lock on a folder; BlockingIOError where a living process has it."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(number)
