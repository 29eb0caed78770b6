from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from builder.lab.network import Route, overlapping, parse, refuse, routes
from builder.problems import UserError

LAN = IPv4Network("198.18.0.0/24")
TABLE = """[
    {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
    {"dst": "192.0.2.0/24", "dev": "eth0", "protocol": "kernel", "scope": "link"},
    {"dst": "198.18.0.0/16", "dev": "tun0"},
    {"dst": "198.18.0.7", "dev": "tun1"},
    {"type": "unreachable", "dst": "198.18.0.128/25"},
    {"type": "local", "dst": "198.18.0.10", "dev": "eth0", "table": "local"},
    {"type": "broadcast", "dst": "198.18.0.255", "dev": "eth0", "table": "local"}
]"""


def route(network: str) -> Route:
    return Route(IPv4Network(network), "tun0")


def test_routes_are_read() -> None:
    assert [(str(each.network), each.device) for each in parse(TABLE)] == [
        ("0.0.0.0/0", "eth0"),
        ("192.0.2.0/24", "eth0"),
        ("198.18.0.0/16", "tun0"),
        ("198.18.0.7/32", "tun1"),
        ("198.18.0.128/25", "no interface"),
    ]
    assert list(parse("")) == []


@pytest.mark.needs("ip")
def test_this_machines_routes_are_read() -> None:
    assert all(isinstance(each.network, IPv4Network) for each in routes())


@pytest.mark.parametrize("taken", ["198.18.0.0/24", "198.18.0.0/15", "198.18.0.7", "128.0.0.0/1"])
def test_what_overlaps_is_refused(taken: str) -> None:
    with pytest.raises(UserError, match=r"overlaps what is routed here: .* \(tun0\)"):
        refuse(LAN, [route("10.0.0.0/8"), route(taken)])


@pytest.mark.parametrize("other", ["0.0.0.0/0", "198.18.1.0/24", "198.19.0.0/16", "10.0.0.0/8"])
def test_what_does_not_overlap_is_taken(other: str) -> None:
    assert overlapping(LAN, [route(other)]) == ()
    refuse(LAN, [route(other)])


def test_networks_of_others_are_refused() -> None:
    with pytest.raises(UserError, match=r"is not in 198\.18\.0\.0/15"):
        refuse(IPv4Network("192.168.1.0/24"), [])
