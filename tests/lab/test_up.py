"""Real labs: up, as they should be, and gone again, also where lab.up was cut off."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.lab import daemon, host, image, packages, state, up
from builder.lab.shape import Lab
from builder.lab.up import Up
from builder.problems import UserError
from tests.integration.machine import until
from tests.lab import labs
from tests.lab.client import client

pytestmark = [
    pytest.mark.long(0.5, shared=True),
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen"),
]


def ssh(lab: Up, command: str) -> str:
    """What a command on the host prints, over ssh as lab.up says."""
    config = str(lab.state.ssh_config)
    done = subprocess.run(
        ["ssh", "-F", config, lab.lab.name, command], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def assert_as_a_host(lab: Up) -> None:
    """The host has booted well, with foreign guests that answer to a client in the LAN."""
    assert ssh(lab, "systemctl is-system-running") == "running\n"
    assert ssh(lab, "findmnt -n -o FSTYPE /sys/fs/cgroup") == "cgroup2\n"
    assert ssh(lab, "nft list ruleset") == ""
    kept = ssh(lab, "stat -f -c %T /var/lib/lxc /var/lib/phoenix").split()
    assert "overlayfs" not in kept
    assert ssh(lab, "test -s /var/lib/phoenix/templates/debian-12.tar && echo there") == "there\n"
    with client(lab) as inside:
        for guest in lab.lab.foreign():
            assert inside.echoed(guest.address, 7, "one", "two") == ["one", "two"]
        # Nothing beyond: neither by the router nor by this machine.
        code, _ = inside.run("ping", "-c", "1", "-W", "1", "192.0.2.1")
        assert code != 0


def addresses(lab: Up) -> dict[str, list[str]]:
    """The host's IPv4 addresses by interface."""
    listed = json.loads(ssh(lab, "ip -json -4 address show scope global"))
    return {each["ifname"]: [a["local"] for a in each["addr_info"]] for each in listed}


def test_the_routed_lab_is_as_a_host(lab: Up) -> None:
    assert_as_a_host(lab)
    assert addresses(lab) == {"eth0": [str(lab.lab.address)], "vmbr9": ["10.9.0.1"]}


def test_a_lab_that_is_up_is_found(lab: Up) -> None:
    boot = ssh(lab, "stat -c %Y /proc/1")
    again = up.up(labs.ROOT, lab.lab, labs.say)
    assert not again.made
    assert "is up already" in again.told()
    assert ssh(lab, "stat -c %Y /proc/1") == boot


def test_another_lab_in_its_network_is_refused(lab: Up) -> None:
    other = Lab("other", "lab", lab.lab.network)
    with pytest.raises(UserError, match="overlaps what is routed here"):
        up.up(labs.ROOT, other, labs.say)
    assert ssh(lab, "true") == ""
    assert not state.State.of(other).folder.exists()


def test_the_hosts_key_is_pinned(lab: Up) -> None:
    config = lab.state.ssh_config.read_text()
    assert "StrictHostKeyChecking yes" in config
    held = lab.state.folder / "known_hosts"
    # The alias is what is looked up: an address that has changed is no matter.
    options = ["-F", str(lab.state.ssh_config), "-o", "HostKeyAlias=another"]
    done = subprocess.run(["ssh", *options, lab.lab.name, "true"], capture_output=True, text=True)
    assert done.returncode == 255
    assert "Host key verification failed" in done.stderr
    assert len(held.read_text().splitlines()) == 1


