"""What `./invoke test` and `./invoke lint` do."""

from __future__ import annotations

import importlib.util
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence

from builder.problems import UserError
from tests import needs

# Each runs with this interpreter's `-m` in the project's folder; tests/test_lint.py runs them too.
LINT = (
    ("ruff", "check", "--quiet", "."),
    ("ruff", "format", "--check", "--quiet", "."),
    ("mypy", "--no-error-summary"),
)


def test(deep: bool, expression: str, more: str) -> int:
    """Install what the tests need, then run pytest on all cores; `more` is further options."""
    _tools("pytest", "xdist")
    needs.ensure()
    # Two more than cores: those that talk with a lab mostly wait for it.
    workers = len(os.sched_getaffinity(0)) + 2
    command = [sys.executable, "-m", "pytest", "-n", str(workers)]
    command += ["--dist", "worksteal"]
    # What takes hours is no test that hangs.
    command += ["--deep", "-o", "faulthandler_timeout=7200"] if deep else []
    command += ["-k", expression] if expression else []
    return min(abs(_ended([*command, *shlex.split(more)])), 1)


def _ended(command: Sequence[str]) -> int:
    """Run a command to its end; its exit code. ^C is its too, and it is let clean up first."""
    interrupted = False
    with subprocess.Popen(command, cwd=needs.ROOT) as child:
        while child.returncode is None:
            try:
                child.wait()
            except KeyboardInterrupt:
                interrupted = True
    if interrupted:
        raise KeyboardInterrupt
    return child.returncode


def lint() -> int:
    """Run each of LINT to its end; 1 if one of them found a fault."""
    _tools("ruff", "mypy")
    return max([min(abs(run(*command).returncode), 1) for command in LINT])


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """Run one of LINT, its words on this process's output."""
    return subprocess.run([sys.executable, "-m", *command], cwd=needs.ROOT, text=True)


def _tools(*modules: str) -> None:
    absent = [name for name in modules if importlib.util.find_spec(name) is None]
    if absent:
        raise UserError(
            f"this Python has no {' and no '.join(absent)}",
            "./invoke test    # adds to .venv what testing needs",
        )
