"""bin/phoenix-names run for real in a Debian guest: what it writes, what it leaves alone, and that
a kill at any of its steps harms nothing.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.emit.template import OVERLAYS
from tests.kinds.traefik.running import network, site
from tests.kinds.units import debian, dying, machine
from tests.kinds.units.machine import Machine

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap")]

BEGIN, END, MARK = "# --- BEGIN PHOENIX ---", "# --- END PHOENIX ---", " # by phoenix-names"
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
ROOTS = "/usr/local/share/ca-certificates"
SCRIPT = "/opt/phoenix/current/bin/phoenix-names"
# Without update-ca-certificates, which lies in /usr/sbin.
ALONE = ["env", "PATH=/usr/bin", SCRIPT]
PVE = "# --- BEGIN PVE ---\n10.0.0.114 webui.phoenix.internal webui\n# --- END PVE ---\n"
LOCAL = "127.0.0.1 localhost\n::1 localhost\n"


@pytest.fixture(scope="module")
def running() -> Iterator[Machine]:
    """A guest with nothing but names: generation 1, 2 with another root and one name more, 3
    without a root, 4 as 1 with one name more. Flips are not followed but where a test asks for it.
    """
    files = machine.tree(network(site(), "lab"), "webui")
    with machine.prepared(files) as found:
        other = machine.copy(found, 1, 2)
        hosts = files.file("names/hosts").data + b"10.0.0.99 more.phoenix.internal\n"
        machine.put(other / "names/hosts", hosts)
        again = machine.copy(found, 1, 4)
        machine.put(again / "names/hosts", hosts)
        bare = machine.copy(found, 1, 3)
        (bare / "trust/root.crt").unlink()
        with machine.running(found):
            found.must("systemctl", "stop", "phoenix-names.path")
            # Of another name, by which OpenSSL's links go.
            new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout /dev/null"
            made = found.must("openssl", *new.split(), "-subj", "/CN=another root")
            machine.put(other / "trust/root.crt", made.encode())
            yield found


@pytest.fixture(autouse=True)
def _first(running: Machine) -> None:
    running.flip(1)


def block(running: Machine) -> str:
    lines = running.read("/opt/phoenix/current/names/hosts").splitlines()
    return "".join(f"{x}\n" for x in [BEGIN, *(line + MARK for line in lines), END])


def hosts(running: Machine, before: str) -> str:
    """/etc/hosts after a run on this one; a second run changes nothing."""
    running.write("/etc/hosts", before)
    running.must(*ALONE)
    after = running.read("/etc/hosts")
    stamp = running.must("stat", "-c", "%i %Y", "/etc/hosts")
    running.must(*ALONE)
    assert running.read("/etc/hosts") == after
    assert running.must("stat", "-c", "%i %Y", "/etc/hosts") == stamp
    return after


def test_script_is_sound_shell() -> None:
    subprocess.run(["dash", "-n", OVERLAYS / "common/bin/phoenix-names"], check=True)


@pytest.mark.parametrize(
    "before",
    [LOCAL, PVE + LOCAL, "", "# ünïcode\t\x01\n\n\n", "x\r\ny\r\n", " 1.2.3.4  a   b \n"],
    ids=["local", "pve", "empty", "odd", "crlf", "spaces"],
)
def test_foreign_lines_are_kept_to_the_byte(running: Machine, before: str) -> None:
    assert hosts(running, before) == before + block(running)


def test_block_stays_where_it_is_and_is_renewed(running: Machine) -> None:
    old = f"{BEGIN}\n9.9.9.9 old.phoenix.internal{MARK}\n{END}\n"
    assert hosts(running, PVE + old + LOCAL) == PVE + block(running) + LOCAL
    # Not even a newline is added to a last line of others that had none.
    assert hosts(running, old + "1.2.3.4 x") == block(running) + "1.2.3.4 x"
    assert hosts(running, "1.2.3.4 x") == "1.2.3.4 x\n" + block(running)
    assert hosts(running, old + "1.2.3.4 x ") == block(running) + "1.2.3.4 x "
    assert hosts(running, "1.2.3.4 x\n" + old[:-1]) == "1.2.3.4 x\n" + block(running)


@pytest.mark.parametrize("lost", ["end", "begin", "both", "twice", "crlf", "inside"])
def test_damaged_blocks(running: Machine, lost: str) -> None:
    line = f"9.9.9.9 old.phoenix.internal{MARK}\n"
    whole = f"{BEGIN}\n{line}{END}\n"
    before, after = {
        "end": (f"a\n{BEGIN}\n{line}b\n", f"a\n{block(running)}b\n"),
        "begin": (f"a\n{line}{END}\nb\n", f"a\nb\n{block(running)}"),
        "both": (f"a\n{line}b\n", f"a\nb\n{block(running)}"),
        "twice": (f"{whole}a\n{whole}", f"{block(running)}a\n"),
        "crlf": (f"a\n{whole}b\n".replace("\n", "\r\n"), None),
        "inside": (f"{BEGIN}\n{line}mine\n{END}\n", f"{block(running)}mine\n"),
    }[lost]
    if lost == "crlf":
        after = "a\r\n" + block(running) + "b\r\n"
    assert hosts(running, before) == after


def test_resolver_reads_it(running: Machine) -> None:
    hosts(running, PVE + LOCAL)
    for name, address in (("qdrant.phoenix.internal", "10.0.0.113"), ("localhost", "::1")):
        assert running.must("getent", "hosts", name).split()[0] == address
    assert running.must("getent", "hosts", "10.0.0.101").split()[1].startswith("nginx-gateway")


def test_hosts_behind_a_link_and_missing(running: Machine) -> None:
    running.shell(f"printf '%s' '{LOCAL}' >/etc/hosts.real; ln -sf hosts.real /etc/hosts")
    running.must(*ALONE)
    assert running.must("readlink", "/etc/hosts") == "hosts.real\n"
    assert running.read("/etc/hosts") == LOCAL + block(running)
    running.must("rm", "/etc/hosts")
    running.must(*ALONE)
    assert running.read("/etc/hosts") == block(running)


def test_resolv_conf_replaces_a_link_and_not_its_target(running: Machine) -> None:
    running.shell("echo theirs >/run/stub; ln -sf /run/stub /etc/resolv.conf")
    running.must(*ALONE)
    assert running.read("/run/stub") == "theirs\n"
    assert running.read("/etc/resolv.conf") == running.read(
        "/opt/phoenix/current/names/resolv.conf"
    )
    assert "search phoenix.internal\nnameserver 9.9.9.9\n" in running.read("/etc/resolv.conf")
    # Nor is a link left that leads to the same, until they change it.
    running.shell("cp /etc/resolv.conf /run/stub; ln -sf /run/stub /etc/resolv.conf")
    running.must(*ALONE)
    assert running.run("test", "-L", "/etc/resolv.conf").code == 1


def test_shells_are_told(running: Machine) -> None:
    told = running.must("bash", "-lc", "echo $SSL_CERT_FILE $NODE_EXTRA_CA_CERTS")
    assert told == f"{BUNDLE} /opt/phoenix/current/trust/root.crt\n"
    services = running.must("systemctl", "show-environment")
    assert f"REQUESTS_CA_BUNDLE={BUNDLE}\n" in services


# --- trust


def trusted(running: Machine, pem: bytes) -> bool:
    """Whether programs trust a root: by the bundle, and by OpenSSL's folder of links."""
    running.write("/tmp/root.pem", pem.decode())
    by_file = running.run("openssl", "verify", "-CAfile", BUNDLE, "/tmp/root.pem").code == 0
    by_path = running.run("openssl", "verify", "-CApath", "/etc/ssl/certs", "/tmp/root.pem")
    assert by_file == (by_path.code == 0)
    assert by_file == (pem.decode() in running.read(BUNDLE))
    return by_file


