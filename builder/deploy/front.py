"""The commands that speak with hosts: arguments in, an exit code out, and what is printed.

Hosts are taken one after the other; the first that does not end well is the last.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

from builder import cli
from builder.dist import Dist
from builder.manifest import Release
from builder.problems import UserError
from builder.program import host_program

from . import deploy, held, manage, memory, references
from .client import Plain
from .deploy import Order
from .manage import Act
from .memory import Memory
from .ssh import Ssh


@dataclasses.dataclass(frozen=True, slots=True)
class Ground:
    """Where a host's project, its memory (None: the user's folder for it) and its ssh are; `build`
    builds its release if it is stale."""

    root: Path
    state: Path | None
    ssh: tuple[str, ...]
    build: Callable[[], object]

    def memory(self, site: str, host: str) -> Memory:
        """What is remembered of the host."""
        return Memory(self.state, site, host) if self.state else memory.of(site, host)

    def connect(self, release: Release, known: Memory, asks: bool) -> Ssh:
        """What connects to the host."""
        own = release.program
        program = Dist(self.root / "dist").read(own) if own else host_program()
        return Ssh(known, program, asks, references.variables(release.secrets), self.ssh)


Grounds = Callable[[str], Ground]
LOOKS: Mapping[str, Act] = {
    "generations": manage.generations,
    "status": manage.status,
    "verify": manage.verify,
}
"""The commands that change nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Asking:
    """Asks on the terminal; with `yes` the answer is known."""

    yes: bool

    def __call__(self, question: str) -> bool:
        if self.yes:
            return True
        if not sys.stdin.isatty():
            raise UserError(f"nobody is here to ask: {question}", "add --yes")
        cli.progress("")
        print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")


def put(grounds: Grounds, hosts: Iterable[str], order: Order, yes: bool, json: bool) -> int:
    """Deploy, or plan, the newest release of each host; built anew where it is stale."""
    told: dict[str, Plain] = {}
    code = cli.DONE
    for host in hosts:
        ground = grounds(host)
        ground.build()
        ready = held.ready(ground.root, host)
        remembered = ground.memory(ready.release.site, host)
        ssh = ground.connect(ready.release, remembered, sys.stdin.isatty() and not yes)
        show = print if order.only_plan and not json else cli.say
        deployer = deploy.Deployer(order, ready, ssh, remembered, Asking(yes), deploy.who(), show)
        outcome = deployer.run()
        told[host], code = outcome.as_json(), outcome.verdict.code
        _say(json, order.only_plan, manage.sentence(host, outcome.verdict), code)
        if code != cli.DONE:
            break
    if json:
        cli.emit({"hosts": told})
    return code


def manage_each(
    grounds: Grounds, hosts: Iterable[str], act: Act, at: str, yes: bool, json: bool
) -> int:
    """One of the other commands, on each host."""
    told: dict[str, Plain] = {}
    code = cli.DONE
    for host in hosts:
        ground = grounds(host)
        release = manage.declared(ground.root, host)
        if release is None:
            raise UserError(
                f"host '{host}' has no release in dist/", f"./invoke build --host {host}"
            )
        remembered = ground.memory(release.site, host)
        ssh = ground.connect(release, remembered, sys.stdin.isatty())
        there = memory.reached(remembered, at, release)
        manager = manage.Manager(host, there, ssh, remembered, Asking(yes), deploy.who())
        verdict, found = manager.do(act)
        code = verdict.code
        facts = {"result": verdict.result, "generation": verdict.generation, "why": verdict.why}
        told[host] = {**found, **facts}
        if not json:
            stream = sys.stdout if code == cli.DONE else sys.stderr
            cli.progress("")
            print("\n".join(manage.render(host, verdict, found)), file=stream)
        if code != cli.DONE:
            break
    if json:
        cli.emit({"hosts": told})
    return code


def named(hosts: Iterable[str], there: Iterable[str], every: bool) -> Iterator[str]:
    """The hosts that are meant of those that are there, each once; none named are all, where
    `every`."""
    known, wanted = sorted(there), list(dict.fromkeys(hosts))
    if not wanted and not every and len(known) != 1:
        raise UserError("which host?", f"--host NAME; there are {', '.join(known) or 'none'}")
    for host in wanted:
        if host not in known:
            raise UserError(f"host '{host}' is not declared", f"declared: {', '.join(known)}")
    yield from wanted or known


def _say(json: bool, planned: bool, text: str, code: int) -> None:
    cli.progress("")
    if not json and not (planned and code == cli.DONE):
        print(text, file=sys.stdout if code == cli.DONE else sys.stderr)
