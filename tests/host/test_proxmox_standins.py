"""The stand-in for pmxcfs is as strict as HOST-FACTS says the real one is, sentence by sentence
(proxmox/sentences.py); that for pct: test_proxmox_pct."""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.proxmox.node import Node
from tests.host.proxmox.sentences import says
from tests.host.proxmox.strict import GUEST, NEEDS, gives, swept

pytestmark = NEEDS
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
    swept(one)


def rename(old: Path, new: Path, flags: int) -> None:
    if _LIBC.renameat2(_AT, str(old).encode(), _AT, str(new).encode(), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


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
