"""Each guard of the Proxmox backend trips; and without it, in a twin of the program that lacks just
that one, its own scenario fails. So no guard is there that nobody would miss."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from builder.program import host_program
from tests.host.proxmox.node import Done, Node
from tests.host.proxmox.releases import INTERFACES, Wanted, keep

pytestmark = pytest.mark.needs("root", "fuse", "unshare", "ip")
HERE = Path(__file__).parent
HOST = HERE.parents[1] / "builder/host"
ADOPT = Wanted({"hostname": "mine"}, creation={})
THEIRS = """\
arch: amd64
hostname: theirs
memory: 1024
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth
ostype: debian
rootfs: local-lvm:vm-200-disk-0,size=4G
swap: 0
unprivileged: 1
"""
_QUORUM = """\
python3 -c 'import socket
s = socket.socket(socket.AF_UNIX); s.connect("/run/pmxcfs")
s.sendall(b"{\\"quorum\\": %s}\\n"); s.recv(9)'
"""


def activate(node: Node, number: int) -> Done:
    return node.phoenix("activate", str(number))


def refused(node: Node, number: int, words: str) -> None:
    """A release is refused before anything of the host is changed."""
    before, calls = node.files(), [c for c in node.calls() if c[0] != "status"]
    done = activate(node, number)
    assert done.code == 2, done
    assert words in done.err, done
    assert node.files() == before
    assert [c for c in node.calls() if c[0] != "status"] == calls
    assert not node.at("/var/lib/phoenix/journal").exists()


def awaits(running: subprocess.Popen[str], event: str) -> None:
    """Read what a program says until an event comes; it ends with its node."""
    assert running.stdout is not None
    while f'"{event}"' not in (line := running.stdout.readline()):
        assert line, f"it ended without {event}"


def not_mounted(node: Node) -> None:
    number = keep(node, {101: Wanted()})
    node.unmount()
    refused(node, number, "/etc/pve is not mounted")
    assert not list(node.pve.iterdir())


def unmounted_later(node: Node) -> None:
    """pve-cluster ends between the preflight and the first write."""
    node.foreign(200, THEIRS)
    node.on("systemd-run", "umount /etc/pve")
    done = node.start("phoenix", "activate", str(keep(node, {200: ADOPT})))
    awaits(done, "waiting")
    assert not list(node.pve.iterdir()), "what is written there lies under the mount"


def no_quorum(node: Node) -> None:
    number = keep(node, {101: Wanted()})
    node.switch(quorum=False)
    refused(node, number, "no quorum")


def number_of_a_vm(node: Node) -> None:
    node.foreign(101, "memory: 512\n", folder="qemu-server")
    refused(node, keep(node, {101: Wanted()}), "101 is the number of a VM")


def on_another_node(node: Node) -> None:
    node.switch(nodes=["pve2"])
    node.foreign(101, THEIRS, node="pve2")
    refused(node, keep(node, {101: Wanted()}), "guest 101 is on the node pve2")


def none_of_ours(node: Node) -> None:
    node.foreign(200, THEIRS)
    refused(node, keep(node, {200: Wanted()}), "say `adopt: true`")


def no_template(node: Node) -> None:
    shutil.rmtree(node.at("/var/lib/vz/template/cache"))
    refused(node, keep(node, {101: Wanted()}), "nor its template local:vztmpl/debian-12")


def locked(node: Node) -> None:
    node.foreign(200, THEIRS + "lock: backup\n")
    refused(node, keep(node, {200: ADOPT}), "guest 200 is locked (backup)")


def locked_later(node: Node) -> None:
    """A backup begins between the preflight and the write."""
    node.foreign(200, THEIRS)
    node.on("pct create", "echo 'lock: backup' >>/etc/pve/lxc/200.conf")
    done = activate(node, keep(node, {200: ADOPT, 101: Wanted()}))
    assert done.code == 4, done
    assert "the guest is locked (backup)" in done.err
    assert node.conf(200) == THEIRS + "lock: backup\n"
    assert not (node.pve / "lxc/101.conf").exists()


def pending(node: Node) -> None:
    node.foreign(200, THEIRS + "\n[pve:pending]\nnameserver: 9.9.9.9\n")
    refused(node, keep(node, {200: ADOPT}), "guest 200 has pending changes")


def half_a_snapshot(node: Node) -> None:
    node.foreign(200, THEIRS + "\n[one]\nmemory: 512\nsnapstate: prepare\n")
    refused(node, keep(node, {200: ADOPT}), "guest 200 has a snapshot that is not done")


def a_template(node: Node) -> None:
    node.foreign(200, THEIRS + "template: 1\n")
    refused(node, keep(node, {200: ADOPT}), "guest 200 is a template")


def network_edited(node: Node) -> None:
    until = "echo; until [ -e /run/released ]; do sleep 0.1; done"
    holds = node.start("flock", "/etc/network/.pve-interfaces.lock", "-c", until)
    assert holds.stdout is not None
    holds.stdout.readline()
    try:
        refused(node, keep(node, interfaces=INTERFACES), "somebody else changes the network's")
    finally:
        node.at("/run/released").touch()
        holds.communicate()


def flock_held(node: Node) -> None:
    """While another holds PVE's lock of a guest, its file stays."""
    node.foreign(200, THEIRS)
    number = keep(node, {200: ADOPT})
    lock = "/run/lock/lxc/pve-config-200.lock"
    node.at("/run/lock/lxc").mkdir(exist_ok=True)
    # Long enough for what comes right before the first write, not for all that comes before.
    node.on("systemd-run", "touch /run/armed")
    armed = "until [ -e /run/armed ]; do sleep 0.1; done"
    script = f"echo; {armed}; sleep 3; cat /etc/pve/lxc/200.conf"
    holds = node.start("flock", lock, "-c", script)
    assert holds.stdout is not None
    holds.stdout.readline()
    assert activate(node, number).code == 0
    assert holds.communicate()[0] == THEIRS
    assert "hostname: mine" in node.conf(200)