def root(running: Machine, number: int) -> bytes:
    return Path(running.folder, "guest", str(number), "trust/root.crt").read_bytes()


def test_root_is_trusted_changed_and_removed(running: Machine) -> None:
    first, second = root(running, 1), root(running, 2)
    running.must("rm", "-f", BUNDLE)
    running.must(SCRIPT)
    others = running.read(BUNDLE).count("BEGIN CERTIFICATE")
    assert others == debian.ROOTS + 1
    assert (trusted(running, first), trusted(running, second)) == (True, False)
    running.flip(2)
    running.must(SCRIPT)
    assert (trusted(running, first), trusted(running, second)) == (False, True)
    running.flip(3)
    running.must(SCRIPT)
    assert (trusted(running, first), trusted(running, second)) == (False, False)
    assert running.read(BUNDLE).count("BEGIN CERTIFICATE") == others - 1
    assert running.must("ls", ROOTS) == ""


@pytest.mark.parametrize("left", ["", "last line"])
def test_a_bundle_that_lost_it_gets_it_again(running: Machine, left: str) -> None:
    """The last line of a root may be as short as four letters, which others have too."""
    running.must(SCRIPT)
    lines = root(running, 1).decode().splitlines()
    running.write(BUNDLE, f"{lines[-2]}\n" if left else "\n")
    running.must(SCRIPT)
    assert trusted(running, root(running, 1))


