"""A shell script that is killed at one of the programs that it calls: before the call, or after."""

from __future__ import annotations

from collections.abc import Iterable

from tests.judges.namespace import Result
from tests.kinds.units.machine import Machine

STEPS = "/tmp/steps"
# Stands before a program of its own name. What it reads is in /tmp: how many calls there were, at
# which one the script dies, whether "before" or "after" it, and the script's process.
PROGRAM = """#!/bin/sh
read -r count </tmp/count
read -r fatal </tmp/fatal
read -r how </tmp/how
read -r script </tmp/script
count=$((count + 1))
echo "$count" >/tmp/count
if [ "$count" = "$fatal" ]; then
    [ "$how" = before ] || /usr/bin/${0##*/} "$@"
    kill -KILL "$script"
    exit 1
fi
exec /usr/bin/${0##*/} "$@"
"""


def install(guest: Machine, programs: Iterable[str]) -> None:
    for program in programs:
        guest.write(f"{STEPS}/{program}", PROGRAM)
    guest.shell(f"chmod 755 {STEPS}/*")


def run(guest: Machine, fatal: int, how: str, script: str, path: str) -> Result:
    """Run a script, which dies at its call number `fatal`, if it comes so far."""
    told = f"echo 0 >count; echo {fatal} >fatal; echo {how} >how; echo $$ >script"
    return guest.run("sh", "-c", f"cd /tmp; {told}; PATH={STEPS}:{path} exec {script}")
