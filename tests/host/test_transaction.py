"""The transaction on files alone: forward, back, and back from half way."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event, Thread, Timer

import pytest

from builder.host import back, files, generations, report, transaction
from builder.host.decide import Effects
from builder.host.guests import QUIET, Draining
from builder.host.host import UndoneError
from builder.host.platforms import Platform
from builder.host.release import release
from builder.host.schema import RefusedError
from builder.host.state import load_journal
from builder.host.store import NODE
from builder.host.transaction import Limits
from tests.host.making import INTERFACES_PATH, SYSCTL, Stage, released

HAND = b"# by hand\nauto lo\niface lo inet loopback\n"


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def go(stage: Stage, number: int, confirm: int | None = None) -> bool:
    return transaction.activate(stage.host(), number, "test", Limits(confirm=confirm))


def test_there_and_back_is_byte_for_byte(stage: Stage):
    before = stage.files()
    number = stage.keep(released(stage.store, guests={101: {"bin/x": "1\n"}}))
    stage.platform.running[101] = False
    assert go(stage, number)
    after = stage.files()
    assert after["etc/sysctl.d/90-phoenix.conf"] == b"net.ipv4.ip_forward = 1\n"
    assert b"vmbr0" in after["etc/network/interfaces"]  # type: ignore[operator]
    assert after["var/lib/phoenix/current"] == "generations/1"
    assert ("create", 101, "debian-12.tar") in stage.platform.calls
    assert not go(stage, number), "nothing is left to do"
    go(stage, 0)
    now = stage.files()
    ours = ("var/lib/phoenix/", "var/lib/lxc/101/")
    assert {k: v for k, v in now.items() if not k.startswith(ours)} == before


def test_each_kept_generation_can_run_again(stage: Stage):
    numbers = [stage.keep(released(stage.store, sysctl=f"a = {n}\n")) for n in range(3)]
    for number in (*numbers, *reversed(numbers), 0, numbers[1]):
        go(stage, number)
        text = f"a = {number - 1}\n".encode() if number else None
        assert stage.files().get(SYSCTL[1:]) == text


def test_what_fails_is_taken_back(stage: Stage):
    first = stage.keep(released(stage.store))
    go(stage, first)
    before = stage.files()
    second = stage.keep(released(stage.store, sysctl="b = 2\n", interfaces=None))
    stage.faults.append("the gateway is silent")
    with pytest.raises(UndoneError, match="silent"):
        go(stage, second)
    assert stage.files() == before
    forth, back = stage.performed[-2:]
    assert forth.network
    assert back.network
    assert forth.sysctls == back.sysctls == (SYSCTL,)


def test_an_edit_by_hand_stays(stage: Stage):
    go(stage, stage.keep(released(stage.store)))
    path = stage.paths.at(INTERFACES_PATH)
    path.write_bytes(path.read_bytes() + b"\nauto eth9\niface eth9 inet manual\n")
    go(stage, stage.keep(released(stage.store, sysctl="b = 2\n")))
    assert b"eth9" in path.read_bytes()
    go(stage, 0)
    assert b"eth9" in path.read_bytes()
    assert b"vmbr0" not in path.read_bytes()


def test_drift_is_repaired(stage: Stage):
    number = stage.keep(released(stage.store))
    go(stage, number)
    stage.paths.at(SYSCTL).write_text("other = 1\n")
    assert report.look(stage.host())["drift"] == [SYSCTL]
    assert go(stage, number)
    assert report.look(stage.host())["drift"] == []


def test_unconfirmed_is_taken_back(stage: Stage):
    before = stage.files()
    number = stage.keep(released(stage.store))
    go(stage, number, confirm=60)
    with pytest.raises(RefusedError, match="confirming"):
        go(stage, number)
    assert back.take_back(stage.host(), "test")
    assert {k: v for k, v in stage.files().items() if "/phoenix/" not in k} == before
    assert not back.take_back(stage.host(), "test"), "there is nothing more to take back"


def test_confirmed_stays(stage: Stage):
    number = stage.keep(released(stage.store))
    go(stage, number, confirm=60)
    with pytest.raises(RefusedError):
        transaction.confirm(stage.host(), number + 1, "test")
    transaction.confirm(stage.host(), number, "test")
    assert not back.take_back(stage.host(), "test")
    assert stage.files()["var/lib/phoenix/current"] == f"generations/{number}"


def test_a_change_since_the_plan_is_refused(stage: Stage):
    data = released(stage.store)
    number = stage.keep(data)
    plan = report.plan(stage.host(), release(data))
    assert {change["path"] for change in plan["changes"]} >= {SYSCTL, INTERFACES_PATH}
    stage.paths.at(SYSCTL).write_text("meanwhile\n")
    with pytest.raises(RefusedError, match="changed since"):
        transaction.activate(stage.host(), number, "test", Limits(), plan["seal"])


def test_a_guest_that_is_neither_there_nor_to_be_made(stage: Stage):
    with pytest.raises(RefusedError, match="no generation 7"):
        go(stage, 7)


def test_what_was_ill_before_is_no_fault_of_a_change(stage: Stage):
    go(stage, stage.keep(released(stage.store)))
    stage.ill.append("guest 105 (whisper) does not run")
    assert go(stage, stage.keep(released(stage.store, sysctl="b = 2\n")))
    assert "ill before" in stage.events


def test_a_certificate_that_is_late_is_told(stage: Stage):
    """It is no fault of a change, whether it was late before or not."""
    go(stage, stage.keep(released(stage.store)))
    assert "worn" not in stage.events
    stage.worn.append("guest 105 (whisper) has a certificate of a that ends soon")
    assert go(stage, stage.keep(released(stage.store, sysctl="b = 2\n")))
    assert "worn" in stage.events


def test_a_signer_who_went_from_the_list_activates_nothing(stage: Stage):
    number, before = stage.keep(released(stage.store)), stage.files()
    stage.trusted = generations.trusted
    with pytest.raises(RefusedError, match="signed"):
        go(stage, number)
    assert stage.files() == before


def test_an_altered_file_of_the_store_activates_nothing(stage: Stage):
    data = released(stage.store)
    number, before = stage.keep(data), stage.files()
    network = stage.store.path(release(data).network.digest)
    network.write_bytes(bytes(len(network.read_bytes())))
    with pytest.raises(RefusedError, match="was altered"):
        go(stage, number)
    assert stage.files() == before


def test_before_the_first_release_nothing_drifts(stage: Stage):
    assert report.look(stage.host())["drift"] == []
    go(stage, stage.keep(released(stage.store)))
    go(stage, 0)
    assert report.look(stage.host())["drift"] == []


@pytest.mark.parametrize(("holder", "waits"), [("settle since noon", True), ("bob", False)])
def test_who_stops_old_slots_is_awaited(stage: Stage, holder: str, waits: bool):
    number, held, free = stage.keep(released(stage.store)), Event(), Event()

    def hold() -> None:
        with files.locked(stage.paths.lock, holder):
            held.set()
            free.wait(30)

    thread = Thread(target=hold)
    thread.start()
    held.wait(30)
    try:
        if not waits:
            with pytest.raises(files.BusyError, match="bob"):
                go(stage, number)
            return
        Timer(0.3, free.set).start()
        assert go(stage, number)
    finally:
        free.set()
        thread.join()


def test_what_was_taken_back_did_not_run(stage: Stage):
    first = stage.keep(released(stage.store))
    go(stage, first)
    second = stage.keep(released(stage.store, sysctl="b = 2\n"))
    go(stage, second, confirm=60)
    assert back.take_back(stage.host(), "test")
    third = stage.keep(released(stage.store, sysctl="c = 3\n"))
    go(stage, third, confirm=60)
    assert not generations.ran(stage.paths, third)
    transaction.confirm(stage.host(), third, "test")
    ran = [generations.ran(stage.paths, number) for number in (0, first, second, third)]
    assert ran == [True, True, False, True]


def test_what_lacked_before_is_no_fault_of_either_way(stage: Stage):
    host = stage.host()._replace(lacking=lambda: ("eth5 lacks 10.5.0.1/24",))
    number = stage.keep(released(stage.store))
    # Of the host as it was found, nothing is known to be ill.
    stage.faults.append("eth5 lacks 10.5.0.1/24")
    transaction.activate(host, number, "test", Limits(confirm=60))
    assert "ill before" in stage.events
    stage.faults.clear()
    assert back.take_back(stage.host(), "test")
    assert [each.lacking for each in stage.performed] == [("eth5 lacks 10.5.0.1/24",)] * 2
    second = stage.keep(released(stage.store, interfaces=None))
    transaction.activate(host, second, "test", Limits())
    assert stage.performed[-1].lacking == (), "the network does not change"


def _conf(stage: Stage, text: str) -> int:
    return stage.keep(released(stage.store, guests={101: {"nginx/a.conf": text}}))


def _folder(stage: Stage, number: int) -> str:
    found = generations.kept(stage.paths, number).release
    return found.guests[0].node.digest[:NODE]


def test_a_slot_in_use_is_no_place_for_a_change(stage: Stage):
    """The first one left it to its connections, and the second one needs it."""
    stage.platform.running[101] = False
    first, second, third = (_conf(stage, f"{n}\n") for n in range(3))
    go(stage, first)
    go(stage, second)
    before = stage.files()
    stage.draining[101] = Draining(101, "a", 2, 90, 510, _folder(stage, first))
    with pytest.raises(RefusedError, match=r"guest 101: 2 connections .* for 510 s at most"):
        go(stage, third)
    assert stage.files() == before
    plan = report.plan(stage.host(), generations.kept(stage.paths, third).release)
    assert [each.partition(":")[0] for each in plan["draining"]] == ["guest 101"]
    assert go(stage, first), "it runs from the wanted folder: going back is a flip"


@pytest.mark.parametrize(
    "drains",
    [
        Draining(101, "a", 0, int(QUIET), 500, "old"),
        Draining(101, "a", 5, 600, 0, "old"),
    ],
    ids=["nobody is left", "its grace is over"],
)
def test_a_slot_that_may_be_stopped_is_a_place(stage: Stage, drains: Draining):
    stage.platform.running[101] = False
    go(stage, _conf(stage, "1\n"))
    stage.draining[101] = drains
    assert go(stage, _conf(stage, "2\n"))


def test_a_slot_that_was_led_to_just_now_is_in_use(stage: Stage):
    """Who was led there may still be on the way."""
    stage.platform.running[101] = False
    go(stage, _conf(stage, "1\n"))
    stage.draining[101] = Draining(101, "a", 0, 1, 599, "old")
    with pytest.raises(RefusedError, match="0 connections"):
        go(stage, _conf(stage, "2\n"))
    assert go(stage, stage.keep(released(stage.store, sysctl="b = 2\n")))


def test_a_way_back_has_time_for_each_guest(stage: Stage):
    left: list[float] = []

    def perform(platform: Platform, effects: Effects) -> None:
        journal = load_journal(stage.paths.journal.read_bytes())
        left.append(journal.deadline - time.time())
        stage._perform(platform, effects)

    none = stage.keep(released(stage.store))
    guests = {number: {"bin/x": "1\n"} for number in range(101, 141)}
    stage.platform.running |= dict.fromkeys(guests, False)
    go(stage, stage.keep(released(stage.store, guests=guests)))
    host = stage.host()._replace(perform=perform)
    assert transaction.activate(host, none, "test", Limits(), settle=True)
    assert {each.what for each in stage.performed[-1].guests} == {"retire"}
    # An orderly shutdown may take a minute each.
    assert left[0] > 60 * len(guests)


def test_a_way_back_awaits_connections_for_a_moment(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(transaction, "_MOMENT", 1.5)
    stage.platform.running[101] = False
    first, second = _conf(stage, "1\n"), _conf(stage, "2\n")
    go(stage, first)
    go(stage, second)
    stage.draining[101] = Draining(101, "a", 2, 90, 510, "old")
    assert transaction.activate(stage.host(), first, "test", Limits(), settle=True)
    assert stage.events.count("waiting") == 1
