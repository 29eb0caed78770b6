"""Slots at a boot, and after a kill at any step of the tool."""

from __future__ import annotations

import time

import pytest

from tests.kinds.slots.world import (
    HERE,
    NAME,
    PUBLIC,
    RUN,
    SCRIPT,
    SLOT_A,
    STATE,
    do,
    leads,
    nft,
    started,
)
from tests.kinds.units import dying, machine
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")]


def boots(guest: Machine) -> None:
    """What a boot brings, in a guest that runs: /run is new, no rules, nothing started."""
    guest.shell(f"systemctl stop 'phoenix-nginx@*' phoenix-slots; rm -rf {RUN}")
    guest.run("systemctl", "reset-failed")
    nft(guest, "flush ruleset")
    guest.must("systemctl", "start", "multi-user.target")


def up(lab: Lab, guest: Machine, slot: str) -> None:
    other = "ba"["ab".index(slot)]
    guest.until(lambda: guest.active(f"phoenix-nginx@{slot}.service") == "active")
    guest.until(lambda: lab.ask("webui", NAME, port=PUBLIC) == "200 program\n")
    assert guest.active(f"phoenix-nginx@{other}.service") == "inactive"
    assert (do(guest, "live"), leads(guest)) == (f"{slot}\n", slot)
    assert guest.must("readlink", f"{STATE}/nginx/{slot}") == "/opt/phoenix/1\n"


def test_boot_with_nothing_there(lab: Lab, guest: Machine) -> None:
    guest.shell(f"rm -rf {STATE}/nginx {STATE}/live")
    boots(guest)
    up(lab, guest, "a")


@pytest.mark.parametrize("torn", ["", "nonsense\n"])
def test_boot_with_a_torn_file(lab: Lab, guest: Machine, torn: str) -> None:
    guest.write(f"{STATE}/live", torn)
    boots(guest)
    up(lab, guest, "a")


def test_boot_runs_the_live_slot_from_the_running_generation(lab: Lab, guest: Machine) -> None:
    machine.copy(guest, 1, 7)
    guest.flip(7)
    started(guest, "b")
    do(guest, "flip", "b")
    guest.flip(1)
    # While it runs, it keeps what it runs from.
    do(guest, "boot")
    assert guest.must("readlink", f"{STATE}/nginx/b") == "/opt/phoenix/7\n"
    machine.forget(guest, 7)
    boots(guest)
    up(lab, guest, "b")


@pytest.mark.deep
def test_a_boot_with_wrong_rules_goes_on_without_the_daemon(guest: Machine) -> None:
    machine.put(machine.copy(guest, 1, 7) / "slots/a.nft", b"nonsense\n")
    guest.flip(7)
    guest.shell(f"systemctl stop 'phoenix-nginx@*' phoenix-slots; rm -rf {RUN}")
    began = time.monotonic()
    guest.must("systemctl", "start", "multi-user.target")
    assert time.monotonic() - began < 15
    guest.until(lambda: guest.active("phoenix-slots.service") == "failed")
    assert guest.active("phoenix-nginx@a.service") == "inactive"
    guest.flip(1)
    machine.forget(guest, 7)
    guest.must("systemctl", "reset-failed")
    boots(guest)
    guest.until(lambda: guest.active("phoenix-nginx@a.service") == "active")


def test_off_takes_everything_away(lab: Lab, guest: Machine) -> None:
    started(guest, "b")
    do(guest, "off")
    assert "phoenix_slots" not in nft(guest, "list", "tables")
    for slot in "ab":
        assert guest.active(f"phoenix-nginx@{slot}.service") == "inactive"
    assert lab.reach(HERE, SLOT_A) == ["refused"]
    do(guest, "off")
    boots(guest)
    up(lab, guest, "a")


# Each with what goes before it.
VERBS = {"start": [], "flip": ["start"], "drain": ["start", "flip"], "stop": ["start", "flip"]}


@pytest.mark.parametrize("how", [pytest.param("before", marks=pytest.mark.deep), "after"])
@pytest.mark.parametrize(
    "verb", ["flip", *(pytest.param(v, marks=pytest.mark.deep) for v in ("start", "drain", "stop"))]
)
def test_killed_at_any_step(lab: Lab, guest: Machine, verb: str, how: str) -> None:
    """Whatever was done by then, requests are answered, and a boot or the same word heals it."""
    called = ("cat", "ln", "mkdir", "mv", "readlink", "rm", "sync", "systemctl", "flock")
    dying.install(guest, called)
    slot = "a" if verb in {"drain", "stop"} else "b"
    for fatal in range(1, 30):
        for word in VERBS[verb]:
            do(guest, word, "b")
        done = dying.run(guest, fatal, how, f"{SCRIPT} {verb} {slot}", "/usr/sbin:/usr/bin")
        assert lab.reach(HERE, PUBLIC) == ["open"]
        do(guest, "boot")
        live = do(guest, "live").strip()
        assert leads(guest) == live
        assert guest.active(f"phoenix-nginx@{live}.service") == "active"
        # From here the host goes on as ever.
        if live == "b":
            guest.run(SCRIPT, "stop", "a")
            do(guest, "start", "a")
            do(guest, "flip", "a")
        do(guest, "stop", "b")
        if done.code == 0:
            break
        assert done.code == 137 or done.code == -9, done
    assert done.code == 0
    assert fatal >= 4
    assert lab.ask("webui", NAME, port=PUBLIC) == "200 program\n"
