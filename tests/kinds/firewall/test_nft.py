"""The firewall of plain LXC, with real guests: what is declared passes, all else does not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import pytest

from builder.model import Guest
from tests.judges import nft
from tests.kinds.firewall import frames
from tests.kinds.firewall.world import (
    LAN,
    LAN6,
    NEXT,
    NEXT6,
    STRANGER,
    STRANGER_MAC,
    Data,
    World,
    bridged,
    data,
    declared,
    files,
    local,
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
    with World(network(with_vm(with_ipv6(plain())))) as world:
        yield world


def with_vm(host: Data) -> Data:
    """The host's VM has IPv6 as well."""
    host["machines"]["workstation"]["address6"] = "fd00::201"
    return host


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


def test_the_host_is_always_reached(host: World) -> None:
    """By ssh, from where an operator may be: outside, and on a guest that nobody declared."""
    calls = [("lan", to, 22) for to in (PUBLIC, "10.0.0.1", "2001:db8:1::10", "fd00::1")]
    calls += [("stranger", to, 22) for to in (PUBLIC, "10.0.0.1")]
    answers = host.ask(calls, serve={"": [22]})
    assert [a.server for a in answers] == ["host"] * len(calls)


def test_the_host_is_not_outside() -> None:
    """What a guest may call outside, it may not call at the host, by whatever address."""
    with World(network({**with_ipv6(plain()), "ingress": {"ipv4": False}})) as world:
        shown = world.must(["ip", "-6", "-o", "addr", "show", "vmbr0", "scope", "link"])
        near = shown.split()[3].partition("/")[0]
        targets = (PUBLIC, "10.0.0.1", "2001:db8:1::10", "fd00::1", near)
        serve = {"": [80, 123, 443], "lan": [443]}
        calls = [("g111", to, port) for to in targets for port in (80, 443)]
        tcp = world.ask([*calls, ("g111", LAN, 443)], serve=serve)
        udp = world.ask([("g111", to, 123) for to in targets], serve=serve, kind="udp")
        # The kernel would take another source, which the port does not let in.
        bound = world.ask([("g111", near, 443)], serve=serve, source="fd00::111")
    assert [a.server for a in tcp] == ["" for _ in calls] + ["lan"]
    assert [a.server for a in (*udp, *bound)] == ["" for _ in (*targets, near)]


def test_no_way_by_local_addresses(host: World) -> None:
    """IPv6 link-local addresses are nobody's in the rules; programs listen on them all the same."""
    ours, theirs = (local(mac(host, 102)), 443), (local(STRANGER_MAC), 443)
    calls = [("g101", *ours), ("stranger", *ours), ("g101", *theirs), ("g102", *ours)]
    answers = host.ask(calls, serve={"g102": [443], "stranger": [443]})
    assert [a.server for a in answers] == ["", "", "", "g102"]


def test_nothing_else_is_heard(host: World) -> None:
    """What is for everybody on the bridge, or bears a guest's MAC alone, is no declared flow."""
    alien, to = STRANGER_MAC, mac(host, 101)
    sent = {
        "broadcast": frames.udp(alien, frames.EVERYBODY, STRANGER, "255.255.255.255"),
        "broadcast of the network": frames.udp(alien, frames.EVERYBODY, STRANGER, "10.0.0.255"),
        "multicast": frames.udp(alien, "01:00:5e:00:00:fb", STRANGER, "224.0.0.251"),
        "all nodes": frames.tcp(alien, "33:33:00:00:00:01", "fd00::900", "ff02::1"),
        "local": frames.tcp(alien, to, local(alien), local(to)),
        "tag": frames.tagged(frames.tcp(alien, to, STRANGER, "10.0.0.101", 445)),
    }
    calls = {name: ("stranger", frame) for name, frame in sent.items()}
    assert host.arrived(calls, "g101") == set()


def test_echo(host: World) -> None:
    for place, to in (("g111", "10.0.0.101"), ("", "10.0.0.111"), ("g111", "fd00::101")):
        assert host.ping(place, to), (place, to)


def spoofs(world: World) -> dict[str, tuple[str, str]]:
    """What no guest may send, nor anyone else in a guest's name; the flows would let it pass."""
    own, other = mac(world, 111), mac(world, 102)
    alien, gateway = STRANGER_MAC, mac(world, 101)
    mine, theirs, to, vm = "10.0.0.111", "10.0.0.102", "10.0.0.101", "10.0.0.201"
    mine6, theirs6, to6, vm6 = "fd00::111", "fd00::102", "fd00::101", "fd00::201"
    here, there, router = local(own), local(alien), "fe80::1"
    return {
        "address": ("g111", frames.tcp(own, gateway, theirs, to)),
        "address, IPv6": ("g111", frames.tcp(own, gateway, theirs6, to6)),
        "mac": ("g111", frames.tcp(other, gateway, mine, to)),
        "both": ("g111", frames.tcp(other, gateway, theirs, to)),
        "unknown address": ("g111", frames.tcp(own, gateway, "10.0.0.77", to)),
        "arp": ("g111", frames.arp(own, own, theirs, to)),
        "arp's mac": ("g111", frames.arp(own, other, mine, to)),
        "neighbour": ("g111", frames.neighbour(own, mine6, theirs6)),
        "neighbour, local": ("g111", frames.neighbour(own, here, theirs6)),
        "the router": ("g111", frames.neighbour(own, mine6, router)),
        "the router, local": ("g111", frames.neighbour(own, here, router)),
        "from the router": ("g111", frames.neighbour(own, router, mine6)),
        "as a router": ("g111", frames.router(own, here, "2001:db8:9::")),
        "without IPv6": ("g103", frames.neighbour(mac(world, 103), here, "fe80::5")),
        "tag": ("g111", frames.tagged(frames.tcp(own, gateway, mine, to, 444))),
        "tag, neighbour": ("g111", frames.tagged(frames.neighbour(own, here, "fd00::112"))),
        "tag, arp": ("g111", frames.tagged(frames.arp(own, own, mine, "10.0.0.102"))),
        "stranger's address": ("stranger", frames.tcp(alien, gateway, theirs, to)),
        "stranger's address, IPv6": ("stranger", frames.tcp(alien, gateway, theirs6, to6)),
        "stranger's mac": ("stranger", frames.tcp(other, gateway, STRANGER, to)),
        "stranger's arp": ("stranger", frames.arp(alien, alien, theirs, to)),
        "stranger's neighbour": ("stranger", frames.neighbour(alien, there, theirs6)),
        "stranger's router": ("stranger", frames.router(alien, there, "2001:db8:9::")),
        "stranger as the vm": ("stranger", frames.tcp(alien, gateway, vm, to)),
        "stranger's arp as the vm": ("stranger", frames.arp(alien, alien, vm, to)),
        "stranger's neighbour as the vm": ("stranger", frames.neighbour(alien, there, vm6)),
    }


