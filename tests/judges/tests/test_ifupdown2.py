"""ifupdown2's judge reads back and applies a good file, and says no to what it should."""

from __future__ import annotations

import pytest

from tests.judges import ifupdown2
from tests.judges.refusal import Refused

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

GOOD = """
auto lo
iface lo inet loopback

auto enp3s0
iface enp3s0 inet static
    address 192.168.1.10/24
    gateway 192.168.1.1

# the guests' bridge
auto vmbr0
iface vmbr0 inet static
    address 10.0.0.1/24
    address 10.0.9.1/24
    bridge-ports none
    bridge-stp off
    bridge-fd 0
    mtu 1500
    up ip route add 10.9.0.0/16 via 10.0.0.9 dev vmbr0
    down ip route del 10.9.0.0/16 via 10.0.0.9 dev vmbr0
iface vmbr0 inet6 static
    address fd00::1/64

auto vmbr1
iface vmbr1 inet manual
    bridge-ports enp4s0 enp5s0
    bridge-stp off
    bridge-fd 0

iface enp4s0 inet manual

iface enp5s0 inet manual

source /etc/network/interfaces.d/*
"""


def test_good() -> None:
    found = ifupdown2.check(GOOD)
    assert [each.name for each in found if each.auto] == ["enp3s0", "lo", "vmbr0", "vmbr0", "vmbr1"]
    bridge = next(each for each in found if each.name == "vmbr0")
    assert bridge.attributes["address"] == ["10.0.0.1/24", "10.0.9.1/24"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("    gateway 192", "    gatway 192", "unsupported keyword"),
        ("gateway 192.168.1.1\n", "gateway 192.168.1.301\n", "invalid value"),
        ("bridge-stp off\n", "bridge-stp maybe\n", "invalid value"),
        ("mtu 1500", "mtu 150000", "out range"),
        ("auto vmbr1", "atuo vmbr1", "unsupported keyword"),
        ("iface enp4s0", "ifase enp4s0", "unsupported keyword"),
        ("auto lo\n", "bogus\nauto lo\n", "passed over|unsupported|error"),
        ("    mtu 1500", "    mtu", "passed over|invalid|error"),
        ("address 10.0.0.1/24", "address 10.0.0.301/24", "does not appear|invalid"),
        ("auto vmbr1", "auto vmbr7", "vmbr7|cannot find"),
    ],
)
def test_bad(before: str, after: str, said: str) -> None:
    assert before in GOOD
    with pytest.raises(Refused, match=said):
        ifupdown2.check(GOOD.replace(before, after))


def test_apply() -> None:
    applied = ifupdown2.apply(GOOD, ["enp3s0", "enp4s0", "enp5s0"])
    assert applied.of("vmbr0") == {"10.0.0.1/24", "10.0.9.1/24", "fd00::1/64"}
    ports = {each["ifname"] for each in applied.links if each.get("master") == "vmbr1"}
    assert ports == {"enp4s0", "enp5s0"}
    routes = {each["dst"]: each for each in applied.routes}
    assert routes["default"]["gateway"] == "192.168.1.1"
    assert routes["10.9.0.0/16"]["gateway"] == "10.0.0.9"


def test_apply_bad() -> None:
    with pytest.raises(Refused, match="enp3s0"):
        ifupdown2.apply(GOOD, ["enp4s0", "enp5s0"])
    with pytest.raises(Refused, match=r"10\.9\.0\.0"):
        ifupdown2.apply(GOOD.replace("via 10.0.0.9", "via 172.16.0.9"), ["enp3s0", "enp4s0"])


def test_lacking() -> None:
    assert ifupdown2.lacks_of(GOOD) == frozenset()
    aware = GOOD.replace("    mtu 1500", "    bridge-vlan-aware yes")
    assert ifupdown2.lacks_of(aware) == frozenset({"vlan-aware"}) & ifupdown2.lacking()
