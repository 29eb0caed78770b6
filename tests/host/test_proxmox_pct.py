"""The stand-in for pct is as strict as HOST-FACTS says the real one is, sentence by sentence
(proxmox/sentences.py)."""

from __future__ import annotations

import fcntl
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.proxmox import sentences
from tests.host.proxmox.node import TEMPLATE, Done, Node
from tests.host.proxmox.sentences import says
from tests.host.proxmox.strict import GUEST, NEEDS, swept

pytestmark = NEEDS


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node")) as made:
        yield made


@pytest.fixture
def node(one: Node) -> Iterator[Node]:
    """The one node, without what the test before left."""
    yield one
    swept(one)


def refuses(done: Done, words: str) -> None:
    assert done.code == 255, done
    assert words in done.err, done


@says("unknown options, bad ids and wrong states are refused")
def test_strict(node: Node):
    node.foreign(200, GUEST)
    refuses(node.pct("dance", "200"), "unknown command 'pct dance'")
    refuses(node.pct("set", "200", "--wings", "2"), "Unknown option: wings")
    refuses(node.pct("set", "200", "--memory"), "requires an argument")
    refuses(node.pct("set", "200"), "no options specified")
    refuses(node.pct("set", "200", "--memory", "lots"), "type check ('integer') failed")
    refuses(node.pct("set", "200", "--net0", "bridge=vmbr0"), "missing property - 'name'")
    refuses(node.pct("set", "200", "--net32", "name=a"), "Unknown option: net32")
    refuses(node.pct("set", "200", "--lock", "backup"), "Unknown option: lock")
    refuses(node.pct("status", "99"), "type check ('integer') failed")
    refuses(node.pct("status", "299"), "'nodes/pve1/lxc/299.conf' does not exist")
    refuses(node.pct("stop", "200"), "CT 200 not running")
    refuses(node.pct("shutdown", "200"), "CT 200 not running")
    assert node.pct("exec", "200", "--", "true").code == 1
    refuses(node.pct("exec", "200"), "missing command")
    refuses(node.pct("create", "200", TEMPLATE), "CT 200 already exists on node 'pve1'")
    refuses(node.pct("create", "203", "local:vztmpl/no.tar"), "does not exist")
    refuses(node.pct("create", "203", TEMPLATE, "--rootfs", "tape:8"), "storage 'tape'")
    assert not (node.pve / "lxc/203.conf").exists()
    refuses(node.run("pvesm", "path", "template"), "unable to parse volume ID")
    node.must("pct", "start", "200")
    refuses(node.pct("start", "200"), "CT 200 already running")
    refuses(node.pct("destroy", "200"), "container is running")
    assert node.pct("list").out.splitlines()[1].split() == ["200", "running", "theirs"]
    node.must("pct", "stop", "200")
    node.must("pct", "set", "200", "--protection", "1")
    refuses(node.pct("destroy", "200"), "protection mode enabled")


@says("PVE writes NAME.tmp.PID with O_EXCL, then renames")
def test_how_it_writes(node: Node):
    path = node.foreign(200, GUEST)
    # Only its temporary file comes into being before the quorum goes.
    node.switch(lose=1)
    assert node.pct("set", "200", "--memory", "1024").code == 255
    (left,) = (node.pve / "lxc").glob("200.conf.tmp.*")
    assert left.suffix[1:].isdigit()
    assert path.read_text() == GUEST
    node.switch(quorum=True)
    left.unlink()


@says("a config is under flock of /run/lock/lxc/pve-config-VMID.lock")
def test_its_lock(node: Node):
    node.foreign(200, GUEST)
    node.at("/run/lock/lxc").mkdir(exist_ok=True)
    with node.at("/run/lock/lxc/pve-config-200.lock").open("a") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        refuses(node.pct("set", "200", "--cores", "4", PCT_PATIENCE="0.2"), "got timeout")
    assert node.pct("set", "200", "--cores", "4").code == 0


@says("refuse where a lock: key stands")
def test_a_lock_key(node: Node):
    node.foreign(200, GUEST + "lock: backup\n")
    for verb in (["set", "200", "--cores", "4"], ["start", "200"], ["destroy", "200"]):
        refuses(node.pct(*verb), "CT is locked (backup)")


@says("unknown keys warn and stay", "of duplicate keys the last wins silently",
      "unparseable lines and bad lxc.* keys vanish at PVE's next write",
      "lxc.rootfs.path and lxc.hook.start-host are refused",
      "PVE rewrites canonically")  # fmt: skip
def test_its_parser(node: Node):
    odd = "#a note: 50%\nzebra: 1\n!!\nlxc.nonsense = 1\nlxc.rootfs.path = /\n"
    odd += "lxc.hook.start-host: x\n"
    lines = [*reversed(GUEST.splitlines()), "cores: 1", "cores: 3"]
    snapshot = "\n[one]\nmemory: 64\n"
    node.foreign(200, odd + "\n".join(lines) + "\nlxc.uts.name: a\n" + snapshot)
    done = node.pct("set", "200", "--memory", "1024")
    for word in ("unknown key zebra", "unable to parse: !!", "lxc.nonsense", "lxc.rootfs.path"):
        assert word in done.err
    want = GUEST.replace("cores: 2", "cores: 3").replace("memory: 512", "memory: 1024")
    assert node.conf(200) == f"#a note%3A 50%25\n{want}zebra: 1\nlxc.uts.name: a\n{snapshot}"


