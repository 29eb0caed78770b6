"""The whole reference network in small, running: four guests with Debian's systemd, as unprivileged
containers have it, on one bridge. What is shown here is what no unit says by itself: that the
programs live with their sandboxes, find their certificates, and change slots without loss.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter

import pytest

from builder.kinds import units
from builder.network import Network
from builder.tree import File, Tree
from tests.kinds.slots.world import SCRIPT, program
from tests.kinds.traefik.running import documents, network
from tests.kinds.units import lab as labs
from tests.kinds.units import machine
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")]

OUTSIDE = "ai.home.example.org"
GUESTS = ("step-ca", "traefik-mesh", "webui", "nginx-gateway")
DAEMONS = {
    "step-ca": ("phoenix-step-ca.service", 6103),
    "traefik-mesh": ("phoenix-traefik@a.service", 6102),
    "webui": ("phoenix-nginx@a.service", 6101),
    "nginx-gateway": ("phoenix-nginx@a.service", 6101),
}


def net() -> Network:
    """One service, all of whose hops are here."""
    site, _ = documents()
    service = {"backends": ["webui"], "port": 8080, "expose": [OUTSIDE], "inside": True}
    return network({**site, "services": {"webui": service}, "certificates": {}})


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with labs.running(net(), GUESTS) as found:
        program(found.guests["webui"])
        yield found


def answered(lab: Lab) -> bool:
    return lab.ask("nginx-gateway", OUTSIDE) == "200 program\n"


def queues(guest: Machine) -> set[str]:
    """Lengths of the queues of all listeners that outsiders are led to."""
    listed = guest.must("ss", "-Hltn", "sport", ">=", "20000").splitlines()
    return {line.split()[2] for line in listed if "127.0.0.1" not in line}


def cycle(guest: Machine) -> list[str]:
    """Units that wait for each other in a ring, [] where there is none.

    systemd drops a job of such a ring at boot, sometimes this one and sometimes that, and says so
    before anybody listens.
    """
    after: dict[str, list[str]] = {}
    # A unit whose job was dropped is not in memory, and no pattern finds it.
    ours = guest.shell("cd /usr/local/lib/systemd/system; ls -d phoenix-*.* | grep -v @").split()
    shown = guest.must("systemctl", "show", "--property=Id,After", "*", *ours)
    for block in shown.split("\n\n"):
        told = dict(line.split("=", 1) for line in block.splitlines())
        after[told["Id"]] = told.get("After", "").split()
    try:
        TopologicalSorter(after).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def moment(guest: Machine, unit: str, name: str) -> int:
    found = int(guest.property(unit, f"{name}TimestampMonotonic"))
    assert found, (unit, name)
    return found


def test_client_to_gateway_to_mesh_to_front_to_program(lab: Lab) -> None:
    """By certificates that each guest ordered at its boot, from a CA that began beside it."""
    lab.guests["nginx-gateway"].until(lambda: answered(lab), 90)
    for name, guest in lab.guests.items():
        # Under load, mounts of the distribution's own may fail in such a guest.
        failed = guest.must(
            "systemctl", "list-units", "--failed", "--no-legend", "phoenix-*", "*.service"
        )
        assert failed == "", name


def verified(guest: Machine, *more: str) -> str:
    """What systemd-analyze has to say of all our units, both slots of each."""
    folder = "/opt/phoenix/current/units"
    names = guest.must("ls", folder).split()
    found = [n for n in names if n.endswith((".service", ".path", ".timer"))]
    paths = [f"{folder}/{one}" for name in found for one in units._instances(name)]
    done = guest.run(
        "systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *paths, *more
    )
    return done.out + done.err + ("" if done.code == 0 else f"exit {done.code}")


@pytest.mark.parametrize("name", GUESTS)
def test_systemd_takes_every_unit(lab: Lab, name: str) -> None:
    guest = lab.guests[name]
    # A slot that was never started has no folder in which its program would be found.
    folder = f"/var/lib/phoenix/slots/{lab.net.member(name).daemon}"
    guest.run("ln", "-s", "/opt/phoenix/1", f"{folder}/b")
    assert verified(guest) == ""
    guest.run("rm", f"{folder}/b")
    guest.write("/tmp/bad.service", "[Service]\nExecStart=/bin/true\nUsr=x\n")
    assert "Unknown key 'Usr'" in verified(guest, "/tmp/bad.service")


@pytest.mark.parametrize("name", GUESTS)
def test_order_of_the_boot(lab: Lab, name: str) -> None:
    guest, (daemon, _) = lab.guests[name], DAEMONS[name]
    assert cycle(guest) == []
    names = moment(guest, "phoenix-names.service", "ExecMainExit")
    assert names <= moment(guest, "sysinit.target", "ActiveEnter")
    began = moment(guest, daemon, "ExecMainStart")
    assert names <= began
    if "@" in daemon:
        assert moment(guest, "phoenix-slots.service", "ActiveEnter") <= began
        assert guest.active(daemon.replace("@a", "@b")) == "inactive"


@pytest.mark.parametrize("name", GUESTS)
def test_daemons_are_what_their_units_say(lab: Lab, name: str) -> None:
    """Their own user, no capability, filtered system calls, a root that they can't write."""
    guest, (daemon, user) = lab.guests[name], DAEMONS[name]
    process = guest.property(daemon, "MainPID")
    lines = guest.read(f"/proc/{process}/status").splitlines()
    status = dict(line.split(":\t") for line in lines if ":\t" in line)
    assert set(status["Uid"].split()) == {str(user)}
    assert set(status["Groups"].split()) <= {str(user), "6100"}
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")
    root = ["nsenter", "--target", process, "--mount", "touch"]
    assert "Read-only" in guest.run(*root, "/usr/phoenix").err
    assert "Read-only" in guest.run(*root, "/opt/phoenix/current/phoenix").err
    assert guest.property(daemon, "NRestarts") == "0"


