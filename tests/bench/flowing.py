"""The case that sends requests: through gateway, mesh and front, in a lab of the bench's own, and
through the same chain as people set it up by hand, on the same host in one run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench import stock
from tests.bench.figure import Figure, ratio
from tests.bench.measure import Run, Series, alternately
from tests.bench.stock import Stock
from tests.flow import built
from tests.flow.stage import Flow, flow

CHAT = "chat.example.org"
_PORT = 8000
_REPLY = "/bytes?n=1024"
_STREAM = "/tokens?n=300&every=10ms"
_PACED = "/tokens?n=3&every=5ms"
_WORKERS, _REPLIES, _STREAMS = 16, 400, 64
_AS_LONG = 1.01
"""A stream takes what its tokens take, whoever passes it on: as long as another's, to a hundredth,
which is what one run differs from the next."""
_BY_HAND = "by hand"
Measured = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Side:
    """One way to an answer: what is asked, from where; `found` is what came of each time."""

    stage: Flow
    url: str
    more: tuple[str, ...] = ()
    inside: str = ""
    found: list[Measured] = field(default_factory=list)

    def runs(self, path: str, workers: int, count: int, *more: str) -> Callable[[], Run]:
        """What asks; it fails where an answer does."""
        load = ("--workers", str(workers), "--count", str(count))
        words = ("measure", "--url", f"{self.url}{path}", *self.more, *load, *more)

        def asked() -> Run:
            place = self.inside
            said = self.stage.inside(place, *words) if place else self.stage.outside(*words)
            assert (said["failed"], said["asked"]) == (0, workers * count), said
            self.found.append(said)
            return Run(said["seconds"], 0)

        return asked

    def tail(self) -> Series:
        """The slowest hundredth of each run."""
        return Series(tuple(Run(each["p99"] / 1000, 0) for each in self.found))


def requests(rounds: int) -> Iterator[Figure]:
    """All of them, on one host."""
    with flow(alone=False) as stage:
        by_hand = stock.started(stage.host.up, built.program())
        yield from _chains(stage, by_hand, rounds)
        yield from _first(stage, rounds)
        yield from _alone(stage, rounds)


def _chains(stage: Flow, by_hand: Stock, rounds: int) -> Iterator[Figure]:
    ours, theirs = _ours(stage), _theirs(stage, by_hand)
    asked = (_REPLY, _WORKERS, _REPLIES)
    yield from _beside("replies", "replies of 1 kB", asked, (), rounds, ours, {_BY_HAND: theirs})
    ours, theirs = _ours(stage), _theirs(stage, by_hand)
    streams = {_BY_HAND: theirs, "by hand, at once": _theirs(stage, by_hand, stock.AT_ONCE)}
    what, asked = "64 streams of 300 tokens, 10 ms apart,", (_STREAM, _STREAMS, 1)
    every = ("--every", "10ms")
    yield from _beside("streams", what, asked, every, rounds, ours, streams, _AS_LONG)


def _beside(
    case: str,
    what: str,
    asked: tuple[str, int, int],
    more: tuple[str, ...],
    rounds: int,
    ours: _Side,
    others: Mapping[str, _Side],
    target: float = 1,
) -> Iterator[Figure]:
    """How long ours takes beside each other one, and what its slowest hundredth takes. What is
    promised is promised beside stock settings."""
    sides = (ours, *others.values())
    found = alternately(2 * rounds, *(side.runs(*asked, *more) for side in sides))
    for series, (name, other) in zip(found[1:], others.items(), strict=True):
        beside = f"{what} through gateway, mesh and front ÷ a chain {name}"
        least, tail = (target, 1.0) if name == _BY_HAND else (None, None)
        yield ratio(case, beside, found[0], name, series, least)
        yield ratio(f"{case}: p99", f"{beside}: p99", ours.tail(), name, other.tail(), tail)


def _first(stage: Flow, rounds: int) -> Iterator[Figure]:
    """The first token, through the chain and from the program itself."""
    ours, program = _ours(stage), _Side(stage, f"http://127.0.0.1:{_PORT}", inside="one")
    sides = (ours, program)
    alternately(2 * rounds, *(s.runs(_PACED, 1, 100, "--every", "5ms") for s in sides))
    through, itself = (statistics.median(each["first"] for each in s.found) for s in sides)
    what = "what the chain adds to a stream's first token"
    yield Figure("first", what, through - itself, "ms", 2)


def _alone(stage: Flow, rounds: int) -> Iterator[Figure]:
    """101 in front of the mesh, and a bare nginx in its place with the same TLS."""
    gateway = stage.network.gateway.guest
    port = stock.bare(stage.host.up, gateway.id, CHAT)

    def side(port: int) -> _Side:
        more = ("--resolve", f"{CHAT}:{port}:{gateway.address}", "--ca", stock.ROOT)
        return _Side(stage, f"https://{CHAT}:{port}", more, gateway.name)

    sides = (side(443), side(port))
    one, other = alternately(2 * rounds, *(s.runs(_REPLY, _WORKERS, _REPLIES) for s in sides))
    what = "the gateway in front of the mesh ÷ a bare nginx there with the same TLS"
    # 0.95 times its throughput.
    yield ratio("gateway", what, one, "a bare nginx", other, 1 / 0.95)


def _ours(stage: Flow) -> _Side:
    return _Side(stage, f"https://{CHAT}")


def _theirs(stage: Flow, by_hand: Stock, below: str = "") -> _Side:
    put = f"cat >/stock.crt <<'END'\n{by_hand.root.decode()}END"
    code, said = stage.host.client.run("sh", "-c", put)
    assert code == 0, said
    more = ("--resolve", f"*:443:{by_hand.address}", "--ca", "/stock.crt")
    return _Side(stage, f"https://{stock.NAME}{below}", more)
