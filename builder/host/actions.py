"""What each command does."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from . import (
    VERSION,
    back,
    files,
    gate,
    generations,
    guard,
    guests,
    journals,
    network,
    perform,
    probe,
    transaction,
    unit,
)
from . import health as healthy
from .commands import FailedError
from .decide import Effects
from .gate import Hop
from .host import DegradedError, Host, UndoneError
from .paths import Paths
from .platforms import Platform, platform
from .release import Release
from .schema import RefusedError
from .state import load_record
from .store import Store
from .transaction import Limits

_TOLD = 1 << 20
"""How much of the events stays, in bytes."""
_LOOK = 3.0
"""Seconds between two looks at slots that drain."""
_LOST = 0.05
"""Seconds between two looks at the events of a transaction that runs as a unit of its own."""


def activate(given: argparse.Namespace) -> None:
    """The unit of a deploy: what it does stands in the events."""
    host = _host()
    limits = Limits(given.activate, given.confirm)
    with _ending(host):
        changed = transaction.activate(host, given.generation, given.who, limits, given.seal)
        host.tell("active", {"generation": given.generation, "changed": changed})


def rollback(given: argparse.Namespace) -> None:
    """Go to the generation before the running one, or to a given one."""
    host = _host()
    running = load_record(files.read(host.paths.record)).generation
    every = (0, *generations.numbers(host.paths))
    older = [n for n in every if n < running and generations.ran(host.paths, n)]
    to = given.to if given.to is not None else max(older, default=0)
    with _ending(host):
        changed = transaction.activate(host, to, _who("rollback"), Limits(), settle=True)
        host.tell("active", {"generation": to, "changed": changed})


def repair(_given: argparse.Namespace) -> None:
    """Have the running generation be what the host does."""
    host = _host()
    running = load_record(files.read(host.paths.record)).generation
    with _ending(host):
        changed = transaction.activate(host, running, _who("repair"), Limits(), settle=True)
        host.tell("active", {"generation": running, "changed": changed})


def recover(given: argparse.Namespace) -> None:
    """Take back what an open journal left."""
    host = _host()
    with _ending(host):
        back.take_back(host, _who("recover"), given.early, patience=math.inf)


def guarded(given: argparse.Namespace) -> None:
    """The guard's turn: whoever still activates is ended first, since it is over its time."""
    host = _host()
    if not _open(host, given):
        return
    subprocess.run(["systemctl", "kill", "--signal=KILL", unit.UNIT], check=False)
    host.tell("guard", {"generation": given.generation, "stage": given.stage})
    pause = _LOST
    # Who hangs in a disk's queue dies only once that moves; nobody else would come after this.
    while _open(host, given):
        try:
            with _ending(host, busy=False):
                back.take_back(host, _who("guard"))
        except files.BusyError:
            time.sleep(pause)
            pause = min(2 * pause, 1)
        else:
            return


def _open(host: Host, given: argparse.Namespace) -> bool:
    """Whether the transaction that is guarded is still open, and at this stage."""
    journal, guarded = journals.opened(host), (given.generation, given.stage)
    return journal is not None and (journal.generation, journal.stage) == guarded


def status(_given: argparse.Namespace) -> None:
    """Print what runs, and how it differs from what is declared."""
    from . import report

    json.dump(report.look(_host()), sys.stdout, indent=2)
    print()


def listed(_given: argparse.Namespace) -> None:
    """Print the kept generations."""
    paths = Paths()
    running = load_record(files.read(paths.record)).generation
    for each in generations.all_kept(paths):
        pinned = "  pinned" if generations.is_pinned(paths, each.number) else ""
        print(f"{'*' if each.number == running else ' '} {each.number:4} {each.id[:12]}{pinned}")


def pin(given: argparse.Namespace) -> None:
    """Have a generation stay whatever is collected."""
    _pin(given.generation, pinned=True)