def test_queues_are_as_long_as_the_kernel_allows(lab: Lab) -> None:
    """Go asks /proc/sys for it; where that is hidden, bursts are refused beyond 128."""
    for name in ("traefik-mesh", "webui"):
        assert queues(lab.guests[name]) == {"4096"}


def test_twins() -> None:
    """What these tests see where the units are less careful: the names' unit waits for what waits
    for it, Traefik's queue is short.
    """
    files = {e.path: e for e in machine.tree(net(), "traefik-mesh")}
    for path, line in (
        ("units/phoenix-names.path", b"DefaultDependencies=no\n"),
        ("units/phoenix-traefik@.service", b"ProcSubset=all\n"),
    ):
        entry = files[path]
        assert isinstance(entry, File)
        assert line in entry.data
        files[path] = File(path, entry.data.replace(line, b""))
    programs = net().mesh.programs
    with machine.booted(Tree.of(files.values()), programs) as guest:
        guest.until(lambda: guest.active("phoenix-traefik@a.service") == "active")
        assert {"phoenix-names.service", "phoenix-names.path"} <= set(cycle(guest))
        assert queues(guest) == {"128"}


def test_keys_are_read_by_whom_they_are_for(lab: Lab) -> None:
    guest = lab.guests["webui"]
    key = "/var/lib/phoenix/certificates/webui.phoenix.internal/key.pem"
    assert guest.must("stat", "-c", "%U %G %a", key) == "phoenix-lego phoenix-certs 640\n"
    as_other = ["setpriv", "--reuid=6103", "--regid=6103", "--clear-groups"]
    assert "denied" in guest.run(*as_other, "cat", key).err


def serial(lab: Lab, guest: str) -> str:
    found = lab.guests[guest].must(
        "sh", "-c", "cat /var/lib/phoenix/certificates/*/certificate.pem | openssl x509 -serial"
    )
    return found.splitlines()[0]


def served(lab: Lab, guest: str, port: int) -> str:
    """The serial number of the certificate with which a slot of the guest answers."""
    name = lab.net.member(guest).fqdn
    script = f"openssl s_client -connect 127.0.0.1:{port} -servername {name} </dev/null 2>/dev/null"
    return lab.guests[guest].shell(f"{script} | openssl x509 -serial -noout").strip()


