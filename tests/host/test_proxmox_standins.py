"""The stand-ins for pmxcfs and pct are as strict as HOST-FACTS says the real ones are: sentence by
sentence (proxmox/sentences.py)."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.proxmox import sentences
from tests.host.proxmox.node import TEMPLATE, Done, Node
from tests.host.proxmox.sentences import says

pytestmark = pytest.mark.needs("root", "fuse", "unshare", "ip")
GUEST = """\
arch: amd64
cores: 2
hostname: theirs
memory: 512
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:00:00:01,ip=dhcp,type=veth
ostype: debian
rootfs: local-lvm:vm-200-disk-0,size=4G
swap: 0
unprivileged: 1
"""
_LIBC = ctypes.CDLL(None, use_errno=True)
_AT, _NOREPLACE, _EXCHANGE = -100, 1, 2


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node")) as made:
        yield made


@pytest.fixture
def node(one: Node) -> Iterator[Node]:
    """The one node, without what the test before left."""
    yield one
    one.switch(quorum=True, short=0)
    for guest in (n for n in range(200, 210) if (one.pve / f"lxc/{n}.conf").exists()):
        one.pct("unlock", str(guest))
        one.pct("stop", str(guest))
        (one.pve / f"lxc/{guest}.conf").unlink()


def gives(number: int, does: Callable[..., object], *words: object) -> None:
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        does(*words)
    assert caught.value.errno == number, errno.errorcode[caught.value.errno or 0]


def rename(old: Path, new: Path, flags: int) -> None:
    if _LIBC.renameat2(_AT, str(old).encode(), _AT, str(new).encode(), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


# The cluster's file system.


@says("rename() over an existing file is atomic")
def test_a_rename_replaces(node: Node):
    a, b = node.pve / "a", node.pve / "b"
    a.write_text("new")
    b.write_text("old")
    states = node.switch()
    a.rename(b)
    assert (a.exists(), b.read_text()) == (False, "new")
    assert node.switch() == states + 1, "one transaction"


@says("no symlink (ENOSYS)")
def test_no_symbolic_links(node: Node):
    gives(errno.ENOSYS, os.symlink, "x", node.pve / "link")


@says(
    "its own links: local, lxc, qemu-server", "/etc/pve/local is a symlink, mode & 0200 with quorum"
)
def test_its_own_links(node: Node):
    assert os.readlink(node.pve / "local") == "nodes/pve1"
    assert os.readlink(node.pve / "lxc") == "nodes/pve1/lxc"
    assert os.readlink(node.pve / "qemu-server") == "nodes/pve1/qemu-server"
    assert os.lstat(node.pve / "local").st_mode & 0o200
    node.switch(quorum=False)
    assert not os.lstat(node.pve / "local").st_mode & 0o200


@says("no hard link (EPERM)")
def test_no_hard_links(node: Node):
    (node.pve / "a").write_text("")
    gives(errno.EPERM, os.link, node.pve / "a", node.pve / "hard")


@says("no RENAME_EXCHANGE or NOREPLACE (EINVAL)")
@pytest.mark.parametrize("flags", [_NOREPLACE, _EXCHANGE])
def test_no_flags_of_a_rename(node: Node, flags: int):
    for name in "ab":
        (node.pve / name).write_text(name)
    new = node.pve / ("c" if flags == _NOREPLACE else "b")
    gives(errno.EINVAL, rename, node.pve / "a", new, flags)


@says("no O_TMPFILE")
def test_no_nameless_files(node: Node):
    gives(errno.EOPNOTSUPP, os.open, node.pve, os.O_TMPFILE | os.O_WRONLY)


@says("a rename from another file system gives EXDEV")
def test_no_rename_across(node: Node):
    other = node.at("/run/other")
    other.write_text("")
    gives(errno.EXDEV, os.rename, other, node.pve / "other")


@says("chmod only 0640 (0600 under priv/), else EPERM")
def test_modes(node: Node):
    for path, right, wrong in ((node.pve / "a", 0o640, 0o600), (node.pve / "priv/a", 0o600, 0o640)):
        path.write_text("")
        path.chmod(right)
        gives(errno.EPERM, os.chmod, path, wrong)
        gives(errno.EPERM, os.chmod, path, 0o644)
        assert path.stat().st_mode & 0o777 == right


@says("chown only root:www-data, else EPERM")
def test_owners(node: Node):
    path = node.pve / "a"
    path.write_text("")
    group = path.stat().st_gid
    os.chown(path, 0, group)
    for uid, gid in ((1, group), (0, 0), (100000, 100000)):
        gives(errno.EPERM, os.chown, path, uid, gid)


@says("a file is at most 1 MiB")
def test_a_large_file(node: Node):
    path = node.pve / "large"
    path.write_bytes(b"x" * (1 << 20))
    with path.open("ab", buffering=0) as stream:
        gives(errno.EFBIG, stream.write, b"x")
    assert path.stat().st_size == 1 << 20


@says("one big write() can return short")
def test_a_short_write(node: Node):
    node.switch(short=1000)
    handle = os.open(node.pve / "short", os.O_WRONLY | os.O_CREAT)
    assert os.write(handle, b"x" * 5000) == 1000
    os.close(handle)
    node.switch(short=0)
    handle = os.open(node.pve / "short", os.O_WRONLY)
    assert 0 < os.write(handle, b"x" * (2 << 20)) <= 1 << 20
    os.close(handle)


@says("fsync returns 0 and does nothing",
      "a power cut can roll all of /etc/pve back to an earlier consistent state")  # fmt: skip
def test_what_was_synced_may_go(node: Node):
    path = node.pve / "synced"
    path.write_text("old")
    before = node.switch() - 1
    with path.open("w") as stream:
        stream.write("new")
        stream.flush()
        os.fsync(stream.fileno())
    (node.pve / "more").write_text("")
    assert path.read_text() == "new"
    node.switch(rewind=before)
    assert path.read_text() == "old"
    assert not (node.pve / "more").exists()


@says("without quorum reads work", "without quorum open() for writing succeeds",
      "without quorum write, create, rename and unlink give EACCES")  # fmt: skip
def test_without_quorum(node: Node):
    path = node.pve / "a"
    path.write_text("data")
    node.switch(quorum=False)
    assert path.read_text() == "data"
    handle = os.open(path, os.O_WRONLY)
    gives(errno.EACCES, os.write, handle, b"x")
    os.close(handle)
    gives(errno.EACCES, os.open, node.pve / "fresh", os.O_WRONLY | os.O_CREAT)
    gives(errno.EACCES, os.rename, path, node.pve / "b")
    gives(errno.EACCES, os.unlink, path)
    gives(errno.EACCES, os.mkdir, node.pve / "folder")
    node.switch(quorum=True)
    assert path.read_text() == "data"


def test_quorum_goes_after_so_many_changes(node: Node):
    node.switch(lose=1)
    (node.pve / "one").touch()
    gives(errno.EACCES, os.mkdir, node.pve / "two")


@says("with pmxcfs down /etc/pve is a plain directory")
def test_not_mounted(tmp_path: Path):
    with Node(tmp_path) as node:
        node.unmount()
        assert not (node.pve / "local").is_symlink()
        (node.pve / "lost").write_text("x")


@says("temporary names are safe in /etc/pve/lxc",
      "a VMID is unique in the cluster over containers and VMs: EEXIST",
      "renaming 101.conf away drops the VMID from the cluster's list")  # fmt: skip
def test_numbers(node: Node):
    def listed() -> dict[str, tuple[str, str]]:
        plain = json.loads((node.pve / ".vmlist").read_text())["ids"]
        return {number: (held["type"], held["node"]) for number, held in plain.items()}

    node.switch(nodes=["pve2"])
    node.foreign(200, GUEST)
    node.foreign(201, "memory: 512\n", folder="qemu-server")
    node.foreign(202, GUEST, node="pve2")
    assert listed() == {"200": ("lxc", "pve1"), "201": ("qemu", "pve1"), "202": ("lxc", "pve2")}
    temporary = node.pve / "lxc/.phoenix-new.201.conf"
    temporary.write_text(GUEST)
    assert len(listed()) == 3
    for number in (201, 202):
        path = node.pve / f"lxc/{number}.conf"
        gives(errno.EEXIST, os.rename, temporary, path)
        gives(errno.EEXIST, os.open, path, os.O_WRONLY | os.O_CREAT)
    temporary.rename(node.pve / "lxc/200.conf")
    (node.pve / "lxc/200.conf").rename(node.pve / "lxc/200.conf.kept")
    assert "200" not in listed()
    for path in (node.pve / "qemu-server/201.conf", node.pve / "nodes/pve2/lxc/202.conf"):
        path.unlink()


def test_it_outlives_its_program(tmp_path: Path):
    """The database is what pmxcfs's is: a second one reads what the first one wrote."""
    with Node(tmp_path) as node:
        node.foreign(200, GUEST)
        node.unmount()
        node.at("/run/pmxcfs").unlink()
        words = ["/etc/pve", "pve1", "/var/lib/pve-cluster/config.db", "/run/pmxcfs"]
        program = str(Path(__file__).with_name("proxmox") / "pmxcfs.py")
        again = node.start(sys.executable, program, *words)
        end = time.monotonic() + 20
        while not (node.pve / "local").is_symlink():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert node.conf(200) == GUEST
        node.unmount()
        again.communicate()


# pct.


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
