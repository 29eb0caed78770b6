"""The one procedure behind install, rollback, recovery and repair.

    lock → read what is wanted → preflight → prepare → decide → journal and guard → apply →
    effects → health → await the confirmation → close

Until the journal is closed nothing is decided: whoever finds it open takes everything back.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from . import back, bundles, decide, files, generations, guard, journals, preflight, survey
from .apply import apply, perform
from .commands import FailedError
from .decide import Effects
from .host import DegradedError, Host, UndoneError
from .release import Release
from .schema import RefusedError
from .state import Change, Journal, Record, dump_journal, load_record


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds: to activate, and then to confirm; no `confirm` closes at once."""

    activate: int = 300
    confirm: int | None = None


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
        record = load_record(files.read(host.paths.record))
        wanted = survey.read_generation(host, number)
        used = generations.bundles_of(host.paths, number)
        goal = survey.goal_of(host, number, wanted, record, used)
        creates = survey.missing(host, wanted)
        _preflight(host, wanted, record, creates)
        live = survey.observe(host, record, goal)
        if sealed and decide.seal(live, record) != sealed:
            raise RefusedError("the host changed since the plan was made")
        running = tuple(guest for guest, runs in host.platform.all().items() if runs)
        journal = Journal(number, record.generation, "preparing", 0, who, tuple(creates), running)
        try:
            _prepare(host, journal, wanted, creates)
            changes = decide.changes(
                record, goal, survey.observe(host, record, goal), host.platform
            )
            if not changes:
                journals.close(host, journal)
                return False
            journal = _begin(host, journal, changes, limits.activate)
            host.tell("changing", {"generation": number, "count": len(changes) - 1})
            apply(host, changes)
            effects = survey.effects(host, record, goal.guests, changes, running)
            fault = _runs(host, effects, wanted)
            if fault and not settle:
                raise FailedError(fault)
            if limits.confirm is None:
                journals.close(host, journal)
            else:
                _await(host, journal, limits.confirm)
        except (FailedError, RefusedError, OSError) as error:
            host.tell("failed", {"why": str(error)})
            back.undo(host, journal)
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
        journals.close(host, journal)


def _preflight(
    host: Host, wanted: Release | None, record: Record, creates: Mapping[int, Mapping[str, Any]]
) -> None:
    problems = list(preflight.problems(host, wanted, record, creates))
    if host.paths.at("/etc/network/interfaces.new").exists():
        problems.append("/etc/network/interfaces.new is there: apply or discard that edit first")
    if problems:
        raise RefusedError("; ".join(problems))


def _prepare(
    host: Host,
    journal: Journal,
    wanted: Release | None,
    creates: Mapping[int, Mapping[str, Any]],
) -> None:
    """All that changes nothing that runs: folders of guests, and guests that are missing."""
    for ref in wanted.guests if wanted else ():
        host.store.unpack(ref.node.digest, host.store.guest(ref.node.digest))
        bundles.folder(host.paths, ref.id)
    if creates:
        files.write(host.paths.journal, dump_journal(journal), 0o600)
    for guest, creation in creates.items():
        host.tell("create", {"guest": guest})
        host.platform.create(guest, creation)


def _begin(host: Host, journal: Journal, changes: tuple[Change, ...], seconds: int) -> Journal:
    """From here on, whatever happens, this transaction is confirmed or taken back."""
    deadline = time.time() + seconds
    begun = replace(journal, stage="changing", deadline=deadline, changes=changes)
    if host.guarded:
        guard.install(host.paths)
        guard.arm(journal.generation, "changing", seconds)
    files.write(host.paths.journal, dump_journal(begun), 0o600)
    return begun


def _await(host: Host, journal: Journal, seconds: int) -> None:
    waiting = replace(journal, stage="confirming", deadline=time.time() + seconds)
    if host.guarded:
        guard.arm(journal.generation, "confirming", seconds)
    files.write(host.paths.journal, dump_journal(waiting), 0o600)
    if host.guarded:
        guard.disarm(journal.generation, "changing")
    host.tell("confirming", {"generation": journal.generation, "seconds": seconds})


def _runs(host: Host, effects: Effects, wanted: Release | None) -> str:
    """Have what runs be as the files say; what does not run so, or "" """
    try:
        host.tell("effects", {})
        perform(host, effects)
        host.tell("health", {})
        return "; ".join(host.health(wanted))
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
