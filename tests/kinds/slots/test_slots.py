"""Two slots of a front under Debian's systemd: rules by the kernel, the tool by what it does."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from builder.emit.template import OVERLAYS
from builder.host import health
from builder.kinds import slots
from tests.judges import programs
from tests.judges.namespace import Result
from tests.kinds.slots.world import (
    HERE,
    NAME,
    PUBLIC,
    RUN,
    SCRIPT,
    SLOT_A,
    SLOT_B,
    STATE,
    ask,
    connection,
    do,
    leads,
    net,
    nft,
    opened,
    started,
)
from tests.kinds.units import machine
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")]


def refused(done: Result, why: str) -> None:
    assert (done.code, done.out) == (1, ""), done
    assert why in done.err
    assert done.err.startswith("phoenix-slots: ")


def test_shell_is_sound() -> None:
    subprocess.run(["dash", "-n", OVERLAYS / "common/bin/phoenix-slots"], check=True)


def test_files_say_the_same_ports() -> None:
    member = net().member("webui")
    for slot in "ab":
        text = slots.rules(member, slot).decode()
        (elements,) = re.findall(r"elements = \{ (.*) \}", text)
        behind = [pair.split(" : ") for pair in elements.split(", ")]
        assert [int(port) for port, _ in behind] == [80, PUBLIC]
        (tree,) = (a.tree for a in slots.artifacts(net()) if a.guest == "webui")  # type: ignore[union-attr]
        ports = tree.file(f"slots/{slot}.ports").data.decode().split()
        assert ports == [port for _, port in behind]


# --- the rules


def test_outsiders_meet_the_front_and_nothing_else(lab: Lab, guest: Machine) -> None:
    """Though the program listens on all addresses, and the slot on its own port."""
    assert lab.ask("webui", NAME, port=PUBLIC) == "200 program\n"
    for address in (HERE, "fd00::114"):
        assert lab.reach(address, PUBLIC, SLOT_A, SLOT_B) == ["open", "silent", "silent"]
    plain = subprocess.run(
        ["nsenter", "--target", str(lab.holder), "--net", "curl", "-sm", "2", f"http://{HERE}:8080/"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert "program" not in plain.stdout
    # Without our rules they would meet the program, and the slot: the guard is what keeps them off.
    nft(guest, "delete table inet phoenix_slots")
    assert lab.reach(HERE, PUBLIC, SLOT_A) == ["open", "open"]
    assert "WRONG_VERSION" in lab.ask("webui", NAME, port=PUBLIC)
    do(guest, "boot")
    assert lab.reach(HERE, PUBLIC, SLOT_A) == ["open", "silent"]


@pytest.mark.parametrize(
    ("address", "port", "program"),
    [
        ("127.0.0.1", PUBLIC, True),
        ("::1", PUBLIC, True),
        (HERE, PUBLIC, False),
        ("fd00::114", PUBLIC, False),
        ("127.0.0.1", SLOT_A, False),
        ("::1", SLOT_A, False),
    ],
)
def test_from_inside_loopback_is_the_program(
    guest: Machine, address: str, port: int, program: bool
) -> None:
    ask = (
        "import socket,sys; s=socket.create_connection(sys.argv[1:3], 5); "
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'); print(s.recv(999))"
    )
    # The front answers no plain text.
    done = guest.run("python3", "-c", ask, address, str(port))
    assert ("HTTP/1.1 200" in done.out) is program
    assert ("ConnectionReset" in done.err or "400 Bad" in done.out) is not program


def test_other_tables_are_left_alone(guest: Machine) -> None:
    nft(guest, "table inet theirs { chain c { type filter hook input priority 5; counter; }; }")
    before = nft(guest, "list", "table", "inet", "theirs")
    started(guest, "b")
    do(guest, "flip", "b")
    do(guest, "boot")
    without = re.sub(r"packets.*", "", before)
    assert re.sub(r"packets.*", "", nft(guest, "list", "table", "inet", "theirs")) == without
    assert set(nft(guest, "list", "tables").splitlines()) == {
        "table inet phoenix_slots", "table inet theirs",
    }  # fmt: skip


def test_a_flip_moves_new_connections_only(lab: Lab, guest: Machine) -> None:
    kept = connection(lab)
    assert "200 OK" in ask(kept)
    started(guest, "b")
    assert do(guest, "live") == "a\n"
    assert [do(guest, "busy", slot) for slot in "ab"] == ["1\n", "0\n"]
    do(guest, "flip", "b")
    assert do(guest, "live") == "b\n"
    other = connection(lab)
    assert "200 OK" in ask(other)
    assert "200 OK" in ask(kept)
    assert [do(guest, "busy", slot) for slot in "ab"] == ["1\n", "1\n"]
    # The old slot now asks its clients to go, the new one does not.
    do(guest, "drain", "a")
    assert "Connection: close" in ask(kept)
    kept.close()
    assert "Connection: close" not in ask(other)
    guest.until(lambda: do(guest, "busy", "a") == "0\n")
    do(guest, "stop", "a")
    assert guest.active("phoenix-nginx@a.service") == "inactive"
    assert "200 OK" in ask(other)


def test_back_while_it_drains_is_one_flip(lab: Lab, guest: Machine) -> None:
    started(guest, "b")
    do(guest, "flip", "b")
    do(guest, "drain", "a")
    do(guest, "flip", "a")
    assert "Connection: close" not in ask(connection(lab))
    assert (do(guest, "live"), leads(guest)) == ("a\n", "a")


def test_idle_connections_survive_a_drain_until_they_are_used(lab: Lab, guest: Machine) -> None:
    """A drain by reload would close them under the client's hands."""
    kept = connection(lab)
    ask(kept)
    started(guest, "b")
    do(guest, "flip", "b")
    do(guest, "drain", "a")
    time.sleep(0.5)
    assert "200 OK" in ask(kept)


