"""What is done with a host beside deploying: go back, look, repair, clean up, leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from builder import cli, manifest
from builder.dist import MANIFEST, Dist
from builder.manifest import Release
from builder.problems import UserError

from . import deploy, hops
from .client import Client, Hello, HostError, Plain
from .following import Follower
from .memory import Memory, Place
from .ssh import Connect, LostError
from .story import Verdict, busy

Act = Callable[["Manager", Client], tuple[Verdict, Plain]]
"""Does one thing with a host: what became of it, and what else there is to say."""


def declared(root: Path, host: str) -> Release | None:
    """The host's newest release in dist/, whole or not; None where there is none."""
    folder = Dist(root / "dist").newest(host)
    return manifest.parse((folder / MANIFEST).read_bytes()) if folder else None


@dataclass(frozen=True, slots=True)
class Manager:
    """One host and how it is reached."""

    host: str
    place: Place
    connect: Connect
    memory: Memory
    ask: deploy.Ask
    who: str

    def do(self, act: Act) -> tuple[Verdict, Plain]:
        """Connect, and do one thing."""
        try:
            with Client(self.connect(self.place)) as client:
                return act(self, client)
        except HostError as error:
            return Verdict(error.kind, None, error.why), {}
        except LostError as error:
            return Verdict("failed", None, f"{self.place}: {error}"), {}

    def run(self, client: Client, verb: str, to: int | None = None, **facts: object) -> Verdict:
        """One of the commands that run as a unit of their own."""
        if not client.hello.kept:
            raise UserError(f"{self.host} has no generation of ours", f"deploy --host {self.host}")
        there = self._reach(client, to)
        verdict = Follower(self.connect, there, self.place, self.who).run(client, verb, to, **facts)
        if to is not None and verdict.code == cli.DONE:
            self.memory.keep(there)
        return verdict

    def _reach(self, client: Client, to: int | None) -> Place:
        if to == 0:
            return self.memory.found() or self.place
        kept = client.hello.kept.get(to) if to else None
        return Place(str(kept["address"]), str(kept["user"])) if kept else self.place


def rollback(to: int | None) -> Act:
    """Have the generation before run, or a kept one; 0 is the host as it was found."""

    def act(manager: Manager, client: Client) -> tuple[Verdict, Plain]:
        hello = client.hello
        ran = (number for number, kept in hello.kept.items() if kept.get("ran", True))
        older = [number for number in (0, *ran) if number < hello.generation]
        wanted = max(older, default=0) if to is None else to
        if wanted not in (0, *hello.kept):
            known = ", ".join(str(number) for number in (0, *sorted(hello.kept)))
            raise UserError(f"{manager.host} keeps no generation {wanted}", f"it keeps {known}")
        if not manager.ask(
            f"have {manager.host} go from generation {hello.generation} to {wanted}?"
        ):
            return Verdict("refused", hello.generation, "not wanted"), {}
        return manager.run(client, "rollback", wanted), {}

    return act


def repair(manager: Manager, client: Client) -> tuple[Verdict, Plain]:
    """Have what was changed by hand be as the running generation says."""
    return manager.run(client, "repair", client.hello.generation), {}


def verify(manager: Manager, client: Client) -> tuple[Verdict, Plain]:
    """Compare every byte of every kept generation, and its signature."""
    return manager.run(client, "verify"), {}


def gc(keep: int) -> Act:
    """Delete what neither the newest `keep` generations nor anything that runs needs."""
    if keep < 1:
        raise UserError("--keep is at least 1", "--keep 10")

    def act(manager: Manager, client: Client) -> tuple[Verdict, Plain]:
        return manager.run(client, "gc", keep=keep), {}

    return act


def remove(manager: Manager, client: Client) -> tuple[Verdict, Plain]:
    """Have the host be as it was found, and leave nothing of ours but the guests that we made."""
    if not manager.ask(f"take all of this off {manager.host} ({manager.place})?"):
        return Verdict("refused", client.hello.generation, "not wanted"), {}
    verdict = manager.run(client, "remove", 0)
    if verdict.code == cli.DONE:
        manager.memory.forget()
    return verdict, {}


def generations(_: Manager, client: Client) -> tuple[Verdict, Plain]:
    """The kept generations, and which one runs."""
    return _listed(client.hello, client.hello.kept)


def _listed(hello: Hello, every: Mapping[int, Plain]) -> tuple[Verdict, Plain]:
    listed = [
        {
            "generation": number,
            "release": kept["id"],
            "runs": number == hello.generation,
            "pinned": bool(kept.get("pinned")),
        }
        for number, kept in sorted(every.items())
    ]
    found = {"generation": 0, "release": None, "runs": hello.generation == 0, "pinned": False}
    return Verdict("unchanged", hello.generation), {"generations": [found, *listed]}


def pinned(pins: Mapping[int, bool]) -> Act:
    """Have generations stay whatever `gc` deletes, or no longer."""

    def act(manager: Manager, client: Client) -> tuple[Verdict, Plain]:
        client.ask("pin", pins=[[number, pin] for number, pin in pins.items()], who=manager.who)
        kept = {n: {**each, "pinned": pins.get(n, each.get("pinned"))}
                for n, each in client.hello.kept.items()}  # fmt: skip
        return _listed(client.hello, kept)

    return act


def status(_: Manager, client: Client) -> tuple[Verdict, Plain]:
    """What runs, what differs from it, and whether a transaction is open."""
    hello = client.hello
    found: Plain = client.ask("status")["status"]
    told = {
        "release": hello.kept.get(hello.generation, {}).get("id"),
        "open": busy(hello.open, hello) if hello.open else None,
    }
    fine = not (found.get("drift") or found.get("faults") or hello.open)
    return Verdict("unchanged" if fine else "drifted", hello.generation), {**found, **told}


def render(host: str, verdict: Verdict, found: Plain) -> list[str]:
    """What became of it, as a person reads it."""
    if "generations" in found:
        return [
            f"{'*' if each['runs'] else ' '} {each['generation']:4}  "
            f"{(each['release'] or '')[:12] or 'the host as it was found'}"
            f"{'  pinned' if each['pinned'] else ''}"
            for each in found["generations"]
        ]
    if "drift" in found:
        lines = [
            f"{host}: generation {verdict.generation} {(found['release'] or '')[:12]}".rstrip()
        ]
        lines += [found["open"]] if found["open"] else []
        lines += [f"  differs: {path}" for path in found["drift"]]
        lines += [f"  fault: {fault}" for fault in found["faults"]]
        lines += [f"  guest {owed} owes a restart" for owed in found.get("restarts", ())]
        return [*lines, *([] if lines[1:] else ["  all is as declared"]), *hops.table(found)]
    return [sentence(host, verdict)]


def sentence(host: str, verdict: Verdict) -> str:
    """A verdict in one line."""
    runs = f"generation {verdict.generation}" if verdict.generation is not None else "a generation"
    why = f": {verdict.why}" if verdict.why else ""
    return {
        "done": f"{host}: {runs} runs",
        "unchanged": f"{host}: {runs} runs, and nothing was to be done",
        "undone": f"{host}: rolled back, {runs} runs{why}",
        "degraded": f"{host}: degraded, what fails is to be looked at by hand{why}",
        "unreachable": f"{host}: unreachable{why}",
        "busy": f"{host}: refused, somebody else is at it{why}",
    }.get(verdict.result, f"{host}: {verdict.result}{why}")