def edited_meanwhile(node: Node) -> None:
    """Somebody edits the file after it was decided what becomes of it."""
    node.foreign(200, THEIRS)
    node.on("systemd-run", "echo 'tags: theirs' >>/etc/pve/lxc/200.conf")
    done = activate(node, keep(node, {200: ADOPT}))
    assert done.code == 4, done
    assert "/etc/pve/lxc/200.conf was changed meanwhile" in done.err
    assert sorted(node.conf(200).splitlines()) == sorted([*THEIRS.splitlines(), "tags: theirs"])


def hot_is_taken(node: Node) -> None:
    """A rewritten file alone changes nothing that runs, and `pct set` of what it says neither."""
    assert activate(node, keep(node, {101: Wanted()})).code == 0
    assert activate(node, keep(node, {101: Wanted({"memory": "2048"})})).code == 0
    runs = node.runs(101)
    assert runs is not None
    assert runs["memory"] == "2048"
    assert "memory: 2048" in node.conf(101)


def no_device(node: Node) -> None:
    """A device that this machine has not would keep the guest from starting."""
    before = node.files()
    done = activate(node, keep(node, {101: Wanted({"dev0": "/dev/nvidia99,gid=44"})}))
    assert done.code == 2, done
    assert "/dev/nvidia99 is not there" in done.out + done.err
    assert node.files() == before


def restart_refused(node: Node) -> None:
    assert activate(node, keep(node, {101: Wanted(restart=False)})).code == 0
    wanted = Wanted({"nameserver": "9.9.9.9"}, restart=False)
    assert activate(node, keep(node, {101: wanted})).code == 0
    assert not [words for words in node.calls() if words[0] == "shutdown"]
    # Nor is its folder's change run in it, which needs what the restart brings.
    changed = Wanted({"nameserver": "9.9.9.9"}, {"names/hosts": "2\n"}, restart=False)
    assert activate(node, keep(node, {101: changed})).code == 0
    inside = node.at("/run/pct/inside.log").read_text()
    assert "phoenix-names.service" not in inside


def half_made_is_taken_away(node: Node) -> None:
    """A power cut in the middle of `pct create`: the number is taken, and locked."""
    before = node.files()
    node.at("/run/pct/die-in-create").touch()
    done = activate(node, keep(node, {101: Wanted()}))
    assert done.code == 4, done
    assert node.files() == before


