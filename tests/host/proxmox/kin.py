"""What else the host program asks: `pvesm`, and of guests that are only stood in for `lxc-info` and
`lxc-attach`; and what the unit pve-guests does at boot."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time

import guests
from base import HERE, die, load, numbers, pvesm_path, quorate


def pvesm(arguments: list[str]) -> None:
    if len(arguments) != 2 or arguments[0] != "path":
        raise die("ERROR: unknown command")
    print(pvesm_path(arguments[1]))


def lxc_info(arguments: list[str]) -> None:
    if arguments[0] != "--name" or arguments[2:] != ["--pid", "--no-humanize"]:
        raise die(f"lxc-info: unknown arguments {arguments}")
    if not HERE.running(int(arguments[1])):
        raise die("")
    print(HERE.process(int(arguments[1])))


def attach(number: int, command: list[str]) -> None:
    """What a guest that is only stood in for answers: its own system runs, and nothing fails."""
    if not HERE.running(number):
        sys.exit(1)
    with (guests.STATE / "inside.log").open("a") as log:
        log.write(json.dumps([number, *command]) + "\n")
    script = guests.STATE / "inside.sh"
    if script.exists():
        os.execv("/bin/sh", ["sh", str(script), str(number), *command])
    if command[:2] == ["systemctl", "is-system-running"]:
        print("running")


def lxc_attach(arguments: list[str]) -> None:
    if arguments[0] != "--name" or arguments[2:4] != ["--clear-env", "--"]:
        raise die(f"lxc-attach: unknown arguments {arguments}")
    attach(int(arguments[1]), arguments[4:])


def pvesh(arguments: list[str]) -> None:
    """The unit pve-guests, at boot: awaits the cluster, then starts in their order those that are
    to be started (PVE::API2::Nodes, startall)."""
    if arguments != ["--nooutput", "create", "/nodes/localhost/startall"]:
        raise die("ERROR: unknown command")
    while not quorate():
        time.sleep(0.1)
    for number in sorted(numbers(), key=_order):
        if load(number).main.keys.get("onboot") == "1" and not HERE.running(number):
            subprocess.run(["pct", "start", str(number)], check=False)


def _order(number: int) -> tuple[int, int]:
    match = re.search(r"order=(\d+)", load(number).main.keys.get("startup", ""))
    return (int(match[1]) if match else 1 << 30, number)
