"""The firewall of plain LXC, with real guests: what is declared passes, all else does not."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from builder.model import Guest
from tests.judges import nft
from tests.kinds.firewall import frames
from tests.kinds.firewall.world import (
    LAN,
    LAN6,
    STRANGER,
    STRANGER_MAC,
    World,
    declared,
    files,
    network,
    plain,
    with_ipv6,
)

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap")]

RULES = "/etc/phoenix/firewall.nft"
PUBLIC = "192.168.1.10"
PORTS = (80, 443, 8000, 8080, 9000, 22)


@pytest.fixture(scope="module")
def host() -> Iterator[World]:
    with World(network(with_ipv6(plain()))) as world:
        yield world


def guest(world: World, number: int) -> Guest:
    return next(m.guest for m in world.network.members if m.guest.id == number)


def mac(world: World, number: int) -> str:
    return guest(world, number).interfaces[0].mac


@pytest.mark.parametrize("version", [4, 6])
def test_exactly_the_declared_flows(host: World, version: int) -> None:
    """Every guest calls every other one on every port that anyone has."""
    guests = [m.guest for m in host.network.members]
    addresses = {g.id: g.address if version == 4 else g.address6 for g in guests}
    serve = {f"g{g.id}": PORTS for g in guests}
    calls = [
        (f"g{a.id}", str(addresses[b.id]), port)
        for a, b, port in product(guests, guests, PORTS)
        if a is not b and addresses[a.id] and addresses[b.id]
    ]
    answers = host.ask(calls, serve=serve)
    passed = {call for call, answer in zip(calls, answers, strict=True) if answer.server}
    assert passed == declared(host.network, version) & set(calls)
    assert len(passed) > 15


def test_outside(host: World) -> None:
    calls = [("g111", LAN, 80), ("g111", LAN, 443), ("g111", LAN, 444), ("g111", LAN6, 443)]
    calls += [("lan", PUBLIC, 443), ("g111", PUBLIC, 443), ("", PUBLIC, 443)]
    answers = host.ask(calls, serve={"lan": [80, 443, 444], "g101": [443]})
    assert [a.server for a in answers] == ["lan", "lan", "", "lan", "g101", "g101", "g101"]


def test_names_and_time() -> None:
    net = network({**plain(), "dns": [LAN]})
    with World(net) as world:
        serve = {"lan": [53, 123, 124], "stranger": [53]}
        calls = [("g111", LAN, 53), ("g111", LAN, 123), ("g111", LAN, 124), ("g111", STRANGER, 53)]
        udp = world.ask(calls, serve=serve, kind="udp")
        tcp = world.ask(calls, serve=serve)
    assert [a.server for a in udp] == ["lan", "lan", "", ""]
    assert [a.server for a in tcp] == ["lan", "", "", ""]


def test_strangers(host: World) -> None:
    """A guest that nobody declared keeps its own ways, and has none to ours but the entrances."""
    serve = {"lan": [444], "stranger": [444], "g101": [443], "g111": [443, 8000], "": [444]}
    open_ways = [("stranger", LAN, 444), ("", STRANGER, 444), ("stranger", "10.0.0.1", 444)]
    open_ways += [("stranger", "10.0.0.101", 443)]
    closed = [("stranger", "10.0.0.111", 443), ("g111", STRANGER, 444), ("g111", "10.0.0.1", 444)]
    # As on Proxmox, the host itself is no exception.
    closed += [("", "10.0.0.111", 443)]
    answers = [a.server for a in host.ask([*open_ways, *closed], serve=serve)]
    assert answers == ["lan", "stranger", "host", "g101", "", "", "", ""]


def test_no_way_by_local_addresses(host: World) -> None:
    """IPv6 link-local addresses are nobody's in the rules; programs listen on them all the same."""
    ours, theirs = ("fe80::102", 443), ("fe80::900", 443)
    calls = [("g101", *ours), ("stranger", *ours), ("g101", *theirs), ("g102", *ours)]
    answers = host.ask(calls, serve={"g102": [443], "stranger": [443]})
    assert [a.server for a in answers] == ["", "", "", "g102"]


def test_echo(host: World) -> None:
    for place, to in (("g111", "10.0.0.101"), ("", "10.0.0.111"), ("g111", "fd00::101")):
        assert host.ping(place, to), (place, to)


