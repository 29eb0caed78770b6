"""An answer that never comes is not awaited for ever."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest

from builder.deploy import client
from builder.deploy.client import Client
from builder.deploy.ssh import LostError

HELLO = b"""{"phoenix": 1, "host": "a", "now": 1, "codecs": [], "generation": 0, "kept": {},
"journal": null, "trusts": true, "told": 0}""".replace(b"\n", b" ")


class Dead:
    """A connection that is gone after its first line, of which nobody hears."""

    def __init__(self) -> None:
        here, self.there = os.pipe()
        self.answers, self.requests = os.fdopen(here, "rb"), open(os.devnull, "wb")  # noqa: SIM115
        self.ended = threading.Event()
        os.write(self.there, HELLO + b"\n")

    def close(self) -> str:
        if not self.ended.is_set():
            self.ended.set()
            os.close(self.there)
            self.requests.close()
        return ""


@pytest.fixture
def dead() -> Iterator[Dead]:
    made = Dead()
    yield made
    made.close()
    made.answers.close()


def test_a_request(dead: Dead):
    with pytest.raises(LostError):
        Client(dead).ask("plan", within=0.1)
    assert dead.ended.is_set()


def test_each_word_gives_more_time(dead: Dead):
    """Who tells of what it does is there, however long that takes."""
    held = Client(dead)

    def tells(_: object) -> None:
        time.sleep(0.2)
        told.append(os.write(dead.there, next(lines)))

    told: list[int] = []
    lines = iter([b'{"event": "verified"}\n'] * 4 + [b'{"ok": true}\n'])
    tells(None)
    assert held.ask("verify", tells, within=0.5) == {"ok": True}
    assert len(told) == 5


def test_a_stream(dead: Dead, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(client, "PATIENCE", 0.1)
    with pytest.raises(LostError):
        Client(dead).stream("stage", iter((b"x",)))
    assert dead.ended.is_set()
