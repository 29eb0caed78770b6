"""The whole transaction on a Proxmox node: the program as it is shipped, /etc/pve on the stand-in
for pmxcfs, `pct` as strict as PVE's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.proxmox.node import Node
from tests.host.proxmox.releases import INTERFACES, Wanted, conf, keep

pytestmark = pytest.mark.needs("root", "fuse", "unshare", "ip")
ROOTFS = "local-lvm:vm-101-disk-0,size=8G"
FOREIGN = """\
#by hand
#with a colon%3A here
arch: amd64
hostname: theirs
memory: 2048
mp0: local-lvm:vm-200-disk-0,mp=/data,size=1G
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth
onboot: 1
ostype: debian
parent: before
rootfs: local-lvm:vm-200-disk-0,size=4G
swap: 512
unprivileged: 1

[before]
arch: amd64
memory: 512
rootfs: local-lvm:vm-200-disk-0,size=4G
snaptime: 1700000000
"""


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path) as made:
        made.foreign(200, FOREIGN)
        yield made


def said(node: Node, number: int) -> list[str]:
    """The lines of a configuration: in what order they stand means nothing to PVE."""
    return sorted(node.conf(number).splitlines())


def go(node: Node, number: int, *words: str) -> None:
    done = node.phoenix("activate", str(number), *words)
    assert done.code == 0, done


def test_there_and_back(node: Node):
    before = node.files()
    number = keep(node, {101: Wanted()}, interfaces=INTERFACES)
    go(node, number)
    assert said(node, 101) == sorted(conf(101, {"rootfs": ROOTFS}).decode().splitlines())
    runs = node.runs(101)
    assert runs is not None
    assert runs["hostname"] == "g101"
    assert [words[0] for words in node.calls()][:2] == ["create", "start"]
    assert (node.pve / "firewall/101.fw").read_text().startswith("[OPTIONS]\nenable: 1")
    assert "vmbr0" in node.at("/etc/network/interfaces").read_text()
    assert node.conf(200) == FOREIGN
    # Nothing is left to do, and nothing is done.
    calls = len(node.calls())
    go(node, number)
    assert [words[0] for words in node.calls()[calls:]] == []
    # The host as it was found, but for the guest that we made: stopped, not started at boot, kept.
    assert node.phoenix("rollback", "0").code == 0
    assert node.runs(101) is None
    after = node.files()
    made = ("etc/pve/nodes/pve1/lxc/101.conf", "var/lib/pct-volumes/vm-101-disk-0")
    assert {path: data for path, data in after.items() if path not in made} == before
    left = node.conf(101).splitlines()
    assert {"onboot: 0", "tags: phoenix-retired"} <= {*left}
    assert not [line for line in left if "/var/lib/phoenix" in line or "net0" in line]
    # And ours again, the same one.
    go(node, number)
    assert said(node, 101) == sorted(conf(101, {"rootfs": ROOTFS}).decode().splitlines())
    assert node.runs(101) is not None
    assert sum(words[0] == "create" for words in node.calls()) == 1


def test_a_guest_that_is_no_longer_declared_retires(node: Node):
    go(node, keep(node, {101: Wanted(), 102: Wanted()}))
    go(node, keep(node, {101: Wanted()}))
    assert node.runs(101) is not None
    assert node.runs(102) is None
    assert "tags: phoenix-retired" in node.conf(102)
    assert not any(words[0] == "destroy" for words in node.calls())


def test_hot_goes_hot(node: Node):
    go(node, keep(node, {101: Wanted()}))
    process = node.must("lxc-info", "--name", "101", "--pid", "--no-humanize")
    keys = {"memory": "2048", "net0": conf(101, {}).decode().split("net0: ")[1].split("\n")[0]}
    keys["net0"] = keys["net0"].replace("10.0.0.101", "10.0.0.151")
    go(node, keep(node, {101: Wanted({**keys, "cores": "4", "startup": "order=7"})}))
    runs = node.runs(101)
    assert runs is not None
    assert (runs["memory"], runs["cores"], runs["net0"]) == ("2048", "4", keys["net0"])
    assert process == node.must("lxc-info", "--name", "101", "--pid", "--no-humanize")
    want = {**keys, "cores": "4", "startup": "order=7", "rootfs": ROOTFS}
    assert said(node, 101) == sorted(conf(101, want).decode().splitlines())
    # Back is hot, too.
    assert node.phoenix("rollback").code == 0
    runs = node.runs(101)
    assert runs is not None
    assert (runs["memory"], runs["cores"]) == ("1024", "2")
    assert process == node.must("lxc-info", "--name", "101", "--pid", "--no-humanize")


def test_a_hot_change_onto_a_new_bridge(node: Node):
    """The bridge comes with the network, which is changed after the files."""
    go(node, keep(node, {101: Wanted()}))
    net = conf(101, {}).decode().split("net0: ")[1].split("\n")[0].replace("vmbr0", "vmbr7")
    lan = (
        INTERFACES
        + b"\nauto vmbr7\niface vmbr7 inet static\n\taddress 10.7.0.1/24\n\tbridge-ports none\n"
    )
    go(node, keep(node, {101: Wanted({"net0": net})}, interfaces=lan))
    runs = node.runs(101)
    assert runs is not None
    assert runs["net0"] == net


def test_what_needs_a_restart_gets_one(node: Node):
    go(node, keep(node, {101: Wanted()}))
    go(node, keep(node, {101: Wanted({"nameserver": "9.9.9.9"})}))
    runs = node.runs(101)
    assert runs is not None
    assert runs["nameserver"] == "9.9.9.9"
    assert [words[0] for words in node.calls() if words[0] != "status"] == [
        "create", "start", "shutdown", "start",
    ]  # fmt: skip


def test_a_restart_that_is_refused_is_said(node: Node):
    go(node, keep(node, {101: Wanted(restart=False)}))
    wanted = Wanted({"nameserver": "9.9.9.9", "memory": "2048"}, restart=False)
    done = node.phoenix("activate", str(keep(node, {101: wanted})))
    assert done.code == 0, done
    events = [json.loads(line) for line in done.out.splitlines()]
    (owes,) = [each for each in events if each["event"] == "owes a restart"]
    assert (owes["guest"], owes["keys"]) == (101, ["nameserver"])
    runs = node.runs(101)
    assert runs is not None
    assert "nameserver" not in runs
    assert runs["memory"] == "2048"
    assert '"restarts": [\n    101\n  ]' in node.phoenix("status").out
    node.must("pct", "reboot", "101")
    assert '"restarts": []' in node.phoenix("status").out


def test_a_guest_that_heeds_no_shutdown_is_stopped(node: Node):
    node.at("/run/pct/101.stubborn").touch()
    go(node, keep(node, {101: Wanted()}))
    # The stand-in waits as long as it is told: 60 seconds would be too long here.
    node.at("/usr/local/sbin/pct").unlink()
    real = node.at("/usr/local/lib/pct")
    real.symlink_to(Path(__file__).with_name("proxmox") / "pct.py")
    node.at("/usr/local/sbin/pct").write_text(
        '#!/bin/sh\nPCT_SLOW=0.3 exec /usr/local/lib/pct "$@"\n'
    )
    node.at("/usr/local/sbin/pct").chmod(0o755)
    assert node.phoenix("rollback", "0").code == 0
    assert [words[0] for words in node.calls()][-2:] == ["shutdown", "stop"]
    assert node.runs(101) is None


def test_what_fails_is_taken_back(node: Node):
    before = node.files()
    node.at("/run/pct/101.broken").touch()
    done = node.phoenix("activate", str(keep(node, {101: Wanted()}, interfaces=INTERFACES)))
    assert done.code == 4, done
    assert "startup for container" in done.err
    assert node.files() == before
    assert not node.at("/var/lib/phoenix/journal").exists()


def test_unconfirmed_is_taken_back(node: Node):
    go(node, keep(node, {101: Wanted()}))
    before, ran = node.files(), node.runs(101)
    second = {101: Wanted({"memory": "4096", "nameserver": "9.9.9.9"}), 102: Wanted()}
    go(node, keep(node, second), "--confirm", "60")
    assert node.runs(102) is not None
    assert node.files() != before
    done = node.phoenix("recover")
    assert done.code == 0, done
    assert node.files() == before
    assert node.runs(101) == ran
    assert not (node.pve / "lxc/102.conf").exists()


def test_adopted_and_given_back(node: Node):
    before = node.files()
    node.must("pct", "start", "200")
    ran = node.runs(200)
    wanted = Wanted({"hostname": "mine"}, creation={})
    go(node, keep(node, {200: wanted}))
    now = node.conf(200)
    assert "hostname: mine\n" in now
    assert "memory: 1024" in now
    assert "lxc.mount.entry: /var/lib/phoenix/guests/200 opt/phoenix" in now
    for theirs in ("#by hand", "mp0: local-lvm:vm-200-disk-0,mp=/data", "parent: before",
                   "rootfs: local-lvm:vm-200-disk-0,size=4G", "snaptime: 1700000000"):  # fmt: skip
        assert theirs in now
    assert now.split("[before]")[1] == FOREIGN.split("[before]")[1]
    assert node.phoenix("rollback", "0").code == 0
    assert node.files() == before
    # It runs with what its file says, and without our folder.
    assert node.runs(200) == ran


def test_foreign_keys_survive(node: Node):
    go(node, keep(node, {101: Wanted()}))
    node.must("pct", "set", "101", "--tags", "theirs", "--dev0", "/dev/net/tun")
    go(node, keep(node, {101: Wanted({"memory": "2048"})}))
    assert {"tags: theirs", "dev0: /dev/net/tun", "memory: 2048"} <= {*node.conf(101).splitlines()}
    assert node.phoenix("rollback", "0").code == 0
    left = node.conf(101)
    assert {"tags: theirs;phoenix-retired", "dev0: /dev/net/tun"} <= {*left.splitlines()}
    go(node, 1)
    assert "tags: theirs\n" in node.conf(101)
    assert "dev0: /dev/net/tun" in node.conf(101)


def test_another_guests_firewall_file_survives_a_half_made_guest(node: Node):
    rules = node.pve / "firewall/101.fw"
    rules.write_text("[OPTIONS]\nenable: 0\n")
    before = node.files()
    node.at("/run/pct/101.broken").touch()
    assert node.phoenix("activate", str(keep(node, {101: Wanted()}))).code == 4
    assert node.files() == before