def unpin(given: argparse.Namespace) -> None:
    """Let it go again."""
    _pin(given.generation, pinned=False)


def _pin(number: int, pinned: bool) -> None:
    paths = Paths()
    with files.locked(paths.lock, _who("pin")):
        generations.pin(paths, number, pinned)


def verify(_given: argparse.Namespace) -> None:
    """Compare every byte of every kept generation, and its signature."""
    host = _host()
    with _ending(host):
        for number in generations.numbers(host.paths):
            found = generations.trusted(host.paths, number)
            host.store.verify(host.store.needed(found.release))
            host.tell("verified", {"generation": number, "id": found.id})


def collect(given: argparse.Namespace) -> None:
    """Delete what nothing needs."""
    host = _host()
    with _ending(host), files.locked(host.paths.lock, _who("gc")):
        if host.paths.journal.exists():
            raise RefusedError("a transaction is open: see phoenix status")
        record = load_record(files.read(host.paths.record))
        used = {guest: _used(host.platform, guest) for guest in record.guests}
        garbage = generations.garbage(host.paths, host.store, record, given.keep, used)
        count = 0
        for path in list(garbage):
            generations.discard(path)
            count += 1
        _shorten(host.paths)
        host.tell("collected", {"count": count})


def remove(_given: argparse.Namespace) -> None:
    """Generation 0, and nothing of ours but the guests that we made."""
    host = _host()
    with _ending(host):
        transaction.activate(host, 0, _who("remove"), Limits(), settle=True)
        with files.locked(host.paths.lock, _who("remove")):
            # Somebody may have been faster.
            record = load_record(files.read(host.paths.record))
            if record.generation or host.paths.journal.exists():
                raise RefusedError("another deploy has begun meanwhile")
            _forget(host)


def _forget(host: Host) -> None:
    paths = host.paths
    guard.uninstall(paths)
    files.remove(paths.command)
    for path in paths.home.iterdir():
        # Templates are the operator's own: from them, guests would be made again.
        if path.name not in ("templates", paths.events.name):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # The last word; who follows holds the file, and reads it there.
    host.tell("active", {"generation": 0, "changed": True})
    paths.events.unlink(missing_ok=True)
    for folder in (paths.home, paths.at("/etc/phoenix")):
        with contextlib.suppress(OSError):
            folder.rmdir()


def settle(_given: argparse.Namespace) -> None:
    """Stop old slots that have drained, or whose grace is over; a unit of its own, since streams
    may take an hour."""
    host = _host()
    since: dict[tuple[int, str, str], float] = {}
    while draining := _draining(host):
        now = time.monotonic()
        since = {key: since.get(key, now) for key, each in draining.items() if not each.connections}
        for key, each in draining.items():
            if each.left <= 0 or now - since.get(key, now) >= guests.QUIET:
                # Who is at it just now is not awaited.
                with contextlib.suppress(files.BusyError):
                    _end(host, key)
        time.sleep(_LOOK)


def _end(host: Host, key: tuple[int, str, str]) -> None:
    """Stop a slot, unless it came to be used while others were at it."""
    with files.locked(host.paths.lock, _who(files.SETTLE)):
        # Until a transaction is closed, going back is a flip to the slot that drains.
        if not host.paths.journal.exists() and (still := _draining(host).get(key)):
            guests.end(host.platform, still)


def _draining(host: Host) -> dict[tuple[int, str, str], guests.Draining]:
    """The slots that drain, by guest, name and folder."""
    running = host.platform.all()
    ours = load_record(files.read(host.paths.record)).guests
    found = [guests.draining(host.platform, n) for n in ours if running.get(n)]
    return {(each.guest, each.slot, each.folder): each for each in found if each}


def version(_given: argparse.Namespace) -> None:
    """Print which of two programs is the newer one."""
    print(VERSION)


