"""The bench's own arithmetic, and that what it measures is a valid configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from builder.load import load
from tests.bench import project, report
from tests.bench.cases import Figure
from tests.bench.measure import Run, Series, alternately, run


def test_sides_take_turns_and_another_begins_each_round() -> None:
    calls: list[str] = []

    def side(name: str, seconds: float) -> Run:
        calls.append(name)
        return Run(seconds * len(calls), 1)

    one, other = alternately(3, lambda: side("a", 1), lambda: side("b", 10))
    assert "".join(calls) == "abbaab"
    assert [r.seconds for r in one.runs] == [1, 4, 5]
    assert (one.seconds, other.seconds) == (4, 30)
    alternately(2, lambda: side("c", 1), lambda: side("d", 1), turning=False)
    assert "".join(calls[6:]) == "cdcd"


def test_a_run_is_timed_and_a_failed_one_is_told(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", "import time; time.sleep(0.2)"], tmp_path, {})
    assert 0.2 < done.seconds < 30
    big = run([sys.executable, "-c", "x = bytearray(900 << 20)"], tmp_path, {})
    assert done.mebibytes < 900 < big.mebibytes < 1000
    with pytest.raises(RuntimeError, match="no such luck"):
        run([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path, {})


@pytest.mark.parametrize(("value", "verdict"), [(1.11, "**MISSED**"), (1.1, "kept")])
def test_a_missed_target_is_marked(value: float, verdict: str) -> None:
    series = Series((Run(0.1, 20), Run(0.3, 22), Run(0.2, 21)))
    figure = Figure("noop", "no-op ÷ empty", value, "×", 1.1, {"ours": series})
    phase = Figure("phases", "import x", 12, "ms")
    page = report.page([figure, phase], {"CPU": "fast"}, 100)
    assert f"| no-op ÷ empty | {value:.2f} × | 1.10 × | {verdict} |" in page
    assert "| noop | ours | 200 ms (100 ms – 300 ms, 3×) | 22 MiB |" in page
    assert "| import x | 12 | 100 |" in page
    assert verdict.strip("*") in report.line(figure)


def test_hosts_of_a_fleet_are_valid_and_each_another(tmp_path: Path) -> None:
    fleet = project.fleet(tmp_path / "fleet", 252)
    config = load(fleet.root)
    assert len(config.hosts) == 252
    for addresses in (
        {host.reach for host in config.hosts},
        {guest.interfaces[0].address for host in config.hosts for guest in host.guests[:1]},
    ):
        assert len(addresses) == 252
