"""What becomes of a transaction whose deployer, connection or host fails half way."""

from __future__ import annotations

import pytest

from builder.deploy import following
from builder.deploy.memory import Memory
from builder.deploy.story import Story
from builder.host import back, gate, transaction
from builder.host.gate import Hop
from tests.deploy.making import ADDRESS, Project, Wire, deployed
from tests.host.making import SYSCTL


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long here."""
    monkeypatch.setattr(following, "_GRACE", 0.5)
    monkeypatch.setattr(following.time, "sleep", lambda _: None)


def test_a_failed_check_is_taken_back(
    made: Project, wire: Wire, memory: Memory, capsys: pytest.CaptureFixture[str]
):
    made.release()
    deployed(made, wire, memory)
    wire.stage.faults.append("the gateway is silent")
    made.release(sysctl="b = 1\n")
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("undone", 4)
    assert outcome.verdict.why == "the gateway is silent"
    assert outcome.verdict.generation == 1
    assert wire.stage.files()[SYSCTL[1:]] == b"a = 1\n"
    assert "the host is as it was, in generation 1" in capsys.readouterr().err


def test_what_was_taken_back_in_vain_is_degraded(
    made: Project, wire: Wire, memory: Memory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(gate, "_BRIEF", 0)
    made.release()
    deployed(made, wire, memory)
    before = len(wire.stage.performed)

    def hops(_: object) -> tuple[Hop, ...]:
        why = ("", "no", "still no")[len(wire.stage.performed) - before]
        return (Hop("101", "102", "a.org", not why, why, "k"),)

    whole = wire.stage.host
    wire.stage.host = lambda: whole()._replace(hops=hops)  # type: ignore[method-assign]
    made.release(sysctl="b = 1\n")
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("degraded", 4)
    assert outcome.verdict.generation == 1
    first, _, then = outcome.verdict.why.partition("; taken back, and still: ")
    assert (first, then) == ("101 → 102 (a.org): no", "101 → 102 (a.org): still no")


class Severed:
    """A wire whose first connection is gone once activation has begun, and `then` happens."""

    def __init__(self, wire: Wire, then: object) -> None:
        self.wire, self.then = wire, then
        self.follow = wire.stage.follow
        wire.stage.follow = self._follow  # type: ignore[method-assign]

    def _follow(self, verb: str, arguments: list[str]) -> object:
        list(self.follow(verb, arguments))
        self.then()  # type: ignore[operator]
        raise BrokenPipeError


def test_the_first_connection_is_lost(made: Project, wire: Wire, memory: Memory):
    made.release()
    Severed(wire, lambda: None)
    assert deployed(made, wire, memory).verdict.result == "done"
    assert not wire.stage.paths.journal.exists(), "it was confirmed all the same"


def test_the_guard_was_faster(made: Project, wire: Wire, memory: Memory):
    made.release()
    Severed(wire, lambda: back.take_back(wire.stage.host(), "guard"))
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("undone", 4)
    assert SYSCTL[1:] not in wire.stage.files()


def test_what_was_mended_and_taken_back_is_not_done(made: Project, wire: Wire, memory: Memory):
    """The same generation runs before and after it."""
    made.release()
    assert deployed(made, wire, memory).verdict.generation == 1
    drifted = wire.stage.paths.at(SYSCTL)
    drifted.write_text("by hand = 1\n")
    severed = Severed(wire, lambda: back.take_back(wire.stage.host(), "guard"))
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.generation) == ("undone", 1)
    assert drifted.read_text() == "by hand = 1\n"
    severed.then = lambda: transaction.confirm(wire.stage.host(), 1, "us, unheard")
    assert deployed(made, wire, memory).verdict.result == "done"
    assert drifted.read_text() == "a = 1\n"


def test_the_new_address_does_not_answer(
    made: Project, wire: Wire, memory: Memory, capsys: pytest.CaptureFixture[str]
):
    """It is not confirmed at the old one: what it did is only asked there."""
    made.release(address="198.18.0.99")
    wire.gone.add("198.18.0.99")
    outcome = deployed(made, wire, memory, at="root@198.18.0.1", confirm=1)
    assert (outcome.verdict.result, outcome.verdict.code) == ("unreachable", 5)
    assert "goes back by itself" in outcome.verdict.why
    assert "198.18.0.99" in outcome.verdict.why
    assert wire.stage.paths.journal.exists(), "no word of ours closed it"
    assert memory.last() is None


def test_no_address_answers(made: Project, wire: Wire, memory: Memory):
    made.release()
    Severed(wire, lambda: wire.gone.update({ADDRESS}))
    outcome = deployed(made, wire, memory, confirm=1, activate=1)
    assert (outcome.verdict.result, outcome.verdict.code) == ("unreachable", 5)


def test_nothing_answers_at_all(made: Project, wire: Wire, memory: Memory):
    made.release()
    wire.gone.add(ADDRESS)
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("failed", 2)
    assert "no route to host" in outcome.verdict.why


def test_an_event_is_told_once(capsys: pytest.CaptureFixture[str]):
    story = Story()
    for _ in range(2):
        story.tell({"event": "create", "guest": 101, "at": 1.0})
    assert capsys.readouterr().err.count("creating guest 101") == 1
    story.tell({"event": "new to us"})
    story.tell({"event": "failed"})
    assert "failed: ?" in capsys.readouterr().err