@pytest.mark.deep
def others_may_come(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """Have a step of a lab's see that another one could be made meanwhile, and has its engine."""
    real = getattr(host, step)

    def free() -> bool:
        with (daemon.files().parent / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return not daemon.idle()

    def done(*given: object) -> object:
        until(free, f"the lock is free, and the engine stays: {step}", limit=60)
        return real(*given)

    monkeypatch.setattr(host, step, done)


def test_the_bridged_lab_boots_again_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    others_may_come(monkeypatch, "boot")
    others_may_come(monkeypatch, "remove")
    with labs.own("lab-bridged") as found:
        assert_as_a_host(found)
        assert addresses(found) == {"vmbr0": [str(found.lab.address)]}
        assert "master vmbr0" in ssh(found, "ip -o link show eth0")
        before = ssh(found, "cut -d ' ' -f 22 /proc/1/stat")
        found.engine.run("kill", found.lab.host)
        found.engine.run("start", found.lab.host)
        deadline = time.monotonic() + 60
        while (
            found.engine.inside(found.lab.host, "systemctl", "is-system-running")[1] != "running\n"
        ):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert ssh(found, "cut -d ' ' -f 22 /proc/1/stat") != before
        assert_as_a_host(found)
        assert labs.remains(found.lab)
    assert labs.remains(found.lab) == []


# Until its line of progress says this, a lab.up is let go on; then it is killed.
STEPS = [
    ("waiting for the host", signal.SIGKILL),
    pytest.param("making keys", signal.SIGKILL, marks=pytest.mark.deep),
    pytest.param("waiting for the host", signal.SIGINT, marks=pytest.mark.deep),
    pytest.param("waiting for the foreign guests", signal.SIGKILL, marks=pytest.mark.deep),
]


@pytest.mark.parametrize(("step", "how"), STEPS)
def test_a_lab_up_that_is_cut_off_is_taken_away(step: str, how: signal.Signals) -> None:
    with labs.reserved("lab") as lab:
        cut_off(lab, step, how)
        if how == signal.SIGINT:
            assert labs.remains(lab) == []
        else:
            assert labs.remains(lab)
            assert up.down(lab, labs.say)
        assert labs.remains(lab) == []
        assert not up.down(lab, labs.say)


@pytest.mark.deep
def test_the_next_lab_up_takes_away_what_was_cut_off() -> None:
    with labs.reserved("lab") as lab:
        cut_off(lab, "waiting for the host", signal.SIGKILL)
        found = up.up(labs.ROOT, lab, labs.say)
        assert found.made
        assert ssh(found, "systemctl is-system-running") == "running\n"


def cut_off(lab: Lab, step: str, how: signal.Signals) -> None:
    """Start lab.up as a program of its own and end it at a step."""
    script = (
        "import sys; from pathlib import Path; from ipaddress import IPv4Network;"
        "from builder.lab import up; from builder.lab.shape import Lab;"
        "lab = Lab(sys.argv[1], sys.argv[2], IPv4Network(sys.argv[3]));"
        "up.up(Path.cwd(), lab, lambda text: print(text, flush=True))"
    )
    command = [sys.executable, "-c", script, lab.name, lab.shape, str(lab.network)]
    with subprocess.Popen(
        command,
        cwd=labs.ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        said = list[str]()
        for line in child.stdout:
            said.append(line)
            if line.startswith(step):
                break
        else:
            pytest.fail(f"it ended first: {said} {child.stderr and child.stderr.read()}")
        time.sleep(0.4)
        # As a terminal does at ^C: what it has started gets the signal, too.
        os.killpg(child.pid, how)
        child.communicate(timeout=120)


@pytest.mark.deep
@pytest.mark.needs("unshare", "nft")
@pytest.mark.parametrize("case", ["own_engine.sh", "lost_engine.sh"])
def test_the_machine_is_left_as_it_was(case: str, tmp_path: Path) -> None:
    """In a network and process space of its own: with Docker as Debian starts it, and without any,
    where the engine of the lab is killed."""
    packages.ensure(labs.say)
    script = Path(__file__).with_name(case)
    spaces = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    images = str(image.cache(labs.say).root)
    done = subprocess.run(
        [*spaces, "sh", "-eu", str(script), str(tmp_path), sys.executable, images],
        cwd=labs.ROOT,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    before, rest = done.stdout.split("== before\n")[1].split("== up\n")
    said, after = rest.split("== after\n")
    assert "lab lab is up" in said
    assert before == after
