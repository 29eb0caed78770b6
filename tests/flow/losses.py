"""Steady load of each kind of client, and the changes that are made under it.

The clients never try a request again; those of HTTP/2 only where the server says that it has done
nothing about it, and one kind not even then.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from builder.lab.shape import Lab
from tests.flow import altered
from tests.flow.stage import Flow, Running
from tests.integration import described
from tests.integration.machine import Done, until

GRACE = 15
"""Seconds that what is under way may go on; longer than idle connections between the proxies."""
SLOTTED = {"gateway": 101, "mesh": 102, "one": 111, "two": 112}
"""The guests with a daemon in two slots."""
OUTSIDE, INSIDE = "https://chat.example.org", "https://chat.svc.phoenix.internal"
SOCKETS = "https://sockets.example.org"
_SITE = """\
site: phoenix
domain: phoenix.internal
dns: [198.18.255.53]
ca: {lifetime: 6h, renew: 21599s}
services:
  chat:
    backends: [one, two]
    port: 8000
    profile: llm
    health: {path: /health, interval: 5s, timeout: 5s}
    expose: [chat.example.org]
    inside: true
    grace: GRACEs
    limits: {body: LINEMiB}
  sockets:
    backends: [one]
    port: 8001
    profile: websocket
    expose: [sockets.example.org]
    grace: GRACEs
"""
_PLAIN = """\
    plain: [{hop: mesh, reason: a listener more on the mesh}]
"""
_EXTRA = """\
  extra-NUMBER:
    backends: [two]
    port: 81NUMBER
    expose: [extra-NUMBER.example.org]
    grace: GRACEs
"""
_BEHIND = """\
  behind-NUMBER:
    backends: [one, two]
    port: 82NUMBER
    health: {path: /health}
    inside: true
    grace: GRACEs
"""
_GUESTS = """\
  one: {id: 111, address: NET.111GATEWAY}
  two: {id: 112, address: NET.112GATEWAY}
  web: {id: 113, address: NET.113GATEWAY}
"""


def host(lab: Lab) -> str:
    """The description of a lab's host."""
    return described.host(lab, _GUESTS)


@dataclass(frozen=True, slots=True)
class Described:
    """What is declared, by what the changes change: how many lines, services and fronts were; a
    listener more of Traefik's (its static configuration); and the other builds of the programs."""

    line: int = 0
    services: int = 0
    fronts: int = 0
    static: bool = False
    programs: bool = False

    def site(self) -> str:
        """The site's description."""
        text = _SITE + (_PLAIN if self.static else "")
        for number in range(self.services):
            text += _EXTRA.replace("NUMBER", f"{10 + number}")
        for number in range(self.fronts):
            text += _BEHIND.replace("NUMBER", f"{10 + number}")
        return text.replace("LINE", str(64 + self.line)).replace("GRACE", str(GRACE))


Change = Callable[[Described], Described]
CHANGES: Mapping[str, Change] = {
    "one line": lambda now: dataclasses.replace(now, line=now.line + 1),
    "added service": lambda now: dataclasses.replace(now, services=now.services + 1),
    "static configuration": lambda now: dataclasses.replace(now, static=not now.static),
    "new programs": lambda now: dataclasses.replace(now, programs=not now.programs),
    "changed front": lambda now: dataclasses.replace(now, fronts=now.fronts + 1),
}
"""What a deploy makes; a rollback and renewed certificates come beside."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of client: `where` it is, how it comes to its connections, and what it asks."""

    where: str
    kind: str
    method: str
    judged: bool = True

    def __str__(self) -> str:
        return f"{self.where} {self.kind} {self.method}"

    def words(self, workers: int, pause: str) -> tuple[str, ...]:
        """The command of `try`, with so many connections at a time, and so long between requests
        on each."""
        url = OUTSIDE if self.where == "outside" else INSIDE
        return ("load", "--url", url, "--kind", self.kind, "--method", self.method,
                "--workers", str(workers), "--pause", pause, "--size", "1024")  # fmt: skip


KINDS = (
    *(Kind("outside", kind, method) for kind in ("new", "kept") for method in ("GET", "POST")),
    *(Kind("outside", "h2", method) for method in ("GET", "POST")),
    Kind("outside", "h2-once", "POST", judged=False),
    *(Kind("inside", kind, method) for kind in ("new", "kept") for method in ("GET", "POST")),
)