def test_nothing_is_done_where_nothing_changed(running: Machine) -> None:
    running.must(SCRIPT)
    stamp = running.must("stat", "-c", "%i %Z", BUNDLE, "/etc/hosts", "/etc/profile.d/phoenix.sh")
    running.must(SCRIPT)
    assert stamp == running.must(
        "stat", "-c", "%i %Z", BUNDLE, "/etc/hosts", "/etc/profile.d/phoenix.sh"
    )


@pytest.mark.parametrize("when", ["before", "within"])
def test_a_killed_update_is_made_up_for(running: Machine, when: str) -> None:
    """Killed between our certificate and the bundle, or while the bundle is written."""
    running.flip(3)
    running.must(SCRIPT)
    running.flip(1)
    half = (
        "" if when == "before" else f"printf -- '-----BEGIN CERTIFICATE-----\nMII' >{BUNDLE}.new;"
    )
    running.write("/tmp/dying/update-ca-certificates", f"#!/bin/sh\n{half}kill -9 $PPID\n")
    running.must("chmod", "755", "/tmp/dying/update-ca-certificates")
    died = running.run("env", "PATH=/tmp/dying:/usr/sbin:/usr/bin", SCRIPT)
    assert died.code != 0
    assert root(running, 1).decode() not in running.read(BUNDLE)
    running.must(SCRIPT)
    assert trusted(running, root(running, 1))
    assert "MII-----" not in running.read(BUNDLE)


def test_without_update_ca_certificates(running: Machine) -> None:
    """The bundle of others is kept, ours is a block in it; without one, ours is all there is."""
    first, second = root(running, 1).decode(), root(running, 2).decode()
    running.flip(3)
    running.must(SCRIPT)
    theirs = running.read(BUNDLE)
    running.flip(1)
    running.must(*ALONE)
    assert running.read(BUNDLE) == f"{theirs}{BEGIN}\n{first}{END}\n"
    running.flip(2)
    running.must(*ALONE)
    assert running.read(BUNDLE) == f"{theirs}{BEGIN}\n{second}{END}\n"
    # An end that was lost takes nothing else with it.
    running.write(BUNDLE, f"{BEGIN}\n{first}{theirs}")
    running.must(*ALONE)
    assert running.read(BUNDLE) == f"{theirs}{BEGIN}\n{second}{END}\n"
    running.flip(3)
    running.must(*ALONE)
    assert running.read(BUNDLE) == theirs
    running.must("rm", BUNDLE)
    running.must(*ALONE)
    assert running.run("test", "-e", BUNDLE).code == 1
    running.flip(1)
    running.must(*ALONE)
    assert running.read(BUNDLE) == f"{BEGIN}\n{first}{END}\n"
    # Should ca-certificates be installed later, its own update brings all roots, and keeps ours.
    running.must("update-ca-certificates", "--fresh")
    assert trusted(running, root(running, 1))
    assert running.read(BUNDLE).count("BEGIN CERTIFICATE") == debian.ROOTS + 1
    assert BEGIN not in running.read(BUNDLE)


def test_remove_takes_it_back(running: Machine) -> None:
    hosts(running, LOCAL)
    running.must(SCRIPT)
    running.must(SCRIPT, "remove")
    assert running.read("/etc/hosts") == LOCAL
    assert running.must("ls", ROOTS) == ""
    assert running.run("test", "-e", "/etc/profile.d/phoenix.sh").code == 1
    assert not trusted(running, root(running, 1))
    assert running.run(SCRIPT, "nonsense").code == 1


# --- flips, and what goes wrong


def test_a_flip_is_followed_without_a_restart(running: Machine) -> None:
    """By the path unit, that is by inotify on the bound folder: the rename of a link in it."""
    hosts(running, LOCAL)
    running.must("systemctl", "start", "phoenix-names.path")
    for number, there in ((4, True), (1, False), (4, True)):
        running.until(lambda: running.active("phoenix-names.service") == "inactive")
        running.flip(number)
        running.until(lambda: ("more.phoenix" in running.read("/etc/hosts")) is there)  # noqa: B023
    running.until(lambda: running.active("phoenix-names.service") == "inactive")
    assert running.property("phoenix-names.service", "Result") == "success"
    running.must("systemctl", "stop", "phoenix-names.path")