@says("missing arch, ostype or rootfs fails only at start")
@pytest.mark.parametrize("key", ["arch", "ostype", "rootfs"])
def test_a_key_that_lacks(node: Node, key: str):
    node.foreign(200, "".join(f"{x}\n" for x in GUEST.splitlines() if not x.startswith(key)))
    assert node.pct("set", "200", "--memory", "600").code == 0
    refuses(node.pct("start", "200"), f"missing '{key}'")


@says("hot by pct set", "all else goes to [pve:pending]")
def test_hot_or_pending(node: Node):
    node.foreign(200, GUEST)
    node.must("pct", "start", "200")
    net = "name=eth0,bridge=vmbr1,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth"
    hot = {"memory": "600", "swap": "64", "cores": "1", "cpulimit": "1", "net0": net,
           "dev0": "/dev/net/tun", "onboot": "1"}  # fmt: skip
    node.must("pct", "set", "200", *(w for k, v in hot.items() for w in (f"--{k}", v)))
    runs = node.runs(200) or {}
    assert {key: runs.get(key) for key in hot} == hot
    assert "[pve:pending]" not in node.conf(200)
    cold = {"nameserver": "9.9.9.9", "features": "nesting=1", "dev0": "/dev/fuse"}
    node.must("pct", "set", "200", *(w for k, v in cold.items() for w in (f"--{k}", v)))
    assert node.runs(200) == runs
    waiting = node.conf(200).split("[pve:pending]\n")[1].splitlines()
    assert waiting == [f"{key}: {cold[key]}" for key in sorted(cold)]
    node.must("pct", "set", "200", "--delete", "memory,swap")
    assert "delete: memory" in node.conf(200)
    node.must("pct", "reboot", "200")
    now = node.runs(200) or {}
    assert "memory" not in now
    assert now["nameserver"] == "9.9.9.9"
    assert "[pve:pending]" not in node.conf(200)


@says("rewriting the file under a running container changes nothing in it",
      "a later pct set of the same value is then a no-op")  # fmt: skip
def test_a_rewritten_file(node: Node):
    path = node.foreign(200, GUEST)
    node.must("pct", "start", "200")
    path.write_text(GUEST.replace("memory: 512", "memory: 4096"))
    assert (node.runs(200) or {})["memory"] == "512"
    assert node.pct("pending", "200").out.count("4096") == 1
    node.must("pct", "set", "200", "--memory", "4096")
    assert (node.runs(200) or {})["memory"] == "512"
    node.must("pct", "set", "200", "--memory", "4097")
    assert (node.runs(200) or {})["memory"] == "4097"


@says(
    "any symlink component in a mpN's host path makes the start fail", "a mount's source must exist"
)
def test_mounts(node: Node):
    real = node.at("/var/lib/real")
    real.mkdir(parents=True, exist_ok=True)
    link = node.at("/run/link")
    link.unlink(missing_ok=True)
    link.symlink_to("/var/lib")
    for line, words in (
        ("mp0: /run/link/real,mp=/x\n", "symbolic links are not allowed"),
        ("mp0: /var/lib/none,mp=/x\n", "does not exist"),
        ("lxc.mount.entry: /var/lib/none x none bind 0 0\n", "No such file or directory"),
    ):
        node.foreign(200, GUEST + line)
        refuses(node.pct("start", "200"), words)
    node.foreign(
        200, GUEST + "mp0: /var/lib/real,mp=/x\nlxc.mount.entry: /run/link/real x none bind 0 0\n"
    )
    assert node.pct("start", "200").code == 0
    real.rmdir()


def test_every_sentence_is_held():
    importlib.import_module("tests.host.test_proxmox_standins")
    assert sorted(sentences.HELD) == sorted(sentences.SENTENCES)


def test_real_guests_would_be_of_liblxc(monkeypatch: pytest.MonkeyPatch):
    """What a lab's nested guests start from."""
    monkeypatch.syspath_prepend(str(Path(__file__).with_name("proxmox")))
    nnn, nested = importlib.import_module("nnn"), importlib.import_module("nested")
    conf = nnn.parse(
        (GUEST + "mp0: /srv/models,mp=/models,ro=1\nlxc.mount.entry: /a b none bind 0 0\n").encode()
    )
    lines = nested.liblxc(200, conf).splitlines()
    for line in (
        "lxc.uts.name = theirs",
        "lxc.rootfs.path = dir:/var/lib/lxc/200/rootfs",
        "lxc.idmap = u 0 100000 65536",
        "lxc.net.0.link = vmbr0",
        "lxc.net.0.veth.pair = veth200i0",
        "lxc.net.0.hwaddr = BC:24:11:00:00:01",
        "lxc.mount.entry = /srv/models models none rbind,create=dir,ro 0 0",
        "lxc.mount.entry = /a b none bind 0 0",
    ):
        assert line in lines
