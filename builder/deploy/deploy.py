"""`invoke deploy` and `invoke plan`: one release onto its host, as one transaction.

    connect → trust → stage → documents → secrets read → plan → ask → files → secrets → keep →
    activate → confirm

Everything up to "ask" changes nothing that runs; a plan ends there.
"""

from __future__ import annotations

import getpass
import json
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder import cli
from builder.dist import Dist

from . import effects, older, references, signers, transfer
from .client import Client, HostError, Plain
from .effects import Outlook
from .entering import Entering
from .following import Follower, Limits
from .held import Ready
from .memory import Memory, Place, reached
from .older import Older
from .ssh import Connect, LostError
from .story import Verdict, busy

Ask = Callable[[str], bool]
"""Asks a person a question of yes or no."""
_TRIES = 3
_PATIENCE = 180.0
"""Seconds that connections are awaited which the change would cut: those that nobody uses end by
themselves within that."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be done with a release. `at` is where to reach the host, "" for where it was
    reached last; `affects` the foreign guests that may be cut off; `activate` and `confirm` limits
    in seconds, None for one that follows from the plan; `anew` to send secrets that are there
    already; `text` to show the files' lines; with `only_plan` nothing is done."""

    at: str = ""
    affects: frozenset[int] = frozenset()
    activate: int | None = None
    confirm: int = 60
    anew: bool = False
    text: bool = False
    only_plan: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a host's order, and the plan where there was one."""

    host: str
    release: str
    verdict: Verdict
    outlook: Outlook | None = None

    def as_json(self) -> Plain:
        return {
            "release": self.release,
            "result": self.verdict.result,
            "generation": self.verdict.generation,
            "why": self.verdict.why,
            "plan": self.outlook.as_json() if self.outlook else None,
        }