def test_what_drains_is_told(lab: Lab, guest: Machine) -> None:
    assert do(guest, "drains") == ""
    kept = connection(lab)
    ask(kept)
    started(guest, "b")
    assert do(guest, "drains") == "b 0 600 600 /opt/phoenix/1\n", "it was never asked to drain"
    do(guest, "flip", "b")
    do(guest, "drain", "a")
    guest.until(lambda: int(do(guest, "drains").split()[2]) >= 2)
    slot, count, since, remaining, folder = do(guest, "drains").split()
    assert (slot, count, folder) == ("a", "1", "/opt/phoenix/1")
    assert int(since) + int(remaining) == 600
    do(guest, "drain", "a")
    assert int(do(guest, "drains").split()[2]) >= 2, "it is asked once"
    do(guest, "flip", "a")
    do(guest, "flip", "b")
    again = time.monotonic()
    do(guest, "drain", "a")
    drained = int(do(guest, "drains").split()[2])
    assert drained <= time.monotonic() - again + 1, "it was led to meanwhile"
    do(guest, "stop", "a")
    assert do(guest, "drains") == ""
    do(guest, "drain", "a")
    assert guest.run("test", "-e", f"{RUN}/a").code == 1, "nothing has it run"


# Sends more than its client takes, and closes.
SLOW = """
import socket, time
server = socket.create_server(("127.0.0.1", 21001))
client = socket.create_connection(server.getsockname())
served, _ = server.accept()
served.setblocking(False)
try:
    while True:
        served.send(bytes(65536))
except BlockingIOError:
    served.close()
time.sleep(600)
"""


def test_a_slow_client_is_awaited_to_its_last_byte(guest: Machine) -> None:
    guest.must("ln", "-sfn", "/opt/phoenix/1", f"{STATE}/nginx/b")
    guest.write("/srv/slow.py", SLOW)
    guest.must("systemd-run", "--quiet", "--unit=slow", "python3", "/srv/slow.py")
    guest.until(lambda: "FIN-WAIT-1" in guest.must("ss", "-Htan"))
    assert do(guest, "busy", "b") == "1\n"
    guest.must("systemctl", "stop", "slow")
    guest.until(lambda: do(guest, "busy", "b") == "0\n")
    do(guest, "stop", "b")


