"""Whether the network does what its release is for: each hop of each declared way, asked for real.

Before a change the running release's ways are asked, after it the new one's. What fails now and did
not before, or is new, takes the change back, in words that name the innermost hop that fails. What
is none of ours (a program that is not started yet, a certificate that strangers give) is told.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from .release import Release
from .schema import RefusedError
from .store import Store

PATH = "/etc/phoenix/paths.json"
_PAUSE = 0.25
_BRIEF, _LOOKS = 5.0, 3
"""Seconds and looks that are left to a hop that was well before. Of these on a machine that is
busy, the looks take longer."""
_PROGRAM = "program"
_SLOW = 429
_THEIRS = frozenset({400, 404, 421})
"""What proxies say themselves of what they do not know."""


class Ask(NamedTuple):
    """One thing that is asked, as `builder.kinds.asks` says; addresses are known."""

    key: str
    source: str
    target: str
    name: str
    how: str
    address: str
    port: int = 0
    server: str = ""
    held: str = ""
    host: str = ""
    path: str = ""
    legal: tuple[tuple[int, int], ...] = ()
    behind: tuple[str, ...] = ()
    beyond: str = ""
    awaits: str = ""
    authority: str = ""
    ours: bool = True
    patience: int = 30


class Answer(NamedTuple):
    """What came back: statuses, 0 for one that did not come in time; or how far it came (`failed`
    is "place", "connection" or "handshake"), and why no further."""

    statuses: tuple[int, ...] = ()
    failed: str = ""
    why: str = ""


class Hop(NamedTuple):
    """One hop that was asked. `source` is "uplink", "host" or a guest's number, `target` who is
    next, `name` what for, `why` it is not ok. `key` tells it from all others, in every release. Of
    one that was not `asked` nothing is known; one that is not `ours` may fail until it once was
    well; one that only follows from another is `hidden`. `patience` is how many seconds it may fail
    after a change."""

    source: str
    target: str
    name: str
    ok: bool
    why: str = ""
    key: str = ""
    asked: bool = True
    ours: bool = True
    hidden: bool = False
    patience: float = 0

    def __str__(self) -> str:
        return f"{self.source} → {self.target} ({self.name}): {self.why or 'well'}"


class Paths(NamedTuple):
    """What a release says is to be asked; see `builder.kinds.paths`."""

    root: str
    uplink: str
    patience: int
    asks: tuple[Ask, ...]


def read(store: Store, wanted: Release | None) -> Paths | None:
    """What is to be asked of a release; None where it says nothing of it."""
    for target in wanted.targets if wanted else ():
        if target.path == PATH:
            return paths(store.read(target.content.digest))
    return None


def paths(data: bytes) -> Paths:
    """The content of a release's file; raises RefusedError. What a newer one may say more is
    passed over."""
    try:
        plain = json.loads(data)
        known = Ask._fields
        asks = []
        for each in plain["asks"]:
            found: dict[str, Any] = {key: each[key] for key in each if key in known}
            found["legal"] = tuple((low, high) for low, high in each.get("legal", ()))
            found["behind"] = tuple(each.get("behind", ()))
            asks.append(Ask(**found))
        return Paths(plain["root"], plain["uplink"], plain["patience"], tuple(asks))
    except (LookupError, TypeError, ValueError) as error:
        raise RefusedError(f"{PATH} is not understood: {error!r:.200}") from error


# ---- judging: values in, values out


def judged(
    patience: float,
    asks: Sequence[Ask],
    answers: Mapping[str, Answer],
    awaiting: Collection[str] = (),
) -> tuple[Hop, ...]:
    """What the answers say of each hop. `awaiting` are the asks whose target has no certificate
    yet, which may take `patience` seconds."""
    found: dict[str, Hop] = {}
    asked = {(ask.source, ask.target): ask.key for ask in asks}
    for ask in asks:
        hop = Hop(ask.source, ask.target, ask.name, ok=True, key=ask.key, ours=ask.ours)
        hop = hop._replace(patience=ask.patience)
        answer = answers[ask.key]
        behind = [answers[key] for key in ask.behind]
        if ask.key in awaiting:
            given = found.get(asked.get((ask.target, ask.authority), ""))
            hop = hop._replace(
                source=ask.target,
                target=ask.authority,
                ok=False,
                why=f"no certificate for {ask.server} has been given yet",
                hidden=given is not None and not given.ok,
                patience=max(patience, ask.patience),
            )
        elif answer.failed:
            # Without its network, or where it fails for the host too, nothing is known of it.
            lost = answer.failed == "place" or any(b.failed for b in behind if ask.how == "ping")
            why = f"{ask.address}{f' port {ask.port}' if ask.port else ''}: {answer.why}"
            why = answer.why if answer.failed == "place" else why
            hop = hop._replace(ok=False, why=why, asked=not lost)
        elif why := _wrong(ask, answer, behind):
            ends = (ask.target, ask.beyond) if ask.beyond else (ask.source, ask.target)
            hop = hop._replace(source=ends[0], target=ends[1], ok=False, why=why)
        found[ask.key] = hop
    return tuple(found.values())


def _wrong(ask: Ask, answer: Answer, behind: Sequence[Answer]) -> str:
    """Why the statuses that came back are not well, or ""."""
    inner = [status for each in behind for status in each.statuses]
    whole = bool(behind) and all(each.statuses and max(each.statuses) < 500 for each in behind)
    bad = [each for each in answer.statuses if not _well(ask, each, inner)]
    # Where a backend is away, it is enough that another one answers.
    if not bad or (not whole and len(bad) < len(answer.statuses)):
        return ""
    said = f"answers {bad[0]}" if bad[0] else "gives no answer in time"
    who = f"{ask.target} " if ask.beyond else ""
    if good := [each for each in inner if 0 < each < 500]:
        return f"{who}{said} for {ask.host}{ask.path}, and {ask.beyond} itself {good[0]}"
    return f"{who}{said} for {ask.host}{ask.path}"


def _well(ask: Ask, status: int, inner: Sequence[int]) -> bool:
    if any(low <= status <= high for low, high in ask.legal) or status == _SLOW:
        return True
    if not ask.behind:
        return not ask.legal
    if status in _THEIRS or status == 0:
        # It is this one's own answer, unless it comes from further behind.
        return status in inner
    # Of a backend that fails or is away, 5xx is the right answer.
    return status < 500 or not any(0 < each < 500 for each in inner)


# ---- comparing


def faults(
    now: Iterable[Hop], before: Mapping[str, bool], started: Collection[str] = ()
) -> tuple[tuple[Hop, ...], tuple[Hop, ...]]:
    """Of the hops that fail: what a change is to be taken back for, and what is only told. `before`
    says of each that was asked then whether it was well; programs in guests that were
    `started` anew may take their time."""
    wrong: list[Hop] = []
    told: list[Hop] = []
    for hop in now:
        if hop.ok or hop.hidden:
            continue
        was = before.get(hop.key)
        starts = hop.target == _PROGRAM and not hop.ours and hop.source in started
        heeded = hop.asked and not starts and was is not False and (hop.ours or was is True)
        (wrong if heeded else told).append(hop)
    return tuple(wrong), tuple(told)


def awaited(
    look: Callable[[], Iterable[Hop]],
    before: Mapping[str, bool],
    started: Collection[str],
    until: float,
    tell: Callable[[str, Mapping[str, Any]], None],
    back: bool = False,
) -> tuple[Hop, ...]:
    """What fails in the end of what must not. Each hop is asked again until it was well once, its
    patience is over, or `until` by the monotonic clock. What is only told is told.

    What was well before, and has no end in a guest that was `started` anew, has waited for nothing
    that takes time: it gets a few seconds and looks. Not so on the way `back`, where a hop was ill
    meanwhile: who noticed that looks again in its own time.
    """

    def brief(hop: Hop) -> bool:
        return not back and before.get(hop.key, False) and not {hop.source, hop.target} & {*started}

    passed: set[str] = set()
    failed: dict[str, tuple[float, int]] = {}
    while True:
        now = tuple(look())
        wrong, told = faults(now, before, started)
        passed |= {hop.key for hop in now if hop.ok}
        wrong = tuple(hop for hop in wrong if hop.key not in passed)
        moment = time.monotonic()
        last, failed = failed, {}
        for hop in wrong:
            since, looks = last.get(hop.key, (moment, 0))
            failed[hop.key] = (since, looks + 1)
        ended = any(
            _over(moment - failed[hop.key][0], failed[hop.key][1], hop, brief(hop)) for hop in wrong
        )
        if not wrong or ended or moment >= until:
            for hop in told:
                was = before.get(hop.key)
                tell("ill before" if was is False else "not there yet", {"why": str(hop)})
            return wrong
        if not last:
            tell("awaiting", {"why": words(wrong)})
        time.sleep(_PAUSE)


def _over(seconds: float, looks: int, hop: Hop, brief: bool) -> bool:
    """Whether a hop has failed for so long that it will not be well."""
    return seconds >= _BRIEF and looks >= _LOOKS if brief else seconds >= hop.patience


def well(found: Iterable[Hop]) -> dict[str, bool]:
    """Of each hop that could be asked, whether it is well."""
    return {hop.key: hop.ok for hop in found if hop.asked}


def words(found: Iterable[Hop]) -> str:
    """Hops that fail, as one text; each once, from however many sides it was seen."""
    seen = {(hop.source, hop.target, hop.name): hop for hop in reversed(tuple(found))}
    return "; ".join(str(hop) for hop in reversed(seen.values()))
