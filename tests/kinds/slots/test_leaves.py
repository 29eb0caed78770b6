"""A daemon that no generation runs any more: it goes when those have gone whom it serves."""

from __future__ import annotations

import shutil

import pytest

from builder.host import guests
from tests.kinds.slots.world import (
    NAME,
    PUBLIC,
    RUN,
    SCRIPT,
    STATE,
    ask,
    connection,
    do,
    nft,
    started,
)
from tests.kinds.units import machine
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")]


def left(guest: Machine) -> str:
    """What drains, as the host program finds it out."""
    found = guest.run(*guests._any_slots("drains"))
    assert found.code in (0, 127), found
    return found.out


def test_a_daemon_that_is_dropped_leaves(lab: Lab, guest: Machine) -> None:
    """Who is there still goes on, and who comes is answered, until it is stopped."""
    kept = connection(lab)
    ask(kept)
    assert left(guest) == ""
    do(guest, "leave")
    slot, count, since, remaining, folder = left(guest).split()
    assert (slot, count, folder) == ("a", "1", "/opt/phoenix/1")
    assert int(since) < 20 < int(remaining)
    assert "Connection: close" in ask(kept)
    assert lab.ask("webui", NAME, port=PUBLIC) == "200 program\n"
    # No generation has the script any more: it is the slot's own.
    new = machine.copy(guest, 1, 7)
    shutil.rmtree(new / "bin")
    guest.flip(7)
    assert left(guest).split()[0] == "a"
    guest.must(*guests._any_slots("stop", "a"))
    assert left(guest) == ""
    assert guest.active("phoenix-nginx@a.service") == "inactive"
    assert "phoenix_slots" not in nft(guest, "list", "tables")
    assert guest.shell(f"ls {RUN} {STATE}/nginx") == f"{RUN}:\n\n{STATE}/nginx:\n"
    guest.flip(1)
    machine.forget(guest, 7)
    do(guest, "boot")
    guest.must("systemctl", "start", "phoenix-nginx@a.service")


@pytest.mark.parametrize("again", ["flip", "boot"])
def test_a_daemon_that_is_there_again_stays(guest: Machine, again: str) -> None:
    do(guest, "leave")
    if again == "flip":
        started(guest, "b")
        do(guest, "flip", "b")
        assert left(guest).split()[0] == "a"
        do(guest, "stop", "a")
        assert "slot b is live" in guest.run(SCRIPT, "stop", "b").err
    else:
        do(guest, "boot")
        assert left(guest) == ""
        assert "slot a is live" in guest.run(SCRIPT, "stop", "a").err
