"""The one procedure behind install, rollback, recovery and repair.

    lock → read what is wanted → preflight → unpack and staged checks → create what is missing →
    decide → journal and guard → apply → effects → health, hop by hop → await the confirmation →
    close

Until the journal is closed nothing is decided: whoever finds it open takes everything back.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from . import (
    back,
    bundles,
    decide,
    files,
    gate,
    generations,
    guard,
    journals,
    network,
    preflight,
    staged,
    survey,
)
from .apply import apply, perform
from .commands import FailedError
from .decide import Effects, Goal, Live
from .host import DegradedError, Host, UndoneError
from .release import Release
from .schema import RefusedError
from .state import Change, Journal, Record, dump_journal, load_record
from .store import NODE

_BACK, _AGAIN = 20.0, 300.0
"""Seconds that are left for the way back when hops are not awaited any more, and that they are
awaited at most where nothing is taken back."""
_MOMENT = 20.0
"""Seconds that a way back awaits connections that it would cut."""
_GUEST, _DAEMON, _UNITS = 240, 150, 60
"""Seconds that a guest may take to stop and start, and of one that goes on its daemon and units."""


class Limits(NamedTuple):
    """Seconds: to activate, and then to confirm; no `confirm` closes at once."""

    activate: int = 300
    confirm: int | None = None


class _Turn(NamedTuple):
    """What a transaction begins with: what ran and what shall, the guests to be made and those that
    run, and what is to change with what follows from it."""

    record: Record
    wanted: Release | None
    goal: Goal
    creates: Mapping[int, Mapping[str, Any]]
    running: tuple[int, ...]
    changes: tuple[Change, ...]
    effects: Effects


class _Was(NamedTuple):
    """What did not run as it should before a change, and of each hop whether it was well."""

    ill: tuple[str, ...] = ()
    hops: Mapping[str, bool] = MappingProxyType({})


def activate(
    host: Host, number: int, who: str, limits: Limits, sealed: str = "", settle: bool = False
) -> bool:
    """Have generation `number` run; False where it did already.

    With `sealed` only from the state that a plan was made from. With `settle`, as a rollback and a
    repair are done, what fails is told and nothing is taken back for it. Raises RefusedError where
    nothing was changed, UndoneError where everything was taken back, DegradedError where it could
    not be, or where it was settled and something fails.
    """
    with files.locked(host.paths.lock, who):
        _finish(host)
        turn = _turn(host, number, sealed, settle)
        _unpack(host, turn, settle)
        before, running = turn.record.generation, turn.running
        journal = Journal(number, before, "preparing", 0, who, tuple(turn.creates), running)
        was = _Was()
        try:
            turn = _created(host, journal, turn)
            if not turn.changes:
                journals.close(host, journal)
                return settle and number == before and _mended(host, turn.wanted)
            was = _Was() if settle else _looked(host, before)
            if settle:
                # No plan has said how long it may take, as one does of a deploy.
                limits = limits._replace(activate=limits.activate + _guests(turn.effects))
            until = time.monotonic() + limits.activate
            journal = _begin(host, journal, turn.changes, limits.activate)
            host.tell("changing", {"generation": number, "count": len(turn.changes) - 1})
            apply(host, turn.changes)
            fault = _runs(host, turn, journal, was, until)
            if fault and not settle:
                raise FailedError(fault)
            if fault and number == before:
                fault = _mend(host, turn.wanted)
            if limits.confirm is None:
                _stays(host, journal)
            else:
                _await(host, journal, limits.confirm)
        except (FailedError, RefusedError, OSError) as error:
            host.tell("failed", {"why": str(error)})
            back.undo(host, journal)
            _let_go(host, turn)
            _as_before(host, before, was)
            raise UndoneError(str(error)) from error
    if fault:
        host.tell("failed", {"why": fault})
        raise DegradedError(fault)
    return True


def confirm(host: Host, number: int, who: str) -> None:
    """The deployer's word that the host is reachable: generation `number` stays."""
    with files.locked(host.paths.lock, who):
        journal = journals.opened(host)
        if journal is None or journal.generation != number or journal.stage != "confirming":
            raise RefusedError(f"generation {number} does not wait for a confirmation")
        _stays(host, journal)
        host.tell("confirmed", {"generation": number})


def _stays(host: Host, journal: Journal) -> None:
    # Before it counts: what never ran is none that one goes back to.
    generations.mark(host.paths, journal.generation)
    journals.close(host, journal)