def test_a_file_that_is_written_anew_gets_its_block_again(running: Machine) -> None:
    """As cloud-init does at each boot, from a template of its own, where the image says so."""
    hosts(running, PVE)
    running.must("systemctl", "start", "phoenix-names.path")
    running.until(lambda: running.active("phoenix-names.service") == "inactive")
    running.write("/etc/hosts", LOCAL)
    running.until(lambda: running.read("/etc/hosts") == LOCAL + block(running))
    # What it writes itself does not call it again and again.
    running.until(lambda: running.active("phoenix-names.service") == "inactive")
    before = running.property("phoenix-names.service", "ExecMainStartTimestampMonotonic")
    time.sleep(0.5)
    assert before == running.property("phoenix-names.service", "ExecMainStartTimestampMonotonic")
    running.must("systemctl", "stop", "phoenix-names.path")


def test_a_run_that_failed_is_made_up_for(running: Machine) -> None:
    """The timer comes again, without a flip or a restart."""
    hosts(running, LOCAL)
    bad = machine.copy(running, 4, 5)
    (bad / "names/hosts").unlink()
    running.flip(5)
    assert running.run("systemctl", "start", "phoenix-names.service").code == 1
    machine.put(bad / "names/hosts", (bad.with_name("4") / "names/hosts").read_bytes())
    soon = "[Timer]\nOnActiveSec=\nOnUnitInactiveSec=\nOnActiveSec=1\nAccuracySec=1\n"
    running.write("/run/systemd/system/phoenix-names.timer.d/soon.conf", soon)
    running.must("systemctl", "daemon-reload")
    running.must("systemctl", "restart", "phoenix-names.timer")
    running.until(lambda: "more.phoenix" in running.read("/etc/hosts"))
    running.must("systemctl", "stop", "phoenix-names.timer")
    machine.forget(running, 5)


def test_a_flip_during_a_run_is_followed_by_that_run(running: Machine) -> None:
    """systemd does not tell of what happens while the service runs."""
    hosts(running, LOCAL)
    go = "/tmp/go"
    waiting = f'#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.05; done\nexec /usr/bin/sync "$@"\n'
    running.write("/tmp/waiting/sync", waiting)
    running.must("chmod", "755", "/tmp/waiting/sync")
    running.write("/etc/hosts", LOCAL)
    running.shell(f"rm -f {go}; PATH=/tmp/waiting:/usr/bin {SCRIPT} >/dev/null 2>&1 & sleep 0.2")
    running.flip(2)
    running.must("touch", go)
    running.until(lambda: "more.phoenix" in running.read("/etc/hosts"))


def state(running: Machine) -> tuple[str, str]:
    """/etc/hosts and the bundle."""
    between = "# and the bundle\n"
    found = running.must("sh", "-c", f"cat /etc/hosts; echo '{between[:-1]}'; cat {BUNDLE}")
    before, after = found.split(between)
    return before, after


@pytest.mark.parametrize("how", [pytest.param("before", marks=pytest.mark.deep), "after"])
def test_killed_at_any_step(running: Machine, how: str) -> None:
    """Each file is the old or the new one at each time, and the next run completes it."""
    wrapped = ("awk", "cat", "chmod", "cmp", "cp", "mkdir", "mv", "rm", "sync", "tail", "tr")
    dying.install(running, wrapped)
    running.shell(f"rm -f {BUNDLE}")
    numbers, steps = (1, 2), 0
    wanted = {}
    for number in numbers:
        running.flip(number)
        hosts(running, PVE + LOCAL)
        wanted[number] = state(running)
    for fatal in range(1, 80):
        running.flip(numbers[fatal % 2])
        done = dying.run(running, fatal, how, SCRIPT, "/usr/bin")
        now = state(running)
        for part, each in enumerate(now):
            assert each in {wanted[number][part] for number in numbers}
        if done.code == 0:
            break
        steps += 1
        running.must(*ALONE)
        assert state(running) == wanted[numbers[fatal % 2]]
    assert done.code == 0
    assert steps >= 15
    left = running.must("sh", "-c", "ls -A /etc /etc/ssl/certs /etc/profile.d " + ROOTS)
    assert ".phoenix" not in left


def test_a_full_disk_harms_nothing(running: Machine) -> None:
    before = hosts(running, PVE + LOCAL)
    running.flip(2)
    limited = f"ulimit -f 0; trap '' XFSZ; {SCRIPT}"
    done = running.run("env", "PATH=/usr/bin", "sh", "-c", limited)
    assert done.code != 0
    assert running.read("/etc/hosts") == before