# --- the tool


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "usage"),
        (["nonsense"], "usage"),
        (["start"], "a slot is a or b, not ''"),
        (["flip", "c"], "a slot is a or b, not 'c'"),
        (["boot", "a"], "boot takes no slot"),
        (["drains", "a"], "drains takes no slot"),
        (["start", "a"], "slot a is live"),
        (["drain", "a"], "slot a is live"),
        (["stop", "a"], "slot a is live"),
        (["flip", "b"], "slot b does not run"),
        (["busy", "b"], "slot b was not started"),
    ],
)
def test_refusals(lab: Lab, guest: Machine, words: list[str], why: str) -> None:
    refused(guest.run(SCRIPT, *words), why)
    assert lab.ask("webui", NAME, port=PUBLIC) == "200 program\n"


def test_a_running_slot_is_not_started_again(guest: Machine) -> None:
    started(guest, "b")
    before = guest.property("phoenix-nginx@b.service", "MainPID")
    refused(guest.run(SCRIPT, "start", "b"), "slot b runs already: stop it first")
    assert guest.property("phoenix-nginx@b.service", "MainPID") == before
    do(guest, "stop", "b")
    do(guest, "stop", "b")
    assert guest.run("test", "-L", f"{STATE}/nginx/b").code == 1


def test_a_killed_start_is_ended_by_the_same_word(guest: Machine) -> None:
    """What said that the slot shall run was there, and the slot was not."""
    guest.write("/tmp/dying/systemctl", '#!/bin/sh\nkill -KILL "$PPID"\n')
    guest.must("chmod", "755", "/tmp/dying/systemctl")
    done = guest.run("env", "PATH=/tmp/dying:/usr/sbin:/usr/bin", SCRIPT, "start", "b")
    assert done.code == -9 or done.code == 137
    assert guest.run("test", "-e", f"{RUN}/b").code == 0
    started(guest, "b")


def test_a_slot_that_traffic_is_led_to_is_not_stopped(guest: Machine) -> None:
    """As after a kill between the rules and the file that says which slot is live."""
    started(guest, "b")
    do(guest, "flip", "b")
    guest.write(f"{STATE}/live", "a\n")
    for verb in ("stop", "drain", "start"):
        refused(guest.run(SCRIPT, verb, "b"), "traffic is led to slot b")
    do(guest, "boot")
    assert leads(guest) == "a"
    do(guest, "stop", "b")


def test_rules_of_a_slot_are_its_generations_own(lab: Lab, guest: Machine) -> None:
    """Another generation has other ports; going back leads to where the old slot listens."""
    new = machine.copy(guest, 1, 7)
    for path in ("nginx/b.conf", "slots/b.nft", "slots/b.ports", "slots/a.nft", "slots/a.ports"):
        text = Path(new, path).read_text()
        machine.put(new / path, re.sub(r"\b(2[01])001\b", r"\g<1>555", text).encode())
    guest.flip(7)
    do(guest, "start", "b")
    guest.until(lambda: ":21555 " in guest.must("ss", "-Hltn"))
    do(guest, "flip", "b")
    assert guest.must("readlink", f"{STATE}/nginx/b") == "/opt/phoenix/7\n"
    kept = connection(lab)
    ask(kept)
    assert [do(guest, "busy", slot) for slot in "ab"] == ["0\n", "1\n"]
    assert lab.reach(HERE, 21555) == ["silent"]
    do(guest, "flip", "a")
    assert guest.must("readlink", f"{STATE}/nginx/a") == "/opt/phoenix/1\n"
    assert "200 OK" in ask(connection(lab))
    kept.close()
    do(guest, "stop", "b")
    machine.forget(guest, 7)


def test_wrong_rules_change_nothing(lab: Lab, guest: Machine) -> None:
    new = machine.copy(guest, 1, 7)
    text = Path(new, "slots/b.nft").read_text()
    machine.put(new / "slots/b.nft", text.replace("priority filter", "priority nonsense").encode())
    before = nft(guest, "list", "table", "inet", "phoenix_slots")
    guest.flip(7)
    do(guest, "start", "b")
    done = guest.run(SCRIPT, "flip", "b")
    assert done.code == 1
    assert "nonsense" in done.err
    assert nft(guest, "list", "table", "inet", "phoenix_slots") == before
    assert (do(guest, "live"), leads(guest)) == ("a\n", "a")
    assert lab.ask("webui", NAME, port=PUBLIC) == "200 program\n"
    do(guest, "stop", "b")
    machine.forget(guest, 7)


