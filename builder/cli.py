"""The one place that turns what happened into words for a person and an exit code for a program.

| code | meaning |
|---|---|
| 0 | done |
| 1 | the user's error: problems in the configuration, something missing, usage |
| 2 | refused against a host |
| 3 | a bug: the traceback is kept in a file, whose path is printed |
| 4 | rolled back |
| 5 | a host out of reach with its guard armed |
| 130 | interrupted |
| 141 | the reader of our output went away |

Results go to standard output; progress and problems to standard error.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from builder.problems import Problem

DONE, USER, REFUSED, BUG, ROLLED_BACK, UNREACHABLE = range(6)
INTERRUPTED = 130
BROKEN_PIPE = 141

BOLD, RED = "1", "31"

# What the operating system refuses for a reason that a person mends; the rest is our bug.
_MENDABLE = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO}


def run(function: Callable[[], int | None], *, json: bool = False) -> None:
    """Call `function`; return if it ended well, else leave the program with its exit code.

    With `json`, problems are one object on standard output: `{"problems": […]}`, or
    `{"error": {"message", "hint"}}` for what no place in the configuration stands for.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the encoding of a terminal lacks is no reason to fail.
        sys.stdout.reconfigure(errors="backslashreplace")
    code = exit_code(function, json=json)
    if code != DONE:
        raise SystemExit(code)


def exit_code(function: Callable[[], int | None], *, json: bool = False) -> int:
    """Call `function`, report what it raised, and return the exit code."""
    try:
        code = function() or DONE
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return _swallow_output()
    except Exception as error:
        return _tell(error, json)
    finally:
        progress("")


def say(text: str) -> None:
    """Print lines for a person on standard error, above a live progress line if there is one."""
    progress("")
    print(text, file=sys.stderr, flush=True)


def emit(value: object) -> None:
    """Print `value` as one JSON object on standard output."""
    print(dumped(value))


def dumped(value: object) -> str:
    """`value` as a command with --json prints it."""
    import json

    return json.dumps(value, indent=2, sort_keys=True)


def style(text: str, code: str, stream: TextIO | None = None) -> str:
    """`text` in an ANSI style if `stream` (standard error) is a terminal that wants colour."""
    stream = stream or sys.stderr
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


_shown = ""


def progress(text: str) -> None:
    """Show what is being done now; "" ends it.

    A terminal has one live line that the next text replaces; elsewhere each text is a line of its
    own, once.
    """
    global _shown
    if text == _shown:
        return
    last, _shown = _shown, text
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[K{text[:width]}")
        sys.stderr.flush()
    elif text and text != last:
        print(text, file=sys.stderr, flush=True)


def _tell(error: Exception, json: bool) -> int:
    # Imported late: a command that ends well has nothing to tell of.
    from builder.problems import ConfigError, UserError

    if isinstance(error, ConfigError):
        return _tell_problems(error.problems, json)
    if isinstance(error, UserError):
        return _tell_user(error.message, error.hint, json)
    if isinstance(error, OSError) and error.errno in _MENDABLE:
        return _tell_user(_os_message(error), "", json)
    return _tell_bug(error)


def _tell_problems(problems: tuple[Problem, ...], json: bool) -> int:
    if json:
        emit({"problems": [problem.as_json() for problem in problems]})
        return USER
    for problem in problems:
        say(_paint(problem))
    count = len(problems)
    say(style(f"{count} problem{'' if count == 1 else 's'}", RED))
    return USER


def _paint(problem: Problem) -> str:
    """The problem as `render` writes it: headline bold, caret red."""
    headline, *rest = problem.render().split("\n")
    if rest:
        rest[-1] = style(rest[-1], RED)
    return "\n".join([style(headline, BOLD), *rest])


def _tell_user(message: str, hint: str, json: bool) -> int:
    from builder.problems import visible

    if json:
        emit({"error": {"message": message, "hint": hint}})
        return USER
    say(f"{style('error:', RED)} {visible(message)}")
    if hint:
        say(f"  {visible(hint)}")
    return USER


def _os_message(error: OSError) -> str:
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _swallow_output() -> int:
    """Standard output has no reader: send what Python still flushes at exit nowhere."""
    with contextlib.suppress(OSError, ValueError):  # under a test there may be no file below
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE


def _tell_bug(error: Exception) -> int:
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    try:
        handle, path = tempfile.mkstemp(prefix="phoenix-bug-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        say(text)
        path = ""
    summary = "".join(traceback.format_exception_only(error)).strip()
    say(f"{style('a bug of ours:', RED)} {summary}")
    if path:
        say(f"  the traceback is in {path}; please report it")
    return BUG
