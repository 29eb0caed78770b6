"""`./invoke` for a test's lab: the commands that speak with hosts, as a program of its own.

    python -m tests.integration.invoked NAME SHAPE NETWORK COMMAND '{"option": …}'

What `builder.commands` does for the labs that it knows by name, for one with a name of its own;
SHAPE may also be the Proxmox node's.
`BROKEN` in the environment makes the host program of what is built another one: a list of module,
words in it, and what stands there instead; `altered.ALTERED` alters the files that are built.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from builder import build, cli, keys, program
from builder.deploy import front, manage, ssh
from builder.deploy.deploy import Order
from builder.deploy.front import Ground
from builder.lab.shape import ROUTED, Lab
from builder.lab.state import State
from tests.integration import altered
from tests.integration.pve.shape import PVE, Pve

BROKEN = "PHOENIX_TEST_BROKEN"


def broken(changes: str) -> bytes:
    """The host program with these changes in it."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "host")
        shutil.copytree(Path(program.__file__).with_name("host"), copy)
        for module, old, new in json.loads(changes):
            text = (copy / module).read_text(encoding="utf-8")
            assert old in text, f"{module} says no more: {old}"
            (copy / module).write_text(text.replace(old, new), encoding="utf-8")
        return program.host_program(copy)


def ground(state: State) -> Ground:
    """The lab's own project, memory, keys and ssh."""
    named = {**os.environ, keys.VARIABLE: str(state.signing_key)}

    def built() -> None:
        if changes := os.environ.get(BROKEN):
            made = broken(changes)
            vars(build)["host_program"] = lambda: made
        if changes := os.environ.get(altered.ALTERED):
            altered.alter(changes)
        build.build(state.project, [state.lab.called], keys.find(named), cli.progress)

    reach = (*ssh.chosen(), "-F", str(state.ssh_config))
    return Ground(state.project, state.folder / "deploy", reach, built)


def run(state: State, command: str, options: dict[str, Any]) -> int:
    """One command; its exit code. What came of it is one JSON object on standard output."""
    host, at = state.lab.called, str(options.pop("at", ""))

    def there(_: str) -> Ground:
        return ground(state)

    if command in ("deploy", "plan"):
        affects = frozenset(options.pop("affects", ()))
        order = Order(at=at, affects=affects, only_plan=command == "plan", **options)
        return front.put(there, [host], order, True, True)
    acts = {
        **front.LOOKS,
        "rollback": manage.rollback(options.get("to")),
        "repair": manage.repair,
        "gc": manage.gc(options.get("keep", 10)),
        "remove": manage.remove,
    }
    return front.manage_each(there, [host], acts[command], at, True, True)


def main(name: str, shape: str, network: str, command: str, options: str) -> None:
    """As `./invoke COMMAND --host NAME --yes --json`."""
    kind = Pve if shape == PVE else Lab
    state = State.of(kind(name, ROUTED if shape == PVE else shape, IPv4Network(network)))
    cli.run(lambda: run(state, command, json.loads(options)), json=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
