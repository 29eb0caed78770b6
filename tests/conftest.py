"""Rules of every test run: `--deep`, `needs`, and that nothing is skipped without being named."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings

from tests import needs

# Nothing is judged by the clock: a busy machine makes slow drawing, and no fault.
settings.register_profile("phoenix", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("phoenix")

Report = TypeVar("Report", pytest.TestReport, pytest.CollectReport)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deep", action="store_true", help="also the tests marked deep")


def pytest_configure() -> None:
    os.environ["PATH"] = f"{os.environ.get('PATH', '')}:{needs.SBIN}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--deep"):
        deep = [item for item in items if item.get_closest_marker("deep")]
        config.hook.pytest_deselected(items=deep)
        items[:] = [item for item in items if not item.get_closest_marker("deep")]
    items[:] = _spread(items, getattr(config, "workerinput", {}).get("workercount", 1))


def _spread(items: list[pytest.Item], workers: int) -> list[pytest.Item]:
    """Each worker begins with what is long, the longest first, so that none of it is left for the
    end, and goes on with its part of the rest."""
    if workers == 1:
        return items
    together: dict[str, list[pytest.Item]] = {}
    rest = []
    for item in items:
        long = item.get_closest_marker("long")
        if long is None:
            rest.append(item)
        else:
            name = str(item.path) if long.kwargs.get("shared") else item.nodeid
            together.setdefault(name, []).append(item)
    begins: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for group in sorted(together.values(), key=_minutes, reverse=True):
        min(begins, key=_minutes).extend(group)
    found: list[pytest.Item] = []
    for number, part in enumerate(begins):
        # As xdist's worksteal gives each worker the next ones.
        share = (len(items) - len(found)) // (workers - number)
        filled = max(0, share - len(part))
        found += part + rest[:filled]
        del rest[:filled]
    return found + rest


def _minutes(items: list[pytest.Item]) -> float:
    marks = (item.get_closest_marker("long") for item in items)
    return sum(float(mark.args[0]) for mark in marks if mark)


def pytest_runtest_setup(item: pytest.Item) -> None:
    names = [name for mark in item.iter_markers("needs") for name in mark.args]
    absent = [f"{name} ({needs.missing(name)})" for name in names if needs.lacks(name)]
    if absent:
        pytest.skip("needs " + ", ".join(absent))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    return _strictly((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    return _strictly((yield))


def _strictly(report: Report) -> Report:
    """Under CI=true, what was skipped has failed."""
    if report.skipped and needs.strict() and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"under CI=true this may not be left out: {_reason(report)}"
    return report


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    """Why a report is skipped: the last part of (file, line, "Skipped: …")."""
    why = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return why.removeprefix("Skipped: ")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name what could not run, above the closing line."""
    skipped = Counter(_reason(report) for report in terminalreporter.stats.get("skipped", ()))
    if skipped:
        terminalreporter.section("could not run here")
    for reason, count in sorted(skipped.items()):
        terminalreporter.line(f"{count} test{'' if count == 1 else 's'}: {reason}")