def anothers_is_not_taken_away(node: Node) -> None:
    """Somebody makes a guest under a number that we had only just recorded."""
    node.on("pct create", "kill -9 $1; exit 1")
    assert activate(node, keep(node, {101: Wanted()})).code in (-9, 137)
    node.foreign(101, THEIRS.replace("200", "101"))
    done = node.phoenix("recover")
    assert done.code == 0, done
    assert '"kept"' in done.out
    assert node.conf(101) == THEIRS.replace("200", "101")
    assert node.at("/var/lib/pct-volumes/vm-101-disk-0").is_dir()


def network_before_the_cluster(node: Node) -> None:
    """A bad network cuts the node off from its cluster: it has to come back first."""
    node.foreign(200, THEIRS)
    before = node.files()
    lost, found = _QUORUM % "false", _QUORUM % "true"
    once = f"if [ -e /run/cut ]; then\n{found}else touch /run/cut\n{lost}fi\n"
    node.on("ifreload", once)
    number = keep(node, {200: ADOPT, 101: Wanted()}, interfaces=INTERFACES)
    done = activate(node, number)
    assert done.code == 4, done
    assert node.files() == before


def half_way_is_ours(node: Node) -> None:
    """Killed after PVE wrote the file, in its own form: it becomes what it was, byte for byte."""
    by_hand = "# theirs\n" + "".join(reversed(THEIRS.splitlines(keepends=True)))
    node.foreign(200, by_hand)
    node.must("pct", "start", "200")
    before = node.files()
    node.on("pct set.after", "kill -9 $1")
    wanted = Wanted({"memory": "2048"}, creation={}, restart=False)
    assert activate(node, keep(node, {200: wanted})).code in (-9, 137)
    node.at("/run/pct/set.after.sh").unlink()
    done = node.phoenix("recover")
    assert done.code == 0, done
    assert node.files() == before
    runs = node.runs(200)
    assert runs is not None
    assert runs["memory"] == "1024"


def rollback_without_quorum(node: Node) -> None:
    """Quorum goes in the middle of a rollback, which nothing takes back once it stands: then too
    it is all or nothing."""
    first = keep(node, {101: Wanted(), 102: Wanted()})
    assert activate(node, first).code == 0
    assert activate(node, keep(node, {101: Wanted({"onboot": "0"})})).code == 0
    before = node.files()
    node.on("systemd-run", _QUORUM % "false")
    node.on("systemctl", "")
    done = node.start("phoenix", "rollback")
    awaits(done, "waiting")
    node.switch(quorum=True)
    done.communicate()
    assert done.returncode == 4
    assert node.files() == before


def synced_before_it_counts(node: Node) -> None:
    """The cluster's fsync does nothing: its database is written through before the journal goes,
    on the way there and on the way back."""
    number = keep(node, {101: Wanted()})
    program, synced = "/usr/local/lib/phoenix.pyz", str(HERE / "proxmox/synced.py")
    for words in (["activate", str(number), "--confirm", "60"], ["recover"]):
        done = node.run("/usr/bin/python3", "-I", "-S", synced, program, *words)
        assert done.code == 0, done
    events = [json.loads(line) for line in done.out.splitlines()]
    synced = [each for each in events if each.get("synced") == "/var/lib/pve-cluster"]
    assert synced
    assert synced[-1]["journal"]
    assert synced[-1]["states"] == node.switch()


def no_folder_for_rules(node: Node) -> None:
    """A node that never had a firewall has no folder for one, and takes no mode for it."""
    (node.pve / "firewall").rmdir()
    assert activate(node, keep(node, {101: Wanted()})).code == 0
    assert (node.pve / "firewall/101.fw").exists()


@dataclass(frozen=True)
class Guard:
    """A scenario, and the edit of a file of the program that takes its guard away."""

    scenario: Callable[[Node], None]
    file: str
    has: str
    lacks: str


