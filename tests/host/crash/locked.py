"""Whoever changes the host, by way of the lock that each of them takes."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from builder.host import actions, transaction
from builder.host.guests import Draining
from builder.host.serve import Session
from builder.host.state import Record
from tests.host.crash.machine import Machine
from tests.host.crash.scene import Scene, guarded, staged, went


def _kept(machine: Machine) -> None:
    manifest = (machine.paths.generation(2) / "manifest.json").read_bytes()
    next(staged(machine, manifest)._keep({"who": "another"}))


def _collected(machine: Machine) -> None:
    with _acting(machine):
        actions.collect(Namespace(keep=1))


def _pinned(machine: Machine) -> None:
    with _acting(machine, Paths=lambda: machine.paths):
        actions.pin(Namespace(generation=1))


def _asked(machine: Machine) -> None:
    session = Session(machine.host(), lambda *_: iter(()))
    next(session._pin({"who": "another", "pins": [[1, True]]}))


def _settled(machine: Machine) -> None:
    key = (101, "a", "old")
    with _acting(machine, _draining=lambda _: {key: Draining(*key[:2], 1, 600, 0, key[2])}):
        actions._end(machine.host(), key)


def _removed(machine: Machine) -> None:
    gone = Namespace(activate=lambda *_, **__: True)
    with _acting(machine, transaction=gone, load_record=lambda _: Record()):
        actions.remove(Namespace())


@contextmanager
def _acting(machine: Machine, **values: object) -> Iterator[None]:
    """Have commands work with this host."""
    values |= {"_host": machine.host}
    before = {name: getattr(actions, name) for name in values}
    vars(actions).update(values)
    try:
        yield
    finally:
        vars(actions).update(before)


LOCKED = (
    Scene("activate", "1", went(2)),
    Scene("confirm", "open", lambda machine: transaction.confirm(machine.host(), 2, "another")),
    Scene("take back", "open", guarded),
    Scene("keep", "1", _kept),
    Scene("gc", "2", _collected),
    Scene("settle", "2", _settled),
    Scene("pin", "2", _pinned),
    Scene("pin, asked for", "2", _asked),
    Scene("remove", "2", _removed),
)
"""All ways in which a host is changed: each takes the lock."""
