"""`./invoke` for a test's Proxmox node: the commands that speak with hosts, as a program.

    python -m tests.integration.pve.invoked NAME NETWORK COMMAND '{"option": …}'

As `./invoke COMMAND --host pve1 --yes --json`, for a project and a host that no `./invoke` knows.
"""

from __future__ import annotations

import json
import os
import sys
from ipaddress import IPv4Network
from typing import Any

from builder import build, cli, keys
from builder.deploy import front, manage, ssh
from builder.deploy.deploy import Order
from builder.deploy.front import Ground
from builder.lab.shape import ROUTED
from builder.lab.state import State
from tests.integration.pve.shape import NODE, Pve


def ground(state: State) -> Ground:
    """The node's own project, memory, keys and ssh."""
    named = {**os.environ, keys.VARIABLE: str(state.signing_key)}

    def built() -> None:
        build.build(state.project, [NODE], keys.find(named), cli.progress)

    reach = (*ssh.chosen(), "-F", str(state.ssh_config))
    return Ground(state.project, state.folder / "deploy", reach, built)


def run(state: State, command: str, options: dict[str, Any]) -> int:
    """One command; its exit code. What came of it is one JSON object on standard output."""

    def there(_: str) -> Ground:
        return ground(state)

    if command in ("deploy", "plan"):
        affects = frozenset(options.pop("affects", ()))
        order = Order(affects=affects, only_plan=command == "plan", **options)
        return front.put(there, [NODE], order, True, True)
    acts = {
        **front.LOOKS,
        "rollback": manage.rollback(options.get("to")),
        "repair": manage.repair,
        "remove": manage.remove,
    }
    return front.manage_each(there, [NODE], acts[command], "", True, True)


def main(name: str, network: str, command: str, options: str) -> None:
    """Run the command, and end as it does."""
    state = State.of(Pve(name, ROUTED, IPv4Network(network)))
    cli.run(lambda: run(state, command, json.loads(options)), json=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
