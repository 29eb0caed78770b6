"""What is made of the answers that hops give: which hop is at fault, and whether a change is."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder.host import gate, guests, report, transaction
from builder.host.gate import Answer, Ask, Hop
from builder.host.host import DegradedError, Host, UndoneError
from builder.host.release import Release
from builder.host.schema import RefusedError
from builder.host.transaction import Limits
from builder.kinds import asks as kind_asks
from tests.host.making import Stage, released

CA = Ask("ca 101", "101", "103", "certificates", "http", "10.0.0.103", 9000, legal=((200, 299),))
PROGRAM = Ask(
    "program", "111", "program", "chat", "http", "127.0.0.1", 8000, legal=((200, 399),), ours=False
)
FRONT = Ask(
    "front", "102", "111", "chat", "http", "10.0.0.111", 8000, "chat", behind=("program",),
    beyond="program", awaits="/chat.pem", authority="103",
)  # fmt: skip
MESH = Ask(
    "mesh", "101", "102", "a.org", "http", "10.0.0.102", 443, "mesh", host="a.org", path="/",
    behind=("front",), beyond="chat",
)  # fmt: skip
OUTSIDE = Ask(
    "outside", "uplink", "101", "a.org", "http", "198.18.0.10", 443, "a.org", host="a.org",
    path="/", behind=("mesh",), beyond="102", awaits="/a.pem", authority="103",
)  # fmt: skip
ASKS = (CA, PROGRAM, FRONT, MESH, OUTSIDE)
REFUSED = Answer(failed="connection", why="Connection refused")
SILENT = Answer(failed="handshake", why="the handshake fails")


def said(**others: int | Answer) -> dict[str, Answer]:
    """All is well, but for these."""
    found = {ask.key: Answer((200,)) for ask in ASKS}
    named = {"ca": "ca 101"}
    return found | {
        named.get(key, key): each if isinstance(each, Answer) else Answer((each,))
        for key, each in others.items()
    }


def bad(answers: Mapping[str, Answer], awaiting: tuple[str, ...] = ()) -> list[str]:
    """The hops that fail, those that only follow from others left out."""
    hops = gate.judged(100, ASKS, answers, awaiting)
    return [f"{h.source} → {h.target}" for h in hops if not h.ok and not h.hidden]


@pytest.mark.parametrize(
    ("answers", "hop"),
    [
        ({}, []),
        ({"outside": REFUSED}, ["uplink → 101"]),
        ({"outside": SILENT}, ["uplink → 101"]),
        ({"outside": 502}, ["101 → 102"]),
        ({"outside": 404}, ["101 → 102"]),
        ({"outside": 0}, ["101 → 102"]),
        # What it says of who may ask, and how often, is its own.
        ({"outside": 401}, []),
        ({"outside": 429}, []),
        ({"mesh": 404, "outside": 404}, ["102 → chat"]),
        ({"mesh": 500, "outside": 500}, ["102 → chat"]),
        ({"mesh": REFUSED, "outside": 502}, ["101 → 102"]),
        ({"front": REFUSED, "mesh": 502, "outside": 502}, ["102 → 111"]),
        ({"front": SILENT, "mesh": 500, "outside": 500}, ["102 → 111"]),
        # Whoever is behind is away: 404 is no answer to that.
        ({"front": REFUSED, "mesh": 404, "outside": 404}, ["102 → 111", "102 → chat"]),
        ({"front": 502, "mesh": 502, "outside": 502}, ["111 → program"]),
        ({"program": REFUSED, "front": 502, "mesh": 503, "outside": 503}, ["111 → program"]),
        ({"program": 503, "front": 503, "mesh": 503, "outside": 503}, ["111 → program"]),
        ({"ca": REFUSED}, ["101 → 103"]),
        ({"ca": 404}, ["101 → 103"]),
    ],
)
def test_the_innermost_hop_is_at_fault(answers: dict[str, Any], hop: list[str]):
    assert bad(said(**answers)) == hop


def test_what_a_program_says_itself_is_no_fault_of_those_before_it():
    """A program without a declared health may say what it wants."""
    asks = tuple(ask._replace(legal=()) if ask is PROGRAM else ask for ask in ASKS)
    for status in (404, 400, 500):
        answers = said(program=status, front=status, mesh=status, outside=status)
        assert all(hop.ok for hop in gate.judged(100, asks, answers))
    answers = said(program=200, front=404, mesh=404, outside=404)
    assert [h.key for h in gate.judged(100, asks, answers) if not h.ok] == ["front"]


def test_each_backend_is_met():
    """Of a service with two, one that fails shows, unless it is known to be away."""
    other = FRONT._replace(key="other", target="112")
    mesh = MESH._replace(behind=("front", "other"))
    asks = (PROGRAM, FRONT, other, mesh)
    answers = said() | {"other": Answer((200,)), "mesh": Answer((200, 500))}
    (hop,) = (h for h in gate.judged(100, asks, answers) if not h.ok)
    assert (hop.source, hop.target) == ("102", "chat")
    answers["other"] = REFUSED
    assert [h.key for h in gate.judged(100, asks, answers) if not h.ok] == ["other"]
    answers["mesh"] = Answer((502, 502))
    assert [h.key for h in gate.judged(100, asks, answers) if not h.ok] == ["other", "mesh"]


def test_a_certificate_that_was_not_given_is_the_authoritys_hop():
    answers = said(front=SILENT, mesh=500, outside=500)
    assert bad(answers, ("front",)) == ["111 → 103"]
    # Where the way there is the fault, only that is said.
    asked = CA._replace(key="ca 111", source="111")
    hops = gate.judged(100, (asked, *ASKS), answers | {"ca 111": REFUSED}, ("front",))
    assert [h.key for h in hops if not h.ok and not h.hidden] == ["ca 111"]
    (hop,) = (h for h in hops if h.hidden)
    assert (hop.why, hop.patience) == ("no certificate for chat has been given yet", 100)


def test_a_way_out_that_the_host_has_not_either_is_not_known():
    host = Ask("host", "host", "outside", "the way out", "ping", "198.18.0.1", ours=False)
    guest = host._replace(key="guest", source="103", behind=("host",), ours=True)
    lost = Answer(failed="connection", why="no answer")
    hops = gate.judged(1, (host, guest), {"host": lost, "guest": lost})
    assert gate.faults(hops, {}) == ((), hops)
    assert gate.well(hops) == {"host": False}
    hops = gate.judged(1, (host, guest), {"host": Answer((200,)), "guest": lost})
    assert [hop.source for hop in gate.faults(hops, {})[0]] == ["103"]


HOP = Hop("101", "102", "a.org", ok=False, why="no", key="k", patience=30)
THEIRS = HOP._replace(source="111", target="program", ours=False)


@pytest.mark.parametrize(
    ("hop", "before", "started", "fault"),
    [
        (HOP, {}, (), True),
        (HOP, {"k": True}, (), True),
        (HOP, {"k": False}, (), False),
        (THEIRS, {}, (), False),
        (THEIRS, {"k": True}, (), True),
        (THEIRS, {"k": True}, ("111",), False),
        (THEIRS, {"k": False}, (), False),
        (HOP._replace(hidden=True), {}, (), False),
        (HOP._replace(asked=False), {"k": True}, (), False),
        (HOP._replace(ok=True), {"k": False}, (), False),
    ],
)
def test_what_a_change_is_taken_back_for(
    hop: Hop, before: dict[str, bool], started: tuple[str, ...], fault: bool
):
    assert bool(gate.faults([hop], before, started)[0]) == fault


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that goes on as it is slept."""
    now = [1000.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(gate, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    return now


def waited(
    clock: list[float],
    look: Callable[[float], tuple[Hop, ...]],
    before: Mapping[str, bool] | None = None,
    until: float = 2000,
    started: tuple[str, ...] = (),
    back: bool = False,
) -> tuple[tuple[Hop, ...], float, list[str]]:
    """What fails in the end, after how many seconds, and what was told."""
    told: list[str] = []
    wrong = gate.awaited(
        lambda: look(clock[0] - 1000), before or {}, started, until,
        lambda event, _: told.append(event), back,
    )  # fmt: skip
    return wrong, clock[0] - 1000, told


def test_a_new_hop_is_awaited(clock: list[float]):
    wrong, seconds, told = waited(clock, lambda at: (HOP._replace(ok=at > 20),))
    assert (wrong, told) == ((), ["awaiting"])
    assert 20 < seconds < 21


def test_not_for_ever(clock: list[float]):
    wrong, seconds, _ = waited(clock, lambda _: (HOP,))
    assert (wrong, seconds) == ((HOP,), 30)


def test_a_hop_that_was_well_has_no_time(clock: list[float]):
    wrong, seconds, _ = waited(clock, lambda _: (HOP,), {"k": True})
    assert (wrong, seconds) == ((HOP,), 5)


def test_unless_its_guest_was_started(clock: list[float]):
    _, seconds, _ = waited(clock, lambda _: (HOP,), {"k": True}, started=("102",))
    assert seconds == 30


def test_on_the_way_back_it_has_its_patience(clock: list[float]):
    """Who found it ill meanwhile looks again in its own time."""
    wrong, seconds, _ = waited(
        clock, lambda at: (HOP._replace(ok=at > 20),), {"k": True}, back=True
    )
    assert wrong == ()
    assert 20 < seconds < 21


def test_it_ends_before_the_guards_time_does(clock: list[float]):
    _, seconds, _ = waited(clock, lambda _: (HOP,), until=1007)
    assert seconds == 7


def test_patience_begins_with_a_hops_own_fault(clock: list[float]):
    """One that could only fail once another was well is not late for that."""
    late = HOP._replace(key="late", patience=10)

    def look(at: float) -> tuple[Hop, ...]:
        return (HOP._replace(ok=at > 25), late._replace(ok=at <= 25 or at > 30))

    assert waited(clock, look)[0] == ()


def test_once_well_is_enough(clock: list[float]):
    """A balanced service, one of whose backends is away, answers by turns."""
    flaps = HOP._replace(key="flaps")
    turns = iter(range(1000))

    def look(at: float) -> tuple[Hop, ...]:
        return (flaps._replace(ok=next(turns) % 2 == 0), HOP._replace(ok=at > 40, patience=50))

    assert waited(clock, look)[0] == ()


def test_what_is_told(clock: list[float]):
    hops = (THEIRS, HOP._replace(key="ill"))
    wrong, seconds, told = waited(clock, lambda _: hops, {"ill": False})
    assert (wrong, seconds, told) == ((), 0, ["not there yet", "ill before"])


# ---- in a transaction


def _host(stage: Stage, hops: Callable[[Release | None], tuple[Hop, ...]]) -> Host:
    return stage.host()._replace(hops=hops)


def _number(wanted: Release | None) -> int:
    """Which of the two releases below this is."""
    return 0 if wanted is None else len(wanted.targets)


@pytest.fixture
def two(tmp_path: Path) -> tuple[Stage, int, int]:
    """A host on which the first of two generations runs."""
    stage = Stage(tmp_path)
    first = stage.keep(released(stage.store, sysctl="a = 1\n", interfaces=None))
    second = stage.keep(released(stage.store, sysctl="a = 2\n"))
    transaction.activate(stage.host(), first, "test", Limits())
    return stage, first, second


def _breaks(wanted: Release | None) -> tuple[Hop, ...]:
    return (HOP._replace(ok=_number(wanted) < 2),)


def test_a_broken_hop_takes_a_change_back(two: tuple[Stage, int, int], clock: list[float]):
    stage, _, second = two
    before = stage.files()
    ended: list[bool] = []
    host = _host(stage, _breaks)._replace(
        let_go=lambda _: ended.append(stage.paths.journal.exists())
    )
    with pytest.raises(UndoneError, match=r"101 → 102 \(a.org\): no"):
        transaction.activate(host, second, "test", Limits())
    assert stage.files() == before
    assert ended == [False], "the slots that were left are ended once all is back"


def test_what_was_broken_before_is_told(two: tuple[Stage, int, int], clock: list[float]):
    stage, _, second = two
    told: list[str] = []
    host = _host(stage, lambda _: (HOP,))._replace(tell=lambda event, _: told.append(event))
    assert transaction.activate(host, second, "test", Limits())
    assert "ill before" in told


def test_a_way_back_is_not_taken_back_for_it(two: tuple[Stage, int, int], clock: list[float]):
    stage, _, second = two
    with pytest.raises(DegradedError, match="101 → 102"):
        transaction.activate(_host(stage, _breaks), second, "test", Limits(), settle=True)
    assert (stage.paths.current).readlink() == Path(f"generations/{second}")


def test_hops_are_awaited_though_the_clock_is_set(
    two: tuple[Stage, int, int], clock: list[float], monkeypatch: pytest.MonkeyPatch
):
    stage, _, second = two
    looks: list[int] = []

    def hops(wanted: Release | None) -> tuple[Hop, ...]:
        looks.append(_number(wanted))
        return (HOP._replace(ok=looks.count(second) != 1),)

    def now() -> float:
        return time.time() + 86400 * bool(stage.performed[1:])

    both = SimpleNamespace(time=now, monotonic=lambda: clock[0])
    monkeypatch.setattr(transaction, "time", both)
    assert transaction.activate(_host(stage, hops), second, "test", Limits())


def test_a_way_back_that_leaves_a_hop_broken_says_so(
    two: tuple[Stage, int, int], clock: list[float]
):
    stage, first, second = two
    looks: list[int] = []

    def hops(wanted: Release | None) -> tuple[Hop, ...]:
        looks.append(_number(wanted))
        return (HOP._replace(ok=len(looks) == 1),)

    with pytest.raises(DegradedError, match="101 → 102"):
        transaction.activate(_host(stage, hops), second, "test", Limits())
    assert stage.paths.current.readlink() == Path(f"generations/{first}")


def test_a_way_back_has_time_to_be_well(two: tuple[Stage, int, int], clock: list[float]):
    stage, first, second = two

    def hops(wanted: Release | None) -> tuple[Hop, ...]:
        # It is found ill until 15 seconds after it went back.
        well = _number(wanted) == first and not 1000 < clock[0] < 1020
        return (HOP._replace(ok=well),)

    with pytest.raises(UndoneError, match="101 → 102"):
        transaction.activate(_host(stage, hops), second, "test", Limits())
    assert clock[0] >= 1020


def test_a_repair_mends_hops(two: tuple[Stage, int, int], clock: list[float]):
    stage, first, _ = two
    broken = [True]

    def mend(_: Release | None) -> Any:
        broken.clear()
        return stage.host().mend(None)

    host = _host(stage, lambda _: (HOP._replace(ok=not broken),))._replace(mend=mend)
    assert transaction.activate(host, first, "test", Limits(), settle=True)
    assert not broken
    assert not transaction.activate(host, first, "test", Limits(), settle=True)


def test_status_shows_hops(two: tuple[Stage, int, int]):
    stage, _, _ = two
    found = report.look(_host(stage, lambda _: (HOP,)))["hops"]
    assert found == [{"source": "101", "target": "102", "name": "a.org", "ok": False, "why": "no"}]


def test_only_what_failed_is_ended(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """A slot that drains from a change before, or in a guest that was not changed, goes on."""
    ended: list[int] = []

    def draining(_: Any, guest: int) -> guests.Draining | None:
        return None if guest == 103 else guests.Draining(guest, "b", 5, 1, 3600, f"f{guest}")

    monkeypatch.setattr(guests, "draining", draining)
    monkeypatch.setattr(guests, "end", lambda _, drains: ended.append(drains.guest))
    stage = Stage(tmp_path)
    stage.platform.running |= dict.fromkeys((101, 102, 103), True) | {104: False}
    folders = {101: "f101", 102: "other", 103: "f103", 104: "f104"}
    guests.let_go(stage.platform, folders)  # type: ignore[arg-type]
    assert ended == [101]


# ---- what the builder writes


def test_both_know_the_same_of_an_ask():
    theirs = dataclasses.fields(kind_asks.Ask)
    assert Ask._fields == tuple(field.name for field in theirs)
    usual = {f.name: f.default for f in theirs if f.default is not dataclasses.MISSING}
    assert Ask._field_defaults == usual


def test_what_is_no_such_file_is_refused():
    whole = {"root": "", "uplink": "", "patience": 1, "asks": []}
    assert gate.paths(json.dumps(whole | {"more": 1}).encode()).asks == ()
    for wrong in (b"{}", b"[]", b"\xff", json.dumps(whole | {"asks": [{}]}).encode()):
        with pytest.raises(RefusedError):
            gate.paths(wrong)
