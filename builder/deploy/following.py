"""Follows a transaction to its end, whatever becomes of the connection.

The transaction runs on the host as a unit of its own. It is confirmed over a connection that is
made anew, to the address that the new release declares; only so it is known that the host is
reachable there. Where that fails, the host's guard takes everything back, and this says so.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from builder import cli

from .client import Client, Hello, HostError, Plain, Told
from .memory import Place
from .ssh import Connect, LostError
from .story import Story, Verdict, busy, ended

_GRACE = 45.0
"""Seconds that a host may take to go back, once its time is over."""
_LONGEST = 300.0
"""Seconds that a command may take which nobody has to confirm."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: for activating, and then for the confirmation."""

    activate: int
    confirm: int


class _MovedError(LostError):
    pass


@dataclass(frozen=True, slots=True)
class Follower:
    """Follows a host's transactions. `there` is where the host is to be found afterwards, `here`
    where it was; `fault` says why a change is not to be confirmed, "" where it is."""

    connect: Connect
    there: Place
    here: Place
    who: str
    pause: float = 1.0
    fault: Callable[[], str] = str

    def activate(self, client: Client, number: int, seal: str, limits: Limits) -> Verdict:
        """Have generation `number` run, and confirm it."""
        story, began = Story(), time.monotonic()
        length = limits.activate + limits.confirm
        try:
            client.ask(
                "activate",
                self._told(story),
                within=length + _GRACE,
                generation=number,
                seal=seal,
                who=self.who,
                activate=limits.activate,
                confirm=limits.confirm,
            )
        except HostError as error:
            return Verdict(error.kind, client.hello.generation, error.why)
        except _MovedError:
            pass
        except LostError:
            cli.say("  the connection is lost; the host goes on by itself")
        except KeyboardInterrupt:
            cli.say("  the host goes on by itself, and back unless it is confirmed")
            raise
        if (verdict := ended(story, client.hello)) is not None:
            return verdict
        story.until = began + length
        return self._settle(number, client.hello, story)

    def run(self, client: Client, do: str, to: int | None = None, **facts: Any) -> Verdict:
        """Run one of the commands that need no confirmation; `to` is the generation it leads to."""
        story = Story(confirms=False)
        try:
            within = _LONGEST + _GRACE
            answer = client.ask(do, self._told(story), within=within, who=self.who, to=to, **facts)
        except HostError as error:
            return Verdict(error.kind, client.hello.generation, error.why)
        except LostError as error:
            if not isinstance(error, _MovedError):
                cli.say("  the connection is lost; the host goes on by itself")
            if to is None:
                return Verdict("unreachable", None, "what the host did is not known: look again")
            story.until = time.monotonic() + _LONGEST
            return self._settle(to, client.hello, story)
        verdict = ended(story, client.hello)
        if verdict is None:
            result = "done" if answer["ok"] else "failed"
            verdict = Verdict(result, client.hello.generation, story.why())
        return verdict

    def _told(self, story: Story) -> Told:
        """Takes events, until the host moves: its old address would be silent from then on."""

        def tell(event: Plain) -> None:
            story.tell(event)
            if event.get("event") == "effects" and self.there != self.here:
                raise _MovedError(f"it moves to {self.there}")

        return tell

    def _settle(self, number: int, before: Hello, story: Story) -> Verdict:
        """Confirm where the host waits for it; else find out what it did, until its time is over
        and it should long be back."""
        lost = ""
        places = list(dict.fromkeys((self.there, self.here)))
        while True:
            for at in places:
                try:
                    with Client(self.connect(at, fresh=True)) as client:
                        verdict = self._look(client, at, number, before, story)
                except LostError as error:
                    lost = lost if at != self.there and lost else str(error)
                    _tell_lost(at, error, story)
                    continue
                if verdict is not None:
                    return verdict
            if time.monotonic() > story.until + _GRACE:
                break
            time.sleep(self.pause)
        why = f"no answer from {self.there} ({lost}). {_alone(story)}"
        return Verdict("unreachable", None, why)

    def _look(
        self, client: Client, at: Place, number: int, before: Hello, story: Story
    ) -> Verdict | None:
        hello = client.hello
        if hello.told >= before.told:
            client.ask("events", story.tell, since=before.told)
        waits = hello.open
        if waits is None:
            silent = hello.generation == before.generation and not story.events
            if silent and not self._idle(client, before, story):
                return None
            return _what(hello, number, before, story)
        if waits.deadline:
            story.until = time.monotonic() + waits.deadline - hello.now
        if waits.generation != number:
            return Verdict("busy", None, busy(waits, hello))
        if waits.stage != "confirming" or at != self.there:
            return None
        if why := self.fault():
            cli.say(f"  not confirmed: {why}")
            client.ask("recover", story.tell)
            return Verdict("undone", before.generation, why)
        story.asked = True
        try:
            client.ask("confirm", story.tell, generation=number, who=self.who)
        except HostError as error:
            story.asked = False
            if error.kind == "busy":  # the activation's own last moment, or the guard's first
                return None
            story.tell({"event": "ended", "kind": error.kind, "why": error.why})
            return None
        return Verdict("done", number)

    def _idle(self, client: Client, before: Hello, story: Story) -> bool:
        """Whether nobody is at work there: who makes ready has told nothing yet, and has the lock.
        What is asked for is no generation, and never taken."""
        try:
            client.ask("confirm", generation=-1, who=self.who)
        except HostError as error:
            if error.kind == "busy":
                return False
        client.ask("events", story.tell, since=before.told)
        return not story.events


def _alone(story: Story) -> str:
    """What a host does that is not heard any more."""
    if not story.confirms:
        return "It goes on by itself: look again"
    due = time.strftime("%H:%M:%S", time.localtime(time.time() + story.until - time.monotonic()))
    if story.asked:
        return f"It may have taken the confirmation, and stays; else it goes back by {due}"
    return f"Unconfirmed by {due}, the host goes back by itself; its guard outlasts a reboot too"


def _tell_lost(at: Place, error: LostError, story: Story) -> None:
    # Where each text is a line of its own, seconds that run would fill the page.
    left = max(0, round(story.until - time.monotonic()))
    when = f" in {left} s" if sys.stderr.isatty() else ""
    back = "; unless that is confirmed, the host goes back" + when if story.confirms else ""
    cli.progress(f"no connection to {at}{back} ({error})")


def _what(hello: Hello, number: int, before: Hello, story: Story) -> Verdict | None:
    """What a host did that has no transaction open any more."""
    if (verdict := ended(story, hello)) is not None:
        return verdict
    # That it runs says nothing where it ran before, too.
    if hello.generation == number and (number != before.generation or story.last("confirmed")):
        return Verdict("done", number)
    last = story.last("ended")
    if last and last["kind"] == "degraded":
        return Verdict("degraded", hello.generation, story.why())
    if hello.generation == before.generation and not story.events:
        # It has not begun: the request itself may have been lost.
        return Verdict("refused", hello.generation, "the host did not begin; deploy again")
    return Verdict("undone", hello.generation, story.why())
