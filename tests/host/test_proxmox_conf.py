"""What a configuration means to Proxmox, and what of it a running guest takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.host import pve_conf
from builder.host.decide import Taken
from builder.host.paths import Paths
from builder.host.platform_lxc import Lxc
from builder.host.platform_proxmox import Proxmox

CONF = b"""\
#described%3A twice
cores: 2
memory: 1024
net0: name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:01
ostype: debian
lxc.mount.entry: /a b none bind 0 0

[pve:pending]
memory: 4096

[before]
memory: 512
"""


@pytest.mark.parametrize(
    ("old", "new", "hot", "restart"),
    [
        (b"memory: 1024", b"memory: 2048", ("memory",), ()),
        (b"cores: 2\n", b"", ("cores",), ()),
        (b"cores: 2\n", b"cores: 2\nswap: 0\ncpulimit: 1\n", ("cpulimit", "swap"), ()),
        (b"memory: 1024\n", b"", (), ("memory",)),
        (b"bridge=vmbr0,", b"bridge=vmbr1,", ("net0",), ()),
        (b"name=eth0,bridge=vmbr0", b"bridge=vmbr0,name=eth0", (), ()),
        (b"ostype: debian", b"ostype: debian\nnameserver: 9.9.9.9", (), ("nameserver",)),
        (b"ostype: debian", b"onboot: 1\nostype: debian\ntags: a;b", (), ()),
        (b"ostype: debian", b"dev0: /dev/x\nmp0: /a,mp=/b\nostype: debian", ("dev0", "mp0"), ()),
        (b"#described%3A twice\n", b"# said otherwise\n", (), ()),
        (b"/a b", b"/a c", (),
         ("lxc.mount.entry /a b none bind 0 0", "lxc.mount.entry /a c none bind 0 0")),
        (b"[before]\nmemory: 512", b"[before]\nmemory: 64", (), ()),
        (b"memory: 4096", b"memory: 4097", (), ()),
        (b"cores: 2\n", b"cores: 7\ncores: 2\n", (), ()),
    ],
)  # fmt: skip
def test_taken(old: bytes, new: bytes, hot: tuple[str, ...], restart: tuple[str, ...]):
    assert CONF.count(old) == 1
    assert pve_conf.takes(CONF, CONF.replace(old, new)) == Taken(hot, restart)
    assert pve_conf.takes(CONF, CONF) == Taken()


def test_a_mount_that_changes_or_goes_is_not_hot():
    one = CONF.replace(b"ostype", b"mp0: /a,mp=/b\nostype")
    two = one.replace(b"/a,mp", b"/c,mp")
    assert pve_conf.takes(one, two) == Taken((), ("mp0",))
    assert pve_conf.takes(one, CONF) == Taken((), ("mp0",))


def test_the_options_of_pct_set():
    new = CONF.replace(b"memory: 1024", b"memory: 2048\nnet1: name=x").replace(b"cores: 2\n", b"")
    options = ["--memory", "2048", "--net1", "name=x", "--delete", "cores"]
    assert pve_conf.options(CONF, new) == options


def test_half_way():
    new = CONF.replace(b"memory: 1024", b"memory: 2048").replace(b"cores: 2", b"cores: 4")
    half = CONF.replace(b"memory: 1024", b"memory: 2048")
    shuffled = b"lxc.mount.entry: /a b none bind 0 0\n" + half.replace(
        b"lxc.mount.entry: /a b none bind 0 0\n", b""
    )
    for now in (CONF, new, half, shuffled, b"", b"lock: create\n"):
        assert pve_conf.between(CONF, new, now)
    other = (
        half.replace(b"2048", b"2049"),
        half.replace(b"ostype: debian\n", b""),
        half.replace(b"ostype", b"tags: x\nostype"),
        half.replace(b"memory: 512", b"memory: 513"),
    )
    for now in other:
        assert not pve_conf.between(CONF, new, now)


def test_retired_and_revived():
    old = CONF.replace(b"net0", b"tags: theirs\nnet0").replace(b"ostype", b"onboot: 1\nostype")
    gone = pve_conf.retired(old)
    keys = pve_conf.keys(gone)
    assert (keys["onboot"], keys["tags"]) == ("0", "theirs;phoenix-retired")
    assert gone.endswith(CONF[CONF.index(b"\n[pve:pending]") :])
    assert gone.index(b"tags:") < gone.index(b"lxc.mount")
    assert pve_conf.retired(gone) != gone or pve_conf.revived(gone) != gone
    back = pve_conf.revived(gone)
    assert pve_conf.keys(back)["tags"] == "theirs"
    assert "onboot" not in pve_conf.keys(back)
    assert pve_conf.revived(old) == old
    assert pve_conf.revived(pve_conf.retired(CONF)) == CONF


@pytest.mark.parametrize(
    ("conf", "root"),
    [
        (b"unprivileged: 1\n", 100000),
        (b"unprivileged: 0\n", 0),
        (b"arch: amd64\n", 0),
        (b"unprivileged: 1\nlxc.idmap: u 0 200000 65536\nlxc.idmap: g 0 300000 65536\n", 200000),
        (b"unprivileged: 1\n\n[one]\nlxc.idmap: u 0 200000 65536\n", 100000),
    ],
)
def test_the_mapped_root(conf: bytes, root: int):
    assert pve_conf.root(conf) == root


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (b"", None),
        (b"lock: migrate\n", "is locked (migrate)"),
        (b"template: 1\n", "is a template"),
        (b"template: 0\n", None),
        (b"\n[pve:pending]\ndelete: memory\n", "has pending changes"),
        (b"\n[one]\nsnapstate: delete\n", "has a snapshot that is not done"),
        (b"\n[one]\nlock: x\n", None),
    ],
)
def test_busy(more: bytes, words: str | None):
    said = pve_conf.busy(b"arch: amd64\n" + more)
    assert said is None if words is None else said is not None and said.startswith(words)


def test_plain_lxc_retires_alike():
    lxc = Lxc(Paths())
    conf = (
        b"lxc.uts.name = a\nlxc.start.auto = 1\nlxc.rootfs.path = dir:/x\n"
        b"lxc.mount.entry = /var/lib/phoenix/guests/1 opt/phoenix none bind 0 0\n"
    )
    gone = lxc.retired(conf)
    assert gone == b"# phoenix-retired\nlxc.uts.name = a\nlxc.rootfs.path = dir:/x\n"
    assert lxc.revived(gone) == b"lxc.uts.name = a\nlxc.rootfs.path = dir:/x\n"
    assert lxc.takes(conf, b"# a word\n" + conf) == Taken()
    assert lxc.takes(conf, gone).restart == ("lxc.mount.entry", "lxc.start.auto")


def test_a_socket_may_have_any_name(tmp_path: Path):
    for name in ("proc/net", "etc/pve/lxc"):
        (tmp_path / name).mkdir(parents=True)
    for guest in (101, 102):
        (tmp_path / f"etc/pve/lxc/{guest}.conf").touch()
    line = b"0000000000000000: 00000002 00000000 00010000 0001 01 "
    names = (b"4711 @\xff\xfe\x80", b"4712 @/var/lib/lxc/101/command")
    (tmp_path / "proc/net/unix").write_bytes(b"".join(line + each + b"\n" for each in names))
    assert Proxmox(Paths(tmp_path)).all() == {101: True, 102: False}