def test_a_slot_that_does_not_start_harms_nothing(lab: Lab, guest: Machine) -> None:
    new = machine.copy(guest, 1, 7)
    machine.put(new / "nginx/b.conf", b"nonsense;\n")
    guest.flip(7)
    guest.run(SCRIPT, "start", "b")
    guest.until(lambda: "unknown directive" in guest.journal("phoenix-nginx@b.service"))
    assert f":{SLOT_B} " not in guest.must("ss", "-Hltn")
    assert lab.ask("webui", NAME, port=PUBLIC) == "200 program\n"
    do(guest, "stop", "b")
    machine.forget(guest, 7)


def test_a_slot_whose_generation_is_gone_is_stopped(guest: Machine) -> None:
    started(guest, "b")
    guest.run("ln", "-sfn", "/opt/phoenix/gone", f"{STATE}/nginx/b")
    do(guest, "stop", "b")
    assert guest.run("test", "-L", f"{STATE}/nginx/b").code == 1


def test_connections_of_a_stopped_slot_are_forgotten(lab: Lab, guest: Machine) -> None:
    """Else a client that comes again by the same port may be led to where nobody listens."""
    if not (programs.folder("nftables") / "usr/sbin/conntrack").exists():
        pytest.skip("conntrack is not among the pinned programs: add it to input nftables")
    table = "grep -c sport=20001 /proc/net/nf_conntrack || :"
    ask(connection(lab))
    started(guest, "b")
    do(guest, "flip", "b")
    ask(connection(lab))
    assert guest.shell(table) != "0\n"
    do(guest, "stop", "a")
    assert guest.shell(table) == "0\n"
    assert guest.shell("grep -c sport=21001 /proc/net/nf_conntrack || :") != "0\n"
    assert "200 OK" in ask(opened[1])


def test_one_that_is_stopped_meanwhile_drains_no_more(guest: Machine) -> None:
    """Its mark is looked at, and then gone with its link."""
    guest.shell("test ! -L /var/lib/phoenix/slots/nginx/b && : >/run/phoenix-slots/b")
    try:
        found = guest.run("/opt/phoenix/current/bin/phoenix-slots", "drains")
        assert (found.code, found.out) == (0, "")
    finally:
        guest.shell("rm /run/phoenix-slots/b")


def ends_badly(guest: Machine) -> None:
    """Have slot b run, and end badly when it is told to."""
    bad = "/run/systemd/system/phoenix-nginx@b.service.d/bad.conf"
    guest.write(bad, "[Service]\nExecStop=/bin/false\n")
    guest.must("systemctl", "daemon-reload")
    started(guest, "b")


def faults(guest: Machine) -> list[str]:
    """What the host program says of the guest's slots."""

    def inside(_: int, *command: str) -> tuple[int, str]:
        found = guest.run(*command)
        return found.code, found.out

    place = SimpleNamespace(inside=inside)
    return [each for each in health._units(place, 114) if "@" in each]


def test_a_slot_that_had_to_be_killed_has_not_failed(guest: Machine) -> None:
    """Someone was still connected when its grace was over, say."""
    ends_badly(guest)
    do(guest, "stop", "b")
    assert guest.active("phoenix-nginx@b.service") == "inactive"
    # Nor while it is looked at before that is forgotten.
    ends_badly(guest)
    guest.must("rm", f"{RUN}/b")
    guest.must("systemctl", "stop", "phoenix-nginx@b.service")
    assert guest.active("phoenix-nginx@b.service") == "failed"
    assert faults(guest) == []
    # One that shall run has.
    guest.shell(f": >{RUN}/b")
    assert faults(guest) == ["phoenix-nginx@b.service failed"]
    do(guest, "stop", "b")
    assert faults(guest) == []
    guest.must("rm", "-r", "/run/systemd/system/phoenix-nginx@b.service.d")
    guest.must("systemctl", "daemon-reload")
    guest.must("systemctl", "stop", "phoenix-nginx@a.service")
    assert faults(guest) == ["phoenix-nginx@a.service does not run"]
    guest.must("systemctl", "start", "phoenix-nginx@a.service")
