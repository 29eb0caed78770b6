"""What the tests of the stand-ins have in common."""

from __future__ import annotations

import errno
from collections.abc import Callable

import pytest

from tests.host.proxmox.node import Node

NEEDS = pytest.mark.needs("root", "fuse", "unshare", "ip")
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


def swept(node: Node) -> None:
    """Take away what a test left on a node."""
    node.switch(quorum=True, short=0)
    for guest in (n for n in range(200, 210) if (node.pve / f"lxc/{n}.conf").exists()):
        node.pct("unlock", str(guest))
        node.pct("stop", str(guest))
        (node.pve / f"lxc/{guest}.conf").unlink()


def gives(number: int, does: Callable[..., object], *words: object) -> None:
    """A call fails with this number."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        does(*words)
    assert caught.value.errno == number, errno.errorcode[caught.value.errno or 0]
