"""ifupdown2's judge reads back a good file, and says no to what it should."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.judges import ifupdown2
from tests.judges.refusal import Refused
from tests.judges.tests import refuses

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


@pytest.mark.parametrize(
    "lacking", [{"method": "manual"}, {"attributes": {}}, {"auto": False}], ids=str
)
def test_what_is_not_held_is_seen(lacking: dict[str, Any]) -> None:
    """The comparison by itself: ifquery, as it is, holds all that passes the syntax check."""
    written = "auto vmbr0\niface vmbr0 inet static\n    address 10.0.0.1/24\n"
    whole = ifupdown2.Interface("vmbr0", "inet", "static", True, {"address": ["10.0.0.1/24"]})
    ifupdown2._compare(written, (whole,))
    with pytest.raises(Refused, match="held"):
        ifupdown2._compare(written, (replace(whole, **lacking),))


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
    refuses(ifupdown2.check, GOOD, before, after, said)