_PLATFORM, _CONF = "platform_proxmox.py", "pve_conf.py"
GUARDS = (
    Guard(not_mounted, _PLATFORM, 'return "/etc/pve is not mounted: pve-cluster does not run"',
          'return ""'),
    Guard(unmounted_later, _PLATFORM, "            if path.startswith(files.PVE) and (why := "
          "self.unready()):\n                raise FailedError(why)", "            if False: pass"),
    Guard(no_quorum, _PLATFORM, "if mode & 0o200 else", "if True else"),
    Guard(number_of_a_vm, _PLATFORM, 'place["type"] != "lxc"', "False"),
    Guard(on_another_node, _PLATFORM, 'place["node"] != here', "False"),
    Guard(none_of_ours, "preflight.py", "host.platform.exists(ref.id) and", "False and"),
    Guard(no_template, _PLATFORM, "if code or not self", "if False and not self"),
    Guard(no_device, "preflight.py", "if not os.path.lexists(", "if False and ("),
    Guard(locked, _CONF, 'if "lock" in held:', "if False:"),
    Guard(locked_later, _PLATFORM, " and not pve_conf.bare(conf):\n                raise Failed",
          " and False:\n                raise Failed"),
    Guard(pending, _CONF, 'if b"\\n[pve:pending]" in', "if False and b'' in"),
    Guard(half_a_snapshot, _CONF, 'if re.search(rb"^snapstate:"', 'if re.search(rb"^-:"'),
    Guard(a_template, _CONF, 'held.get("template") == "1"', "False"),
    Guard(network_edited, "pve_lock.py", "return not _taken(", "return False and _taken("),
    Guard(flock_held, "pve_lock.py", "while not _taken(stream.fileno()):", "while False:"),
    Guard(edited_meanwhile, "apply.py", "if not ours and now not in", "if False and now not in"),
    Guard(hot_is_taken, _PLATFORM, "files.write(self.paths.at(path), was, 0o640)", "pass"),
    Guard(restart_refused, "decide.py", "if after.restart and (", "if ("),
    Guard(restart_refused, "perform.py", "elif guest.number not in owing:", "else:"),
    Guard(half_made_is_taken_away, _PLATFORM, '.get("lock") == "create":', ".get('') == 1:"),
    Guard(half_made_is_taken_away, _CONF, 'keys(conf).keys() <= {"lock"}', "False"),
    Guard(anothers_is_not_taken_away, _PLATFORM, "if not pve_conf.tagged(conf, pve_conf.NEW) and",
          "if False and"),
    Guard(network_before_the_cluster, "back.py", "if (far or journal.creates) and", "if False and"),
    Guard(synced_before_it_counts, "journals.py",
          'files.sync_all(host.paths.at("/var/lib/pve-cluster"))',
          "pass"),
    Guard(no_folder_for_rules, "files.py", "if not str(path).startswith(PVE):\n            path",
          "if True:\n            path"),
    Guard(half_way_is_ours, "back.py", "if host.platform.between(", "if False and (lambda *_: 1)("),
    Guard(rollback_without_quorum, "transaction.py",
          "    back.undo(host, journal)\n            _let_go",
          "    journals.close(host, journal)\n            _let_go"),
)  # fmt: skip
SCENARIOS = {guard.scenario.__name__: guard.scenario for guard in GUARDS}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    place = tmp_path / "node"
    place.mkdir()
    with Node(place) as made:
        yield made


@pytest.mark.parametrize("name", sorted(SCENARIOS))
def test_it_trips(node: Node, name: str):
    SCENARIOS[name](node)


@pytest.mark.parametrize(
    "guard", GUARDS, ids=lambda guard: f"{guard.scenario.__name__}-{guard.file}"
)
def test_without_it_the_scenario_fails(node: Node, tmp_path: Path, guard: Guard):
    twin = tmp_path / "twin"
    shutil.copytree(HOST, twin, ignore=shutil.ignore_patterns("__pycache__"))
    path = twin / guard.file
    text = path.read_text()
    assert text.count(guard.has) == 1, "the guard is not where it was"
    path.write_text(text.replace(guard.has, guard.lacks))
    node.install(host_program(twin))
    with pytest.raises(AssertionError):
        guard.scenario(node)