@pytest.mark.parametrize(("name", "port"), [("traefik-mesh", 20000), ("webui", 20001)])
def test_timer_renews_and_the_daemon_takes_it(lab: Lab, name: str, port: int) -> None:
    guest = lab.guests[name]
    old = serial(lab, name)
    assert served(lab, name, port) == old
    soon = "[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nRandomizedDelaySec=0\nOnActiveSec=1\n"
    guest.write("/run/systemd/system/phoenix-acme.timer.d/soon.conf", soon)
    guest.shell("rm /var/lib/phoenix/certificates/*/certificate.pem; systemctl daemon-reload")
    guest.must("systemctl", "restart", "phoenix-acme.timer")
    guest.until(lambda: guest.run("sh", "-c", "ls /var/lib/phoenix/certificates/*/c*").code == 0)
    assert serial(lab, name) != old
    guest.until(lambda: served(lab, name, port) == serial(lab, name))
    assert guest.property(DAEMONS[name][0], "NRestarts") == "0"


@pytest.mark.parametrize(
    "name",
    [
        "traefik-mesh",
        *(pytest.param(name, marks=pytest.mark.deep) for name in GUESTS if "mesh" not in name),
    ],
)
def test_a_killed_daemon_comes_back(lab: Lab, name: str) -> None:
    guest, (daemon, _) = lab.guests[name], DAEMONS[name]
    before = guest.property(daemon, "MainPID")
    # SIGHUP counts as a clean end, which a restart on failure would leave be.
    guest.must("systemctl", "kill", "--signal=KILL", daemon)
    guest.until(lambda: guest.property(daemon, "MainPID") not in {before, "0"})
    guest.until(lambda: answered(lab))


def test_reload_does_not_hit_a_traefik_that_is_starting(lab: Lab) -> None:
    guest, unit = lab.guests["traefik-mesh"], "phoenix-traefik@a.service"
    for _ in range(3):
        guest.shell(f"systemctl restart {unit}; systemctl reload {unit}")
        assert guest.active(unit) == "active"
    assert guest.property(unit, "NRestarts") == "0"
    guest.until(lambda: answered(lab))


def test_no_reload_comes_while_slots_change(lab: Lab) -> None:
    """It would fail with the slot that ends, and be told of as a fault until the next one."""
    guest, unit = lab.guests["traefik-mesh"], "phoenix-traefik-certificate.service"
    lock, mark = "/var/lib/phoenix/slots/.lock", "/run/changing"
    holding = f"touch {mark}; sleep 60"
    guest.must("systemd-run", "--unit=changing", "flock", lock, "sh", "-c", holding)
    guest.until(lambda: guest.run("test", "-e", mark).code == 0)
    guest.must("systemctl", "start", "--no-block", unit)
    running = f"cat /proc/$(systemctl show --property=MainPID --value {unit})/comm"
    guest.until(lambda: guest.run("sh", "-c", running).out == "flock\n")
    # What comes next waits for neither.
    slots = "phoenix-slots.service"
    guest.must("systemctl", "restart", "--no-block", slots)
    guest.until(lambda: guest.active(slots) == "activating")
    guest.must("systemctl", "stop", "changing")
    guest.until(lambda: guest.active(unit) == "inactive" and guest.active(slots) == "active")
    assert guest.property(unit, "Result") == guest.property(slots, "Result") == "success"
    assert guest.property(slots, "NRestarts") == "0"


def test_logs_are_turned(lab: Lab) -> None:
    guest, folder = lab.guests["nginx-gateway"], "/var/log/phoenix-nginx"
    assert answered(lab)
    guest.until(lambda: OUTSIDE in guest.read(f"{folder}/access.json"))
    assert guest.must("stat", "-c", "%U %a", folder) == "phoenix-nginx 750\n"
    guest.must("systemctl", "start", "phoenix-nginx-logs.service")
    assert guest.run("test", "-e", f"{folder}/access.json.1").code == 1
    small = "[Service]\nExecStart=\nExecStart=/opt/phoenix/current/bin/phoenix-logs 1\n"
    guest.write("/run/systemd/system/phoenix-nginx-logs.service.d/small.conf", small)
    guest.must("systemctl", "daemon-reload")
    for _ in range(2):
        guest.must("systemctl", "start", "phoenix-nginx-logs.service")
        guest.until(lambda: guest.run("test", "-e", f"{folder}/access.json").code == 0)
    assert guest.must("cat", f"{folder}/access.json") == ""
    assert OUTSIDE in guest.read(f"{folder}/access.json.1")
    assert answered(lab)
    guest.until(lambda: OUTSIDE in guest.read(f"{folder}/access.json"))