def spoofs(world: World) -> dict[str, tuple[str, str]]:
    """What no guest may send, nor anyone else in a guest's name; the flows would let it pass."""
    own, other = mac(world, 111), mac(world, 102)
    alien, gateway = STRANGER_MAC, mac(world, 101)
    mine, theirs, to = "10.0.0.111", "10.0.0.102", "10.0.0.101"
    mine6, theirs6, to6, local, vm = "fd00::111", "fd00::102", "fd00::101", "fe80::1", "10.0.0.201"
    return {
        "address": ("g111", frames.tcp(own, gateway, theirs, to)),
        "address, IPv6": ("g111", frames.tcp(own, gateway, theirs6, to6)),
        "mac": ("g111", frames.tcp(other, gateway, mine, to)),
        "both": ("g111", frames.tcp(other, gateway, theirs, to)),
        "unknown address": ("g111", frames.tcp(own, gateway, "10.0.0.77", to)),
        "arp": ("g111", frames.arp(own, own, theirs, to)),
        "arp's mac": ("g111", frames.arp(own, other, mine, to)),
        "neighbour": ("g111", frames.neighbour(own, mine6, theirs6)),
        "neighbour, local": ("g111", frames.neighbour(own, local, theirs6)),
        "router": ("g111", frames.router(own, local, "2001:db8:9::")),
        "without IPv6": ("g103", frames.neighbour(mac(world, 103), local, "fe80::5")),
        "stranger's address": ("stranger", frames.tcp(alien, gateway, theirs, to)),
        "stranger's address, IPv6": ("stranger", frames.tcp(alien, gateway, theirs6, to6)),
        "stranger's mac": ("stranger", frames.tcp(other, gateway, STRANGER, to)),
        "stranger's arp": ("stranger", frames.arp(alien, alien, theirs, to)),
        "stranger's neighbour": ("stranger", frames.neighbour(alien, local, theirs6)),
        "stranger's router": ("stranger", frames.router(alien, local, "2001:db8:9::")),
        "stranger as the vm": ("stranger", frames.tcp(alien, gateway, vm, to)),
        "stranger's arp as the vm": ("stranger", frames.arp(alien, alien, vm, to)),
    }


def test_nobody_is_somebody_else(host: World) -> None:
    assert host.arrived(spoofs(host), "g101") == set()


def test_anybody_would_be_somebody_else() -> None:
    """Without the rules of ports, each of them comes."""
    with World(network(with_ipv6(plain()))) as world:
        opened, _, _ = world.files[RULES].rpartition("table bridge phoenix_guests {")
        world.load(opened)
        assert world.arrived(spoofs(world), "g101") == set(spoofs(world))
        local = world.ask([("g101", "fe80::102", 443)], serve={"g102": [443]})
        assert local[0].server == "g102"


def test_own_frames_pass(host: World) -> None:
    own, gateway = mac(host, 111), "10.0.0.101"
    good = {
        "tcp": ("g111", frames.tcp(own, mac(host, 101), "10.0.0.111", gateway)),
        "tcp, IPv6": ("g111", frames.tcp(own, mac(host, 101), "fd00::111", "fd00::101")),
        "arp": ("g111", frames.arp(own, own, "10.0.0.111", gateway)),
        "arp probe": ("g111", frames.arp(own, own, "0.0.0.0", gateway)),
        "neighbour": ("g111", frames.neighbour(own, "fd00::111", "fd00::111")),
        "neighbour, local": ("g111", frames.neighbour(own, "fe80::7", "fe80::7")),
        "stranger": ("stranger", frames.arp(STRANGER_MAC, STRANGER_MAC, STRANGER, gateway)),
    }
    assert host.arrived(good, "g101") == set(good)


LINES = [
    ("ct state established", ("g101", "10.0.0.102", 443), False),
    ("@flows4 accept", ("g101", "10.0.0.102", 443), False),
    ("@entrances4 accept", ("g111", "10.0.0.101", 443), False),
    ("ip daddr @guests4 goto judge", ("stranger", "10.0.0.111", 443), True),
    ("ip saddr @guests4 goto judge", ("g111", STRANGER, 443), True),
    ("ip daddr != @networks4", ("g111", LAN, 443), False),
]


@pytest.mark.parametrize(("without", "call", "passes"), LINES, ids=[line[0] for line in LINES])
def test_each_rule_is_needed(
    host: World, without: str, call: tuple[str, str, int], passes: bool
) -> None:
    """The same call the other way round, without the rule."""
    serve = {"g101": [443], "g102": [443], "g111": [443], "lan": [443], "stranger": [443]}
    assert bool(host.ask([call], serve=serve)[0].server) is not passes
    lines = host.files[RULES].splitlines()
    kept = [line for line in lines if without not in line]
    assert len(kept) < len(lines)
    try:
        host.load("\n".join(kept) + "\n")
        assert bool(host.ask([call], serve=serve)[0].server) is passes
    finally:
        host.rules()


def test_closed_entrances_are_open_inside() -> None:
    with World(network({**plain(), "ingress": {"ipv4": False}})) as world:
        calls = [("g111", "10.0.0.101", 443), ("stranger", "10.0.0.101", 443)]
        # Whoever gets in by another table's translation is still no entrance of ours.
        world.load(
            "table ip other {\n\tchain pre {\n\t\ttype nat hook prerouting priority -101;\n"
            "\t\tip daddr 192.168.1.10 tcp dport 444 dnat to 10.0.0.101:443\n\t}\n}\n"
        )
        calls += [("lan", PUBLIC, 444)]
        answers = world.ask(calls, serve={"g101": [443]})
    assert [a.server for a in answers] == ["g101", "g101", ""]


def test_other_rules_stay() -> None:
    text = files(network(with_ipv6(plain())))[RULES].data.decode()
    foreign = "table bridge filter {\n\tchain x {\n\t\taccept\n\t}\n}\n"
    loaded = nft.check(text, before=foreign)
    own = {("inet", "phoenix_guests"), ("bridge", "phoenix_guests"), ("bridge", "filter")}
    assert nft.tables(loaded) == own