def _turn(host: Host, number: int, sealed: str, settle: bool) -> _Turn:
    record = load_record(files.read(host.paths.record))
    wanted = _trusted(host, number)
    goal = survey.goal_of(host, number, wanted, record, generations.bundles_of(host.paths, number))
    creates = survey.missing(host, wanted)
    if problems := list(preflight.problems(host, wanted, record, creates, settle)):
        raise RefusedError("; ".join(problems))
    live = survey.observe(host, record, goal)
    if sealed and decide.seal(live, record) != sealed:
        raise RefusedError("the host changed since the plan was made")
    running = tuple(guest for guest, runs in host.platform.all().items() if runs)
    turn = _decided(host, _Turn(record, wanted, goal, creates, running, (), Effects()), live)
    _await_drained(host, turn, settle)
    return turn


def _decided(host: Host, turn: _Turn, live: Live) -> _Turn:
    """What is to change where this stands, and what follows from it."""
    changes = decide.changes(turn.record, turn.goal, live, host.platform)
    found = survey.effects(host, turn.record, turn.goal.guests, changes, turn.running)
    return turn._replace(changes=changes, effects=found)


def _await_drained(host: Host, turn: _Turn, settle: bool) -> None:
    """Have nobody lose a connection in a slot that is needed again; raises RefusedError. A way back
    awaits them for a moment only, and then ends them."""
    end = None
    while draining := tuple(preflight.draining(host, turn.goal, turn.effects)):
        text = "; ".join(map(str, draining))
        if not settle:
            raise RefusedError(text)
        if end is None:
            host.tell("waiting", {"why": text})
            end = time.monotonic() + _MOMENT
        elif time.monotonic() > end:
            return
        time.sleep(1)


def _trusted(host: Host, number: int) -> Release | None:
    """A kept generation whose signer is on the list still and whose bytes are what was signed;
    None for generation 0. Raises RefusedError."""
    if number == 0:
        return None
    wanted = host.trusted(host.paths, number).release
    host.store.verify(host.store.needed(wanted), every=False)
    return wanted


def _unpack(host: Host, turn: _Turn, settle: bool) -> None:
    """Have the guests' folders, and their own programs judge them; raises RefusedError. A way back
    is not judged again."""
    for ref in turn.wanted.guests if turn.wanted else ():
        host.store.unpack(ref.node.digest, host.store.guest(ref.node.digest))
        bundles.folder(host.paths, ref.id)
    if settle:
        return
    faults = [*staged.faults(host, turn.record, turn.wanted), *staged.network(host, turn.changes)]
    if faults:
        raise RefusedError("; ".join(faults))


def _created(host: Host, journal: Journal, turn: _Turn) -> _Turn:
    """Make the guests that are missing, and look again; nothing that runs is changed by it."""
    if not turn.creates:
        return turn
    if host.guarded:
        guard.install(host.paths)
    files.write(host.paths.journal, dump_journal(journal), 0o600)
    for guest, creation in turn.creates.items():
        host.tell("create", {"guest": guest})
        host.platform.create(guest, creation)
    return _decided(host, turn, survey.observe(host, turn.record, turn.goal))


def _guests(effects: Effects) -> int:
    """Seconds that all guests may take, one after the other."""
    heavy = ("start", "restart", "retire")
    return sum(
        _GUEST if each.what in heavy else _UNITS + _DAEMON * len(each.daemons)
        for each in effects.guests
    )


def _begin(host: Host, journal: Journal, changes: tuple[Change, ...], seconds: int) -> Journal:
    """From here on, whatever happens, this transaction is confirmed or taken back."""
    network_changes = any(change.path == network.FILE for change in changes)
    lacking = tuple(host.lacking()) if network_changes else ()
    began, deadline = time.monotonic(), time.time() + seconds
    begun = journal._replace(stage="changing", deadline=deadline, lacking=lacking, changes=changes)
    if host.guarded:
        guard.install(host.paths)
        guard.arm(journal.generation, "changing", seconds)
    files.write(host.paths.journal, dump_journal(begun), 0o600)
    _in_time(began, seconds)
    return begun