def started(guest: Machine, new: str) -> None:
    """Have a guest's slot run and answer."""
    guest.must(SCRIPT, "start", new)
    port = str(int(guest.read(f"/opt/phoenix/current/slots/{new}.ports").split()[-1]))
    guest.until(lambda: f":{port} " in guest.must("ss", "-Hltn"))
    if guest.read("/opt/phoenix/current/slots/daemon") == "traefik\n":
        api = {"a": 20900, "b": 21900}[new]
        ask = f"import urllib.request as u; print(u.urlopen('http://127.0.0.1:{api}/api/rawdata').read())"
        guest.until(lambda: "webui" in guest.run("python3", "-c", ask).out)


def changed(lab: Lab, name: str) -> None:
    """Change a guest's slot, as the host does it."""
    guest = lab.guests[name]
    old = guest.must(SCRIPT, "live").strip()
    new = "ba"["ab".index(old)]
    started(guest, new)
    guest.must(SCRIPT, "flip", new)
    guest.must(SCRIPT, "drain", old)
    guest.until(lambda: guest.must(SCRIPT, "busy", old) == "0\n", 60)
    time.sleep(1)
    guest.must(SCRIPT, "stop", old)


def test_a_slot_that_has_died_is_drained(lab: Lab) -> None:
    """A change may be made for that very reason."""
    guest, unit = lab.guests["traefik-mesh"], "phoenix-traefik@a.service"
    started(guest, "b")
    guest.must(SCRIPT, "flip", "b")
    dead = f"/run/systemd/system/{unit}.d"
    guest.write(f"{dead}/dead.conf", "[Service]\nRestartSec=600\n")
    guest.must("systemctl", "daemon-reload")
    guest.must("systemctl", "kill", "--signal=KILL", unit)
    guest.until(lambda: guest.active(unit) == "activating")
    guest.must(SCRIPT, "drain", "a")
    guest.must(SCRIPT, "stop", "a")
    guest.shell(f"rm -r {dead}; systemctl daemon-reload")
    changed(lab, "traefik-mesh")
    assert answered(lab)


@pytest.mark.deep
def test_every_slot_changes_without_loss(lab: Lab) -> None:
    """Twice each, under clients that never retry."""
    lab.guests["nginx-gateway"].until(lambda: answered(lab))
    address = str(lab.net.gateway.guest.address)
    with lab.root() as root:
        load = lab.client("load", address, "443", OUTSIDE, "/", root)
        assert load.stdout
        assert load.stdout.readline() == "started\n"
        for _ in range(2):
            for name in ("webui", "traefik-mesh", "nginx-gateway"):
                changed(lab, name)
        load.send_signal(signal.SIGTERM)
        told = load.communicate(timeout=60)[0].splitlines()
    print(told[0])
    assert told[1:] == []
    assert int(told[0].split()[1]) > 500


@pytest.mark.deep
@pytest.mark.parametrize("name", GUESTS)
def test_also_with_systemd_257(name: str) -> None:
    member = net().member(name)
    secrets = labs.ca_secrets() if name == "step-ca" else {}
    files = machine.tree(net(), name)
    with machine.booted(files, member.programs, suite="trixie", secrets=secrets) as guest:
        daemon, _ = DAEMONS[name]
        guest.until(lambda: guest.active(daemon) == "active")
        assert guest.must("systemctl", "list-units", "--failed", "--no-legend", "phoenix*") == ""
        assert "webui.phoenix.internal" in guest.read("/etc/hosts")
        assert moment(guest, "phoenix-names.service", "ExecMainExit") <= moment(
            guest, "sysinit.target", "ActiveEnter"
        )
        if member.daemon:
            guest.must(SCRIPT, "start", "b")
            guest.must(SCRIPT, "flip", "b")
            guest.must(SCRIPT, "stop", "a")
            assert guest.active(daemon.replace("@a", "@b")) == "active"
