"""The guard's turn, once nobody has confirmed in time."""

from __future__ import annotations

import subprocess
import time
from argparse import Namespace
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest

from builder.host import actions, files, transaction
from builder.host.transaction import Limits
from tests.host.making import SYSCTL, Stage, released


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """A host whose second generation waits for its confirmation."""
    made = Stage(tmp_path)
    for count, confirm in enumerate((None, 60)):
        number = made.keep(released(made.store, sysctl=f"a = {count}\n"))
        transaction.activate(made.host(), number, "test", Limits(confirm=confirm))
    made.events.clear()
    monkeypatch.setattr(actions, "_host", made.host)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: None)
    return made


def _runs(stage: Stage) -> bytes:
    return stage.paths.at(SYSCTL).read_bytes()


def test_it_takes_back_what_nobody_confirmed(stage: Stage):
    actions.guarded(Namespace(generation=2, stage="confirming"))
    assert _runs(stage) == b"a = 0\n"
    assert not stage.paths.journal.exists()


@pytest.mark.parametrize(("number", "at"), [(2, "changing"), (1, "confirming")])
def test_another_transaction_is_left(stage: Stage, number: int, at: str):
    actions.guarded(Namespace(generation=number, stage=at))
    assert _runs(stage) == b"a = 1\n"
    assert not stage.events


@pytest.mark.parametrize("confirmed", [False, True])
def test_it_outlasts_who_hangs(stage: Stage, monkeypatch: pytest.MonkeyPatch, confirmed: bool):
    now = 0.0
    held = ExitStack()
    held.enter_context(files.locked(stage.paths.lock, "hangs"))

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now > 600:
            held.close()
            if confirmed:
                transaction.confirm(stage.host(), 2, "the one that hung")

    clock = SimpleNamespace(
        monotonic=lambda: now, sleep=sleep, strftime=time.strftime, gmtime=time.gmtime
    )
    monkeypatch.setattr(actions, "time", clock)
    actions.guarded(Namespace(generation=2, stage="confirming"))
    assert _runs(stage) == (b"a = 1\n" if confirmed else b"a = 0\n")
    assert not stage.paths.journal.exists()
