"""liblxc's judge reads back a good config, and says no to what liblxc refuses or passes over."""

from __future__ import annotations

import pytest

from tests.judges import lxc
from tests.judges.tests import refuses

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

GOOD = """
# a guest
lxc.include = /usr/share/lxc/config/common.conf
lxc.include = /usr/share/lxc/config/userns.conf
lxc.arch = amd64
lxc.uts.name = nginx-gateway
lxc.rootfs.path = dir:/var/lib/lxc/101/rootfs
lxc.idmap = u 0 100000 65536
lxc.idmap = g 0 100000 65536
lxc.net.0.type = veth
lxc.net.0.link = vmbr0
lxc.net.0.name = eth0
lxc.net.0.flags = up
lxc.net.0.hwaddr = 02:00:00:00:00:65
lxc.net.0.mtu = 1500
lxc.net.0.ipv4.address = 10.0.0.101/24
lxc.net.0.ipv4.gateway = 10.0.0.1
lxc.net.0.ipv6.address = fd00::101/64
lxc.mount.auto = proc:mixed sys:mixed
lxc.mount.entry = /var/lib/phoenix/guests/101 opt/phoenix none bind,ro,create=dir 0 0
lxc.mount.entry = /dev/nvidia0 dev/nvidia0 none bind,optional,create=file
lxc.cgroup2.devices.allow = c 195:* rwm
lxc.cgroup2.memory.max = 1073741824
lxc.environment = A=B
lxc.start.auto = 1
lxc.start.order = 10
lxc.apparmor.profile = unconfined
"""


def test_good() -> None:
    held = lxc.load(GOOD)
    assert held["lxc.net.0.hwaddr"] == ["02:00:00:00:00:65"]
    assert held["lxc.net.0.ipv4.address"] == ["10.0.0.101/24"]
    assert held["lxc.idmap"] == ["u 0 100000 65536", "g 0 100000 65536"]
    assert len(held["lxc.mount.entry"]) >= 2
    assert "c 195:* rwm" in held["lxc.cgroup2.devices.allow"]


def test_several() -> None:
    many = {str(number): GOOD.replace("nginx-gateway", f"n{number}") for number in range(20)}
    held = lxc.load_all(many)
    assert [held[str(number)]["lxc.uts.name"] for number in range(20)] == [
        [f"n{number}"] for number in range(20)
    ]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lxc.bogus = 1", "Unsupported config key"),
        ("lxc.net.0.bogus = 1", "Unknown network configuration key"),
        ("lxc.net.0.ipv4.address = 10.0.0.301/24", "Invalid ipv4 address"),
        ("lxc.start.auto = maybe", "Failed to parse config file"),
        ("lxc.include = /nowhere", "Failed|No such file"),
        ("not a setting", "passed over"),
        ("foo = bar", "passed over"),
        ("lxc.net.0.hwaddr = zz", "fail at the start"),
        ("lxc.net.0.mtu = big", "fail at the start"),
        ("lxc.mount.entry = /a b", "fail at the start"),
        ("lxc.uts.name = other", "is written"),
    ],
)
def test_bad(line: str, said: str) -> None:
    refuses(lxc.load, GOOD, "lxc.start.order = 10\n", f"lxc.start.order = 10\n{line}\n", said)