@dataclass
class Losses:
    """A flow, what is declared of it now, and what each kind of client counted so far."""

    flow: Flow
    workers: int = 2
    pause: str = "300ms"
    now: Described = field(default_factory=Described)
    counts: dict[Kind, Counter[str]] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    """In words, what was lost by clients of which none should lose anything."""

    # ---- changes

    def declare(self, now: Described) -> None:
        """Write this description; programs of new services run before they are declared."""
        made = self.flow.host
        made.site.write_text(now.site(), encoding="utf-8")
        altered.pinned(made.up.state.project / "configs/inputs.lock", now.programs)
        if now.services > self.now.services or now.fronts > self.now.fronts:
            self.flow.furnish()
        self.now = now

    def change(self, *names: str) -> Done:
        """Make changes, all in one deploy."""
        now = self.now
        for name in names:
            now = CHANGES[name](now)
            self.made[name] += 1
        self.declare(now)
        return self.flow.host.deploy()

    def rollback(self) -> None:
        """Go back to the generation before."""
        done = self.flow.host.invoke("rollback")
        assert done.code == 0, done
        self.made["rollback"] += 1

    def renew(self) -> None:
        """Have each guest of ours get its certificates anew, and await them."""
        for number in SLOTTED.values():
            before = self.certificates(number)
            self.flow.host.guest(number, "systemctl", "start", "phoenix-acme.service")
            until(lambda: self._renewed(number, before), f"guest {number} renews", pause=0.5)  # noqa: B023
        self.made["renewed certificates"] += 1

    def _renewed(self, number: int, before: Mapping[str, str]) -> bool:
        now = self.certificates(number)
        return all(now[path] != digest for path, digest in before.items())

    def certificates(self, number: int) -> dict[str, str]:
        """A guest's certificates: digests by path."""
        said = self.flow.host.guest(
            number, "sh", "-c", "sha256sum /var/lib/phoenix/certificates/*/certificate.pem"
        )
        return {path: digest for digest, path in map(str.split, said.splitlines())}

    def settled(self, limit: float = 300) -> None:
        """Await that no old slot runs any more."""
        until(lambda: not self.draining(), "old slots are stopped", limit=limit, pause=0.5)

    def draining(self) -> dict[str, str]:
        """The guests of which an old slot runs, and what is told of it."""
        slots = "/opt/phoenix/current/bin/phoenix-slots"
        found = {
            name: self.flow.host.guest(number, slots, "drains").strip()
            for name, number in SLOTTED.items()
        }
        return {name: said for name, said in found.items() if said}

    def switches(self) -> float:
        """When the last change began to lead to other slots, by the clock."""
        return max(float(x["at"]) for x in self.flow.host.events() if x["event"] == "effects")

    def connections(self, guest: str) -> int:
        """How many connections a guest's live slot has."""
        slots, number = "/opt/phoenix/current/bin/phoenix-slots", SLOTTED[guest]
        live = self.flow.host.guest(number, slots, "live").strip()
        return int(self.flow.host.guest(number, slots, "busy", live))

    # ---- clients

    @contextlib.contextmanager
    def loaded(self, what: str) -> Iterator[None]:
        """All kinds of clients ask meanwhile; they are counted."""
        began = time.monotonic()
        with contextlib.ExitStack() as stack:
            running = {kind: self._started(stack, kind) for kind in KINDS}
            until(lambda: self._flows(running), "load flows", pause=0.2)
            yield
        print(f"== {what}, {time.monotonic() - began:.0f} s")
        for kind, each in running.items():
            self._count(what, kind, each.found)

    def _started(self, stack: contextlib.ExitStack, kind: Kind) -> Running:
        inside = "web" if kind.where == "inside" else ""
        return stack.enter_context(
            self.flow.started(*kind.words(self.workers, self.pause), inside=inside)
        )

    def _flows(self, running: Mapping[Kind, Running]) -> bool:
        for kind, each in running.items():
            assert each.process.poll() is None, (kind, each.process.communicate())
        return True

    def _count(self, what: str, kind: Kind, found: Mapping[str, Any]) -> None:
        into = self.counts.setdefault(kind, Counter())
        for name in ("asked", "answered", "failed", "truncated", "retried", "connections"):
            into[name] += found[name]
        lost = found["failed"] + found["truncated"]
        told = ", ".join(
            f"{name} {found[name]}"
            for name in ("asked", "failed", "truncated", "retried", "connections")
        )
        print(f"   {kind}: {told}, longest {found['longest']:.0f} ms, {found['guests']}")
        if lost:
            text = f"{what}: {kind}: {lost} lost of {found['asked']}; {found['first']}"
            print(f"   {text}")
            if kind.judged:
                self.lost.append(text)

    def least(self) -> int:
        """How many requests the kind asked that asked the fewest."""
        return min((counts["asked"] for counts in self.counts.values()), default=0)

    def told(self) -> str:
        """All counts so far, as a table."""
        lines = [f"changes: {dict(self.made)}"]
        lines += [f"{kind}: {dict(counts)}" for kind, counts in self.counts.items()]
        return "\n".join(lines)
