"""Two slots of a front under Debian's systemd: rules by the kernel, the tool by what it does."""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.emit.template import OVERLAYS
from builder.kinds import slots
from tests.judges import pki, programs
from tests.judges.namespace import Result
from tests.kinds.slots.world import (
    NAME,
    PUBLIC,
    RUN,
    SCRIPT,
    SLOT_A,
    SLOT_B,
    STATE,
    front,
    leads,
    net,
    nft,
)
from tests.kinds.units import machine
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")]
HERE = "10.0.0.114"


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[Lab, Machine]]:
    with front() as found:
        yield found


@pytest.fixture
def lab(world: tuple[Lab, Machine]) -> Lab:
    return world[0]


@pytest.fixture
def guest(world: tuple[Lab, Machine]) -> Machine:
    """The guest with slot a live, b stopped, generation 1 running."""
    found = world[1]
    while opened:
        opened.pop().close()
    found.flip(1)
    if leads(found) == "b" and found.run(SCRIPT, "flip", "a").code != 0:
        do(found, "start", "a")
    do(found, "flip", "a")
    do(found, "stop", "b")
    return found


def do(guest: Machine, *words: str) -> str:
    return guest.must(SCRIPT, *words)


def refused(done: Result, why: str) -> None:
    assert (done.code, done.out) == (1, ""), done
    assert why in done.err
    assert done.err.startswith("phoenix-slots: ")


def started(guest: Machine, slot: str) -> None:
    """Start a slot and wait until its port is listened on."""
    do(guest, "start", slot)
    port = {"a": SLOT_A, "b": SLOT_B}[slot]
    guest.until(lambda: f":{port} " in guest.must("ss", "-Hltn"))


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


opened: list[ssl.SSLSocket] = []


def connection(lab: Lab) -> ssl.SSLSocket:
    """A kept connection of a client outside."""
    context = ssl.create_default_context(cadata=pki.authority().root.decode())
    with within(lab):
        made = socket.create_connection((HERE, PUBLIC), timeout=10)
    opened.append(context.wrap_socket(made, server_hostname=NAME))
    return opened[-1]


class within:  # noqa: N801
    """Sockets made in here belong to the clients' network."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __enter__(self) -> None:
        import ctypes

        self.libc = ctypes.CDLL(None, use_errno=True)
        self.back = open("/proc/self/ns/net")
        with open(f"/proc/{self.lab.holder}/ns/net") as there:
            assert self.libc.setns(there.fileno(), 0x40000000) == 0

    def __exit__(self, *_: object) -> None:
        assert self.libc.setns(self.back.fileno(), 0x40000000) == 0
        self.back.close()


def ask(kept: ssl.SSLSocket) -> str:
    kept.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    found = b""
    while b"program" not in found:
        data = kept.recv(9999)
        assert data, "closed"
        found += data
    return found.decode()


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


# --- the tool


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "usage"),
        (["nonsense"], "usage"),
        (["start"], "a slot is a or b, not ''"),
        (["flip", "c"], "a slot is a or b, not 'c'"),
        (["boot", "a"], "boot takes no slot"),
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


# --- boots and kills


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


DYING = """#!/bin/sh
read -r count </tmp/count
read -r fatal </tmp/fatal
read -r how </tmp/how
read -r script </tmp/script
count=$((count + 1))
echo "$count" >/tmp/count
if [ "$count" = "$fatal" ]; then
    [ "$how" = before ] || /usr/bin/${0##*/} "$@"
    kill -KILL "$script"
    exit 1
fi
exec /usr/bin/${0##*/} "$@"
"""
# Each with what goes before it.
VERBS = {"start": [], "flip": ["start"], "drain": ["start", "flip"], "stop": ["start", "flip"]}


@pytest.mark.parametrize("how", [pytest.param("before", marks=pytest.mark.deep), "after"])
@pytest.mark.parametrize(
    "verb", ["flip", *(pytest.param(v, marks=pytest.mark.deep) for v in ("start", "drain", "stop"))]
)
def test_killed_at_any_step(lab: Lab, guest: Machine, verb: str, how: str) -> None:
    """Whatever was done by then, requests are answered, and a boot or the same word heals it."""
    for program in ("cat", "ln", "mkdir", "mv", "readlink", "rm", "sync", "systemctl", "flock"):
        guest.write(f"/tmp/steps/{program}", DYING)
    guest.shell("chmod 755 /tmp/steps/*")
    slot = "a" if verb in {"drain", "stop"} else "b"
    for fatal in range(1, 30):
        for word in VERBS[verb]:
            do(guest, word, "b")
        told = f"echo 0 >count; echo {fatal} >fatal; echo {how} >how; echo $$ >script"
        start = f"cd /tmp; {told}; PATH=/tmp/steps:/usr/sbin:/usr/bin exec {SCRIPT} {verb} {slot}"
        done = guest.run("sh", "-c", start)
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
