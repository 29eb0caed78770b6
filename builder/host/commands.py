"""Other programs, run with a time limit and a clean environment."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import IO

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class FailedError(Exception):
    """A program failed, was not there, or took too long; the text says which and its last words."""


def run(
    *command: str,
    given: IO[bytes] | int = subprocess.DEVNULL,
    limit: float = 60,
    legal: Sequence[int] = (0,),
) -> str:
    """A program's standard output; raises FailedError unless it exits with one of `legal`."""
    return status(*command, given=given, limit=limit, legal=legal)[1]


def status(
    *command: str,
    given: IO[bytes] | int = subprocess.DEVNULL,
    limit: float = 60,
    legal: Sequence[int] | None = None,
) -> tuple[int, str]:
    """A program's exit code and standard output; raises FailedError for a code not in `legal`.

    `limit` is in seconds.
    """
    try:
        done = subprocess.run(
            command,
            stdin=given,
            capture_output=True,
            timeout=limit,
            check=False,
            env={"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"},
        )
    except FileNotFoundError:
        raise FailedError(f"{command[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise FailedError(f"{' '.join(command)}: not done after {limit:g} s") from None
    if legal is not None and done.returncode not in legal:
        words = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        raise FailedError(f"{' '.join(command)}: exit {done.returncode}: {words[-500:]}")
    return done.returncode, done.stdout.decode("utf-8", "replace")


def told(*command: str, limit: float = 60) -> str:
    """All that a program says, on both of its streams, however it ends."""
    return status("sh", "-c", 'exec "$@" 2>&1', "sh", *command, limit=limit)[1]