def serve(_given: argparse.Namespace) -> None:
    """Talk with the deployer."""
    from .serve import Session

    # Of a deployer whose network went away, nobody would ever hear: two hours, and it ends.
    signal.alarm(7200)
    Session(_host(), unit.follow).run(sys.stdin.buffer, sys.stdout.buffer)


def _who(what: str) -> str:
    return f"{what} since {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}, pid {os.getpid()}"


def _host() -> Host:
    paths = Paths()
    store = Store(paths)
    place = platform("proxmox" if os.path.isdir("/etc/pve") else "lxc", paths)

    def does(found: Platform, effects: Effects) -> None:
        perform.perform(paths, found, effects, _ask(found))

    def health(wanted: Release | None) -> Iterator[str]:
        return (each.text for each in healthy.faults(paths, place, wanted))

    def asked(wanted: Release | None) -> tuple[Hop, ...]:
        # What it takes to ask is dear to load.
        from . import hops

        return hops.hops(store, place, wanted)

    def mend(wanted: Release | None) -> Effects:
        found = [*healthy.faults(paths, place, wanted)]
        if gate.faults(asked(wanted), {})[0]:
            found += healthy.rules(wanted)
        return healthy.effects(found)

    def worn(wanted: Release | None) -> Iterator[str]:
        from . import seen

        return seen.worn(place, wanted)

    def draining(guest: int) -> guests.Draining | None:
        return guests.draining(place, guest)

    return Host(paths, store, place, does, health, _tell, mend=mend, hops=asked, worn=worn,
                lacking=lambda: network.lacking(paths.root), draining=draining,
                let_go=partial(guests.let_go, place))  # fmt: skip


def _ask(found: Platform) -> Any:
    def ask(guest: int, _daemon: str, slot: str) -> str | None:
        code, said = found.inside(guest, "cat", f"/opt/phoenix/current/slots/{slot}.ports")
        if code:
            return "its ports are not known"
        ports = tuple(int(word) for word in said.split())
        # Not every daemon needs it, nor had every generation it.
        code, said = found.inside(guest, "cat", f"/opt/phoenix/current/slots/{slot}.answers")
        port, path = said.split() if code == 0 else ("", "")
        process = found.process(guest)
        return probe.closed(process, ports) or (probe.silent(process, port, path) if port else None)

    return ask


def _used(found: Platform, guest: int) -> list[str] | None:
    """The folders that a guest's daemons run from; None where it is stopped and can't be asked."""
    if not found.all().get(guest):
        return None
    code, said = found.inside(guest, "sh", "-c", "readlink /var/lib/phoenix/slots/*/*")
    if code not in (0, 1):  # 1: it has no slots
        return None
    return [line.split("/")[3] for line in said.splitlines() if line.startswith("/opt/phoenix/")]


def _shorten(paths: Paths) -> None:
    """Of the events keep the last ones."""
    told = files.read(paths.events) or b""
    if len(told) > _TOLD:
        files.write(paths.events, told[-_TOLD:].partition(b"\n")[2])


@contextlib.contextmanager
def _ending(host: Host, busy: bool = True) -> Iterator[None]:
    """Have the events say why it failed; with `busy`, also that somebody else is at it."""
    try:
        yield
    except (RefusedError, FailedError, UndoneError, DegradedError, OSError) as error:
        kind = type(error).__name__.removesuffix("Error").lower()
        host.tell("ended", {"kind": kind, "why": str(error)})
        raise
    except files.BusyError as error:
        if busy:
            host.tell("ended", {"kind": "busy", "why": f"held by {error.who}"})
        raise


def _tell(event: str, facts: Mapping[str, Any]) -> None:
    line = json.dumps({"event": event, "at": round(time.time(), 3), **facts}) + "\n"
    # What is told is never a reason to fail: neither a full disk, nor that all of ours is gone, nor
    # a deployer that is.
    with contextlib.suppress(OSError), Paths().events.open("ab", buffering=0) as told:
        told.write(line.encode())
    with contextlib.suppress(OSError):
        print(line, end="", flush=True)
