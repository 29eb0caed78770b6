"""What a transaction tells as it goes, and what became of it in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from builder import cli

from .client import Hello, Plain, Waiting

_CODES = {
    "done": cli.DONE,
    "unchanged": cli.DONE,
    "drifted": cli.DONE,
    "refused": cli.REFUSED,
    "busy": cli.REFUSED,
    "failed": cli.REFUSED,
    "undone": cli.ROLLED_BACK,
    "degraded": cli.ROLLED_BACK,
    "unreachable": cli.UNREACHABLE,
}
_SAID = {
    "create": "creating guest {guest}",
    "waiting": "waiting: {why}",
    "changing": "changing {count} files and links",
    "effects": "reloading and switching what follows from them",
    "health": "looking whether all is well",
    "owes a restart": "guest {guest} is to be restarted by you, for {keys}",
    "confirming": "all is well; the host waits {seconds} s for the confirmation",
    "unchecked": "guest {guest} is not checked beforehand: {why}",
    "ill before": "as it was before: {why}",
    "not there yet": "not there yet, and no fault of this change: {why}",
    "awaiting": "awaiting that this is well: {why}",
    "worn": "look after this: {why}",
    "confirmed": "confirmed: generation {generation} stays",
    "failed": "failed: {why}",
    "guard": "the guard takes generation {generation} back: its time was over",
    "undone": "the host is as it was, in generation {generation}",
    "verified": "generation {generation} is whole, and its signature good",
    "collected": "{count} files and folders deleted",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of it: a `result` (done, unchanged, drifted, refused, busy, failed, undone,
    degraded, unreachable), the generation that runs where that is known, and why."""

    result: str
    generation: int | None
    why: str = ""

    @property
    def code(self) -> int:
        """The exit code."""
        return _CODES[self.result]


@dataclass
class Story:
    """The events of a transaction as they come, each told as a line. `confirms` says that the
    host waits for a confirmation in the end, `asked` that one went out of which it is not known
    what became, `until` when the host's time is over, by this machine's monotonic clock."""

    events: list[Plain] = field(default_factory=list)
    confirms: bool = True
    asked: bool = False
    until: float = 0.0

    def tell(self, event: Plain) -> None:
        """Take an event; one that was told already is not told again."""
        if event in self.events:
            return
        self.events.append(event)
        form = _SAID.get(str(event.get("event")))
        if form:
            cli.say(f"  {form.format_map(_Facts(event))}")

    def last(self, name: str) -> Plain | None:
        """The last event of a name."""
        return next((e for e in reversed(self.events) if e.get("event") == name), None)

    def why(self) -> str:
        """Why it failed, as the host says; and where it is not well taken back either, why not."""
        failed = [str(e.get("why", "")) for e in self.events if e.get("event") == "failed"]
        if failed:
            return "; taken back, and still: ".join(dict.fromkeys(failed))
        if found := self.last("ended"):
            return str(found.get("why", ""))
        return "its time was over without a confirmation" if self.last("guard") else ""


class _Facts(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"


def busy(waits: Waiting, hello: Hello) -> str:
    """Who has a transaction open on a host, and what becomes of it."""
    left = round(waits.deadline - hello.now)
    ends = "its time is over, and still it is open: ./invoke repair takes it back"
    if not waits.deadline:
        ends = "nothing that runs has changed yet; ./invoke repair takes it back, if it is dead"
    elif left > 0:
        ends = f"unconfirmed, it goes back in {left} s"
    return f"generation {waits.generation} is {waits.stage} on {hello.host}, by {waits.who}; {ends}"


def ended(story: Story, hello: Hello) -> Verdict | None:
    """The verdict that a transaction's own events give; None where it waits, or where they broke
    off."""
    if story.last("confirming"):
        return None
    last = story.last("ended")
    if found := story.last("undone"):
        well = last is None or last["kind"] != "degraded"
        return Verdict("undone" if well else "degraded", int(found["generation"]), story.why())
    if found := story.last("active"):
        return Verdict("done" if found["changed"] else "unchanged", int(found["generation"]))
    if last:
        kind = str(last["kind"])
        result = kind if kind in _CODES else "failed"
        return Verdict(result, hello.generation, str(last["why"]))
    return None