def _await(host: Host, journal: Journal, seconds: int) -> None:
    began = time.monotonic()
    waiting = journal._replace(stage="confirming", deadline=time.time() + seconds)
    if host.guarded:
        guard.arm(journal.generation, "confirming", seconds)
    files.write(host.paths.journal, dump_journal(waiting), 0o600)
    _in_time(began, seconds)
    if host.guarded:
        guard.disarm(journal.generation, "changing")
    host.tell("confirming", {"generation": journal.generation, "seconds": seconds})


def _in_time(began: float, seconds: int) -> None:
    """A guard whose timer ended before its journal was there found nothing to take back."""
    if time.monotonic() - began >= seconds:
        raise FailedError(f"it stood still, and its {seconds} s are over")


def _looked(host: Host, number: int) -> _Was:
    """How the running generation is."""
    wanted = survey.read_generation(host, number)
    return _Was(tuple(host.health(wanted)), gate.well(host.hops(wanted)))


def _runs(host: Host, turn: _Turn, journal: Journal, was: _Was, until: float) -> str:
    """Have what runs be as the files say; what does not run so, or "". What was ill before is no
    fault of this change: it is told. `until` is when the guard comes, by the monotonic clock: the
    other one may be set right in between, by what waited for this very network."""
    try:
        host.tell("effects", {})
        perform(host, turn.effects._replace(lacking=journal.lacking))
        host.tell("health", {})
        faults, known = tuple(host.health(turn.wanted)), {*was.ill, *journal.lacking}
        for fault in faults:
            if fault in known:
                host.tell("ill before", {"why": fault})
        # No change makes a certificate late at once: none is taken back for it.
        for worn in host.worn(turn.wanted):
            host.tell("worn", {"why": worn})
        if new := [fault for fault in faults if fault not in known]:
            return "; ".join(new)
        started = {str(g.number) for g in turn.effects.guests if g.what in ("start", "restart")}
        return _hops(host, turn.wanted, was, started, until - time.monotonic())
    except (FailedError, OSError) as error:
        return str(error)


def _hops(
    host: Host,
    wanted: Release | None,
    was: _Was,
    started: Collection[str],
    seconds: float,
    back: bool = False,
) -> str:
    """The hops that fail and must not, or ""; `seconds` until all is taken back by the guard, or
    that they have after it was taken `back`."""
    until = time.monotonic() + max(0.0, seconds - _BACK)
    found = gate.awaited(lambda: host.hops(wanted), was.hops, started, until, host.tell, back)
    return gate.words(found)


def _let_go(host: Host, turn: _Turn) -> None:
    """End the slots of what has just failed. Proxies hold connections to them that they keep, and
    each is one more wrong answer; some say of no wrong answer that the connection is to be closed.
    """
    was = {number: held.node for number, held in turn.record.guests.items()}
    guests = turn.wanted.guests if turn.wanted else ()
    changed = {g.id: g.node.digest for g in guests if was.get(g.id, g.node.digest) != g.node.digest}
    try:
        host.let_go({number: node[:NODE] for number, node in changed.items()})
    except FailedError as error:
        host.tell("kept", {"why": str(error)})


def _as_before(host: Host, number: int, was: _Was) -> None:
    """Whether what was well before a change is so again after it was taken back; raises
    DegradedError."""
    if any(was.hops.values()):
        wanted = survey.read_generation(host, number)
        if fault := _hops(host, wanted, was, (), _AGAIN, back=True):
            host.tell("failed", {"why": fault})
            raise DegradedError(fault)


def _mended(host: Host, wanted: Release | None) -> bool:
    """Have run what the files say already; False where it all does. Raises DegradedError."""
    if not any(host.health(wanted)) and not gate.faults(host.hops(wanted), {})[0]:
        return False
    if fault := _mend(host, wanted):
        host.tell("failed", {"why": fault})
        raise DegradedError(fault)
    return True


def _mend(host: Host, wanted: Release | None) -> str:
    """Have run what the files say already; what still does not, or ""."""
    try:
        host.tell("effects", {})
        perform(host, host.mend(wanted))
        return "; ".join(host.health(wanted)) or _hops(host, wanted, _Was(), (), _AGAIN)
    except (FailedError, OSError) as error:
        return str(error)


def _finish(host: Host) -> None:
    """Take back what somebody began who is gone, since the lock is ours."""
    journal = journals.opened(host)
    if journal is not None and journal.stage != "confirming":
        back.undo(host, journal)
    elif journal is not None:
        raise RefusedError(
            f"generation {journal.generation} is {journal.stage} since {journal.why}: "
            "phoenix recover takes it back"
        )
