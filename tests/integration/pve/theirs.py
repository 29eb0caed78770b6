"""What is on the node before us: an operator's own guests, as an operator makes them."""

from __future__ import annotations

from builder.lab.shape import foreign_files
from tests.integration.operators import hello, program, wanted
from tests.integration.pve.node import ADOPTED, THEIRS, VM, VOLUME, Host

_ADOPTED = """\
#by hand%3A see the wiki
#  100 %25 mine
arch: amd64
cores: 1
hostname: chat-old
memory: 512
mp0: local-lvm:vm-114-disk-1,mp=/data,size=1G
net0: name=eth0,bridge=vmbr9,hwaddr=BC:24:11:00:01:14,ip=10.9.0.114/24,gw=10.9.0.1,type=veth
onboot: 1
ostype: debian
parent: before
rootfs: local-lvm:vm-114-disk-0,size=4G
swap: 512
tags: home;kitchen
unprivileged: 1

[before]
arch: amd64
hostname: older
memory: 256
ostype: debian
rootfs: local-lvm:vm-114-disk-0,size=4G
snaptime: 1700000000
swap: 0
unprivileged: 1
"""
_VM = """\
boot: order=scsi0
memory: 2048
name: workstation
net0: virtio=BC:24:11:00:02:01,bridge=vmbr9
scsi0: local-lvm:vm-201-disk-0,size=8G
"""


def guests(node: Host) -> None:
    """Two containers that run, one of which is to be adopted, and a VM's configuration."""
    _made(node, THEIRS, foreign_files().__next__().data.decode())
    options = "--memory 512 --swap 0 --onboot 1 --tags theirs"
    net = "name=eth0,bridge=vmbr9,hwaddr=BC:24:11:00:02:00,ip=10.9.0.20/24,gw=10.9.0.1,type=veth"
    node.sh(f"pct set {THEIRS} --hostname theirs --net0 {net} {options}")
    _made(node, ADOPTED, hello(8080))
    node.put(f"/etc/pve/lxc/{ADOPTED}.conf", _ADOPTED)
    node.put(f"/etc/pve/firewall/{ADOPTED}.fw", "[OPTIONS]\nenable: 0\nlog_level_in: info\n")
    node.put(f"/etc/pve/qemu-server/{VM}.conf", _VM)
    for number in (THEIRS, ADOPTED):
        node.run("pct", "start", str(number))


def _made(node: Host, number: int, text: str) -> None:
    """A guest with one program."""
    node.sh(f"pct create {number} {VOLUME} --rootfs local-lvm:4 --unprivileged 1")
    root = f"/var/lib/lxc/{number}/rootfs"
    for path, written in program("program", text).items():
        node.put(f"{root}/{path}", written)
    node.sh(f"cd {root} && {wanted('program')}")
