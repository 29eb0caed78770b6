"""Running the machine's own clients: quiet, watched, and never left behind."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

TICK = 5.0
"""Seconds between two words of progress."""


class RefusalError(Exception):
    """A source does not give what was asked; the text is its answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a client ended: exit code and what it wrote."""

    code: int
    out: str
    err: str

    def gist(self) -> str:
        """What it complained of, in one line."""
        lines = [line.strip() for line in f"{self.out}\n{self.err}".splitlines() if line.strip()]
        marked = [line for line in lines if line.startswith(("E:", "ERROR:", "go: ", '"Error":'))]
        said = (marked or lines or [f"exit code {self.code}"])[-1]
        return re.sub(r'^(E|ERROR|go|"Error"): *', "", said)


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    tick: Callable[[], None] | None = None,
) -> Answer:
    """Run a client in `cwd` and wait for it; `env` replaces the environment.

    `tick` is called every few seconds. However this is left, by an interrupt or by being
    killed, the client ends too. Raises RefusalError where the program is missing.
    """
    place = shutil.which(argv[0])
    if place is None:
        raise RefusalError(f"{argv[0]} is missing on this machine")
    ours = dict(os.environ if env is None else env) | {"LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = subprocess.Popen(
            [*_leash(), place, *argv[1:]],
            cwd=cwd,
            env=ours,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            _wait(child, tick)
        finally:
            # Its group is what it has started, too.
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        out.seek(0)
        err.seek(0)
        texts = [stream.read().decode("utf-8", "replace") for stream in (out, err)]
    return Answer(child.returncode, *texts)


def _leash() -> list[str]:
    # Without it a client outlives a builder that is killed, and goes on loading for nobody.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _wait(child: subprocess.Popen[bytes], tick: Callable[[], None] | None) -> None:
    while True:
        try:
            child.wait(timeout=TICK)
            return
        except subprocess.TimeoutExpired:
            if tick is not None:
                tick()


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 lower-case hex digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mebibytes(folder: Path) -> str:
    """How much lies below `folder` by now, for progress."""
    total = 0
    for path in folder.rglob("*"):
        # Files come and go under a running client.
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return f"{total / (1 << 20):.0f} MiB"
