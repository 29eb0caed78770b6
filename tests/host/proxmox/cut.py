"""The host program, ended as by a power cut at the Nth thing that it does to the host.

    cut.py N PROGRAM ARGUMENT…

What counts is a name made, changed or removed, and another program started, before and after it.
Prints on the last line of standard error how many there were, where it comes to an end.
"""

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from typing import Any

left = int(sys.argv[1])
count = 0


def moment() -> None:
    global count
    count += 1
    if count == left:
        os._exit(99)


def cut(real: Callable[..., Any], after: bool = False) -> Callable[..., Any]:
    def run(*words: Any, **named: Any) -> Any:
        moment()
        result = real(*words, **named)
        if after:
            moment()
        return result

    return run


for name in ("rename", "unlink", "symlink", "mkdir", "link"):
    setattr(os, name, cut(getattr(os, name)))
subprocess.run = cut(subprocess.run, after=True)
sys.argv = sys.argv[2:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    print(count, file=sys.stderr)
