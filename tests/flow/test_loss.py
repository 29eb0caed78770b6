"""No request is lost, whatever is changed under it, and what is under way goes on.

Each kind of client asks steadily while changes are deployed, rolled back and renewed; the clients
count. What fails is told with its time and its words.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.flow import losses
from tests.flow.losses import CHANGES, GRACE, Losses
from tests.flow.stage import flow
from tests.integration.invoked import BROKEN
from tests.integration.machine import until

pytestmark = [
    pytest.mark.long(10),
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen"),
]
_ROUNDS = 5
_SOME, _MANY = 1000, 100_000
"""Requests of each kind of client at least."""
_LENGTHS = (10, 15, 20, 25, 30, 40, 60, 90, 150, 300)
"""Seconds of streams, of which some are over before their grace is, and some are not."""
_STOPS = ('_SLOTS, "drain", live)', '_SLOTS, "stop", live)')
_RESTARTS = (
    '_inside(platform, guest, _SLOTS, "flip", other)',
    (
        '_inside(platform, guest, "systemctl", "restart", f"phoenix-{daemon}@{live}.service")\n'
        '    _inside(platform, guest, _SLOTS, "flip", other)'
    ),
)


@pytest.fixture
def made() -> Iterator[Losses]:
    """A lab, deployed, with programs that answer."""
    with flow(losses.Described().site(), losses.host) as found:
        made = Losses(found)
        made.settled()
        yield made


def test_no_request_is_lost(made: Losses, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        for number in range(_ROUNDS):
            with made.loaded(f"round {number + 1}"):
                made.change(*CHANGES)
                made.renew()
                made.rollback()
                made.settled()
    finally:
        print(made.told())
    _assert_none_lost(made, _SOME)
    _streams_go_on(made)
    # Of those that hardly pause, some are sure to be under way when something stops.
    made.pause = "10ms"
    for changes in (_STOPS, _RESTARTS):
        _wrong_ones_are_seen(made, monkeypatch, changes)


@pytest.mark.deep
def test_no_request_is_lost_by_any_change(made: Losses) -> None:
    """Each change by itself, until each kind of client has asked often enough."""
    made.workers, made.pause = 4, "4ms"
    while made.least() < _MANY or min(made.made.values()) < _ROUNDS:
        try:
            for name in CHANGES:
                with made.loaded(name):
                    made.change(name)
                    made.settled()
            with made.loaded("rollback"):
                made.rollback()
                made.settled()
            with made.loaded("renewed certificates"):
                made.renew()
        finally:
            print(made.told())
        _assert_none_lost(made, 0)


def _assert_none_lost(made: Losses, least: int) -> None:
    assert not made.lost, "\n".join(made.lost)
    assert made.least() >= least, made.told()


def _streams_go_on(made: Losses) -> None:
    """Over a change of all that they pass: to their end, or until their grace is over. Another
    change, which needs the place where they go on, awaits that."""
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(made.flow.started(*_stream(n))) for n in _LENGTHS]
        sockets = {n: stack.enter_context(_socket(made, n)) for n in _LENGTHS}
        until(lambda: made.connections("gateway") >= 2 * len(_LENGTHS), "all are there", pause=0.1)
        began = time.time()
        made.change("one line", "static configuration", "changed front")
        switched = made.switches() - began
        done = made.change("one line", "static configuration", "changed front")
        ended = time.time() - began
        found = [each.end() for each in streams]
        talked = {n: each.wait(300) == 0 for n, each in sockets.items()}
    # Where the machine is slow, their time is over before the next change comes that far.
    waited = "waiting: guest" in done.told
    print(f"== streams: switched after {switched:.1f} s, again after {ended:.1f} s, {waited=}")
    print(f"   {[(each['seconds'], each['whole']) for each in found]} {talked}")
    assert ended > switched + GRACE
    # Slots count whole seconds, and what is said piece by piece takes longer than it should.
    over = switched + GRACE - 1
    for length, each in zip(_LENGTHS, found, strict=True):
        assert each["whole"] or each["seconds"] >= over, (over, each)
        assert each["whole"] or length * 1.1 > over, (over, each)
        assert talked[length] or length * 1.1 > over, (over, length)
    went = [each for each in found if each["whole"] and each["seconds"] > switched + 1]
    cut = [each for each in found if not each["whole"]]
    assert went, (switched, found)
    assert cut, (over, found)
    assert not all(talked.values()), talked


def _stream(length: int) -> tuple[str, ...]:
    return ("ask", "sse", "--url", losses.OUTSIDE, "--every", "100ms", "--n", str(length * 10))


@contextlib.contextmanager
def _socket(made: Losses, length: int) -> Iterator[subprocess.Popen[bytes]]:
    words = ("ask", "ws", "--url", losses.SOCKETS, "--n", "3", "--for", f"{length}s")
    process = subprocess.Popen(
        made.flow.command(*words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _wrong_ones_are_seen(
    made: Losses, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str]
) -> None:
    """A host program that does not let old slots drain, or restarts what runs."""
    before = len(made.lost)
    monkeypatch.setenv(BROKEN, json.dumps([("guests.py", *change)]))
    with made.loaded(f"broken: {change[1]}"):
        made.change("one line", "changed front")
    monkeypatch.delenv(BROKEN)
    assert len(made.lost) > before, made.told()
    print(f"   seen: {made.lost[before:]}")
    made.settled()
