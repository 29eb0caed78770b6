"""The deployer and the host program together, over a pipe: what goes well."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

from builder.deploy import deploy
from builder.deploy.memory import Memory, Place
from builder.host import VERSION
from tests.deploy.making import ADDRESS, Project, Wire, deployed
from tests.host.making import SYSCTL

GUESTS = {103: {"bin/x": b"1\n", "names/hosts": b"h\n"}}


def test_a_first_deploy(made: Project, wire: Wire, memory: Memory):
    name = made.release(guests=GUESTS)
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.generation) == ("done", 1), outcome
    files = wire.stage.files()
    assert files[SYSCTL[1:]] == b"a = 1\n"
    assert files["var/lib/phoenix/current"] == "generations/1"
    assert outcome.release == name
    assert "phoenix namespaces=" in wire.stage.paths.signers.read_text()
    assert wire.stage.paths.command.resolve().stat().st_mode & 0o111
    assert memory.last() == Place(ADDRESS, "root")
    assert not wire.stage.paths.journal.exists()


def test_it_is_confirmed_over_a_fresh_connection_to_the_new_address(
    made: Project, wire: Wire, memory: Memory
):
    made.release(address="198.18.0.99")
    assert deployed(made, wire, memory, at="root@198.18.0.1").verdict.result == "done"
    assert wire.places == [
        (Place("198.18.0.1", "root"), False),
        (Place("198.18.0.99", "root"), True),
    ]
    made.release(sysctl="b = 1\n")
    wire.places.clear()
    deployed(made, wire, memory)
    assert [at.address for at, _ in wire.places] == ["198.18.0.99", ADDRESS], "where it was last"


def test_nothing_is_sent_twice(made: Project, wire: Wire, memory: Memory):
    big = bytes(range(256)) * 4096
    made.release(guests={103: {"bin/x": big, "a": b"1\n"}})
    assert deployed(made, wire, memory).verdict.result == "done"
    wire.sent.clear()
    made.release(guests={103: {"bin/x": big, "a": b"2\n"}})
    assert deployed(made, wire, memory).verdict.generation == 2
    assert wire.bytes() < 6000
    wire.sent.clear()
    assert deployed(made, wire, memory).verdict.result == "unchanged"
    assert wire.bytes() < 3000


def test_what_broke_off_is_resumed(made: Project, wire: Wire, memory: Memory):
    noise = random.Random(1).randbytes(3 << 20)  # no codec makes it smaller
    made.release(guests={103: {"bin/x": noise, "bin/y": noise[: 1 << 20]}})
    wire.cut = 3 << 20
    assert deployed(made, wire, memory).verdict.result == "done"
    # All of it, what the break lost between the two ends, and the talk.
    assert wire.bytes() < (4 << 20) + (1 << 20)
    assert len([at for at, fresh in wire.places if not fresh]) == 2


def test_a_host_that_is_away_for_longer_is_tried_again(
    made: Project, wire: Wire, memory: Memory, monkeypatch: pytest.MonkeyPatch
):
    noise = random.Random(1).randbytes(1 << 20)
    made.release(guests={103: {"bin/x": noise}})
    assert deployed(made, wire, memory).verdict.result == "done"
    for comes_back, result in ((True, "done"), (False, "failed")):
        pauses: list[float] = []

        def pause(seconds: float, pauses: list[float] = pauses, back: bool = comes_back) -> None:
            pauses.append(seconds)
            wire.gone = set() if back and len(pauses) == 2 else {ADDRESS}

        monkeypatch.setattr(deploy, "time", SimpleNamespace(sleep=pause))
        made.release(guests={103: {"bin/x": noise[::-1] if comes_back else noise[::2]}})
        wire.cut = 1 << 18
        assert deployed(made, wire, memory).verdict.result == result
        assert pauses == [1, 2]


def test_gzip_where_an_end_has_no_zstd(
    made: Project, wire: Wire, memory: Memory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("builder.host.stream.codecs", lambda: ["gzip"])
    made.release(guests={103: {"bin/x": b"x" * 999_999}})
    assert deployed(made, wire, memory).verdict.result == "done"
    assert wire.bytes() < 150_000


def test_a_program_gives_way_to_none_that_is_older(made: Project, wire: Wire, memory: Memory):
    made.release()
    deployed(made, wire, memory)
    first = wire.stage.paths.command.readlink()
    for number, wins in ((0, False), (VERSION, True), (VERSION + 1, True)):
        program = f"#!/bin/sh\n# for release {number}\necho {number}\n".encode()
        made.release(sysctl=f"a = {number + 5}\n", program=program)
        assert deployed(made, wire, memory).verdict.result == "done"
        now = wire.stage.paths.command.readlink()
        assert (now != first) is wins
        first = now