def test_nobody_is_somebody_else(host: World) -> None:
    assert host.arrived(spoofs(host), "g101") == set()


def test_anybody_would_be_somebody_else() -> None:
    """Without the rules of ports, each of them comes."""
    with World(network(with_vm(with_ipv6(plain())))) as world:
        opened, _, _ = world.files[RULES].rpartition("table bridge phoenix_guests {")
        world.load(opened)
        assert world.arrived(spoofs(world), "g101") == set(spoofs(world))
        answers = world.ask([("g101", local(mac(world, 102)), 443)], serve={"g102": [443]})
        assert answers[0].server == "g102"


@pytest.mark.parametrize("place", ["g111", "stranger"])
def test_fragments_hide_no_neighbour(host: World, place: str) -> None:
    """Connection tracking puts fragments together: behind it, nobody could tell any more."""
    own = mac(host, 111) if place == "g111" else STRANGER_MAC
    source = "fd00::111" if place == "g111" else "fd00::99"
    whole = frames.neighbour(own, source, "fd00::102")
    sent = [(place, piece) for piece in frames.fragments(whole)]
    assert whole not in host.seen(sent, "g101")
    guard = re.compile(r".*nd-neighbor-advert\b.* drop\n")
    try:
        host.load(guard.sub("", host.files[RULES]))
        assert whole in host.seen(sent, "g101")
    finally:
        host.rules()


def test_own_frames_pass(host: World) -> None:
    own, gateway = mac(host, 111), "10.0.0.101"
    good = {
        "tcp": ("g111", frames.tcp(own, mac(host, 101), "10.0.0.111", gateway)),
        "tcp, IPv6": ("g111", frames.tcp(own, mac(host, 101), "fd00::111", "fd00::101")),
        "arp": ("g111", frames.arp(own, own, "10.0.0.111", gateway)),
        "arp probe": ("g111", frames.arp(own, own, "0.0.0.0", gateway)),
        "neighbour": ("g111", frames.neighbour(own, "fd00::111", "fd00::111")),
        "neighbour, local": ("g111", frames.neighbour(own, local(own), local(own))),
        "neighbour, answer": ("g111", frames.neighbour(own, local(own), "fd00::111")),
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


def test_bridged() -> None:
    """On the LAN itself: what passes the bridge alone is judged as well."""
    with World(network(plain(bridged(data())))) as world:
        serve = {"": [22], "lan": [443, 444], "g101": [443, 22], "g111": [8000]}
        calls = [("lan", "10.0.0.1", 22), ("lan", "fd00::1", 22), ("stranger", "10.0.0.1", 22)]
        calls += [("lan", "10.0.0.101", 443), ("g111", "10.0.0.101", 443)]
        shut = [("lan", "10.0.0.101", 22), ("lan", "10.0.0.111", 8000), ("lan", "fd00::111", 8000)]
        shut += [("g111", NEXT, 444), ("g111", NEXT6, 443)]
        answers = [a.server for a in world.ask([*calls, *shut], serve=serve)]
        own, lan = mac(world, 111), world.must(["ip", "-n", "lan", "-br", "link", "show", "eth0"])
        alien = lan.split()[2]
        to = mac(world, 101)
        near = {
            "address": ("lan", frames.tcp(alien, to, "10.0.0.102", "10.0.0.101")),
            "mac": ("lan", frames.tcp(own, to, NEXT, "10.0.0.101")),
            "arp": ("lan", frames.arp(alien, alien, "10.0.0.102", "10.0.0.101")),
        }
        out = {
            "good": ("g111", frames.arp(own, own, "10.0.0.111", NEXT)),
            "tag": ("g111", frames.tagged(frames.neighbour(own, local(own), "fd00::102"))),
            "tag, own": ("g111", frames.tagged(frames.neighbour(own, local(own), local(own)))),
            "stranger's tag": (
                "stranger",
                frames.tagged(frames.arp(STRANGER_MAC, STRANGER_MAC, "10.0.0.102", NEXT)),
            ),
            "stranger's tag, neighbour": (
                "stranger",
                frames.tagged(frames.neighbour(STRANGER_MAC, local(STRANGER_MAC), "fd00::101")),
            ),
        }
        assert world.arrived(near, "g101") == set()
        assert world.arrived(out, "lan") == {"good"}
    assert answers == ["host", "host", "host", "g101", "g101", *[""] * len(shut)]