def who() -> str:
    """Who deploys, and since when, as others are told on the host."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return f"{getpass.getuser()}@{socket.gethostname()} since {since}"


@dataclass
class Deployer:
    """One order for one host, under way."""

    order: Order
    held: Ready
    connect: Connect
    memory: Memory
    ask: Ask
    who: str
    show: Callable[[str], None] = cli.say
    trusted: str = ""
    outlook: Outlook | None = None
    older: Older = field(default_factory=Older)
    entering: Entering = field(default_factory=lambda: Entering(()))

    def run(self) -> Outcome:
        """Do it. Raises UserError for what is the user's to mend."""
        try:
            verdict = self._run()
        except HostError as error:
            verdict = Verdict(error.kind, None, error.why)
        except LostError as error:
            verdict = Verdict("failed", None, f"{self._place()}: {error}")
        return Outcome(self.held.release.host, self.held.id, verdict, self.outlook)

    def _place(self) -> Place:
        return reached(self.memory, self.order.at, self.held.release)

    def _run(self) -> Verdict:
        client = self._staged()
        try:
            plan, secrets = self._planned(client)
            assert self.outlook
            refusal = self._refusal(self.outlook)
            if refusal or self.order.only_plan or self.outlook.nothing:
                running = client.hello.generation
                kept = client.hello.kept.get(running, {}).get("id")
                if refusal or self.order.only_plan or kept == self.held.id:
                    result = "refused" if refusal else "unchanged"
                    return Verdict(result, running, refusal)
            if self.outlook.nothing:
                cli.say("what runs is so already; the release becomes the newest generation")
            elif not self.ask(f"deploy this to {self._named()}?"):
                return Verdict("refused", client.hello.generation, "not wanted")
            self.entering = Entering.of(self.held)
            self.entering.begin()
            client = self._sent(client)
            self._deliver(client, secrets)
            if used := self._drained(client, plan):
                return Verdict("refused", client.hello.generation, used)
            number = int(client.ask("keep", who=self.who)["generation"])
            return self._activate(client, number, str(plan["seal"]))
        finally:
            client.link.close()

    def _named(self) -> str:
        return f"{self.held.release.host} ({self._place()})"

    def _staged(self) -> Client:
        """A connection on which the release is staged."""
        cli.progress(f"connecting to {self._place()}")
        client = Client(self.connect(self._place()))
        try:
            hello = client.hello
            if hello.open:
                raise HostError("busy", busy(hello.open, hello))
            if not hello.trusts:
                self._trust(client)
            held = self.held
            self.older = older.find(Dist(held.root / "dist"), held.release.host, hello)
            transfer.stage(client, held.data, held.signature, self.older)
        except BaseException:
            client.link.close()
            raise
        return client

    def _trust(self, client: Client) -> None:
        """The first deploy: whose releases this host shall take, shown and asked."""
        if not self.trusted:
            line = signers.line(self.held.signature, self.held.release.site)
            cli.say(f"{self._named()} takes no releases yet. From now on it would take those of")
            cli.say(f"  {signers.fingerprint(line)}\n  {line.strip()}")
            if not self.order.only_plan and not self.ask("is that key yours, and this the host?"):
                raise HostError("refused", "not wanted")
            self.trusted = line
        client.ask("trust", signers=self.trusted)

    def _planned(self, client: Client) -> tuple[Plain, dict[int, dict[str, bytes]]]:
        cli.progress("looking at the host")
        transfer.describe(client, self.held.files, self.older)
        secrets = self._secrets(client)
        plan = client.ask("plan", text=self.order.text)
        before = self._running(client, plan["network"])
        after = self.held.network
        here = self._place().address
        self.outlook = effects.outlook(
            plan, self.held.release, self.held.nodes, before, after, here
        )
        cli.progress("")
        lines = [*self.outlook.lines()]
        lines += "".join(effects.text(plan["changes"])).splitlines() if self.order.text else []
        self.show("\n".join([f"{self._named()}, generation {client.hello.generation}:", *lines]))
        return plan, secrets

    def _running(self, client: Client, digest: str | None) -> Mapping[str, Any]:
        """The description of what runs: from dist/ where it is still there, else from the host."""
        if digest is None:
            return {}
        path = Dist(self.held.root / "dist").objects / f"{digest}-network.json"
        text = path.read_bytes() if path.exists() else client.ask("network")["network"]
        found: dict[str, Any] = json.loads(text)
        return found

    def _drained(self, client: Client, plan: Plain) -> str:
        """Await that slots are free which the change needs; why they are not, or ""."""
        end = None
        while used := "; ".join(plan["draining"]):
            if end is None:
                cli.progress(f"waiting: {used}")
                end = time.monotonic() + _PATIENCE
            if time.monotonic() > end:
                return f"{used}: deploy again then"
            time.sleep(1)
            plan = client.ask("plan")
        return ""

    def _refusal(self, outlook: Outlook) -> str:
        if outlook.problems:
            return "; ".join(outlook.problems)
        missing = sorted(outlook.affected.keys() - self.order.affects)
        if missing:
            ids = ",".join(str(guest) for guest in missing)
            return f"guests that are not ours would be cut off for a while: --affects {ids}"
        return ""

    def _secrets(self, client: Client) -> dict[int, dict[str, bytes]]:
        """What the host's guests need and the host has not, read now: before anything changes."""
        here = client.ask("bundles", anew=self.order.anew)["here"]
        names = {ref.id: ref.name for ref in self.held.release.guests}
        wanted = [int(guest) for guest, there in here.items() if not there]
        if self.order.only_plan:
            return {}
        every = self.held.release.secrets
        return {
            guest: references.resolve((s for s in every if s.guest == names[guest]), self.held.root)
            for guest in wanted
        }

    def _sent(self, client: Client) -> Client:
        """Send the files that the host lacks; goes on where a connection broke, over a new one."""
        lost = False
        for tried in range(1, _TRIES + 1):
            try:
                if lost:
                    client = self._staged()
                    client.ask("bundles", anew=self.order.anew)
                    lost = False
                self._send(client, transfer.describe(client, self.held.files, self.older))
                return client
            except (LostError, HostError) as error:
                lost = lost or isinstance(error, LostError)
                if tried == _TRIES or (not lost and "send it again" not in str(error)):
                    raise
                cli.say(f"  {error}; going on")
                if lost:
                    time.sleep(tried)
        raise AssertionError

    def _send(self, client: Client, found: Sequence[transfer.Lacking]) -> None:
        if not found:
            return
        total, done = sum(each.size - each.begun for each in found), 0
        what = f"sending {len(found)} files"
        live = sys.stderr.isatty()  # elsewhere each text would be a line of its own

        def sent(count: int) -> None:
            nonlocal done
            done += count
            cli.progress(f"{what}: {done >> 10} of {total >> 10} KiB" if live else what)

        transfer.send(client, found, self.held.files.contents, self.older, sent)
        cli.progress("")
        cli.say(f"  sent {len(found)} files, {total >> 10} KiB")

    def _deliver(self, client: Client, secrets: Mapping[int, Mapping[str, bytes]]) -> None:
        for guest, contents in secrets.items():
            sizes = [[file, len(data)] for file, data in contents.items()]
            client.ask("secrets", payload=b"".join(contents.values()), guest=guest, files=sizes)

    def _activate(self, client: Client, number: int, seal: str) -> Verdict:
        assert self.outlook
        reach = self.held.release.reach
        there = Place(reach.address, reach.user)
        limits = Limits(self.order.activate or self.outlook.limit, self.order.confirm)
        follower = Follower(self.connect, there, self._place(), self.who, fault=self.entering.fault)
        verdict = follower.activate(client, number, seal, limits)
        if verdict.code == cli.DONE:
            self.memory.keep(there, None if client.hello.generation else self._place())
        return verdict
