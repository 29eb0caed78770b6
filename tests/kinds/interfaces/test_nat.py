"""What a routed host lets through: its real rules, with clients outside, guests and strangers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from tests.judges import nft
from tests.kinds.firewall.world import LAN, LAN6, STRANGER, World, data, files, network, with_ipv6

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap")]

PUBLIC, PUBLIC6 = "192.168.1.10", "2001:db8:1::10"
SERVE = {"g101": [80, 443, 8443], "g111": [443, 8000], "lan": [80, 443, 444], "stranger": [444]}
NAT = "/etc/phoenix/nat.nft"


Data = dict[str, Any]


def who(world: World, calls: Sequence[tuple[str, str, int]], source: str = "") -> list[str]:
    return [f"{a.server} {a.client}".strip() for a in world.ask(calls, serve=SERVE, source=source)]


def everyone(address: str) -> list[tuple[str, str, int]]:
    """Calls from outside, from a guest and from the host itself."""
    return [(place, address, 443) for place in ("lan", "g111", "")]


@pytest.fixture(scope="module")
def routed() -> Iterator[World]:
    with World(network()) as world:
        yield world


def test_from_outside(routed: World) -> None:
    calls = [("lan", PUBLIC, 80), ("lan", PUBLIC, 443), ("lan", PUBLIC, 444)]
    assert who(routed, calls, LAN) == [f"g101 {LAN}", f"g101 {LAN}", ""]


def test_guests_are_closed_from_outside(routed: World) -> None:
    calls = [("lan", "10.0.0.101", 443), ("lan", "10.0.0.111", 8000), ("lan", STRANGER, 444)]
    assert who(routed, calls) == ["", "", ""]


def test_out(routed: World) -> None:
    calls = [("g111", LAN, 443), ("stranger", LAN, 444), ("", LAN, 443)]
    assert who(routed, calls) == [f"lan {PUBLIC}"] * 3


def test_hairpin(routed: World) -> None:
    calls = [("g111", PUBLIC, 443), ("g102", PUBLIC, 80), ("stranger", PUBLIC, 443)]
    assert who(routed, calls) == ["g101 10.0.0.1"] * 3


def test_hairpin_of_the_host_itself(routed: World) -> None:
    assert who(routed, [("", PUBLIC, 443), ("", PUBLIC, 444)]) == [f"g101 {PUBLIC}", ""]


def test_the_host_is_always_reached(routed: World) -> None:
    """By ssh, from where an operator may be, at each address that it has."""
    calls = [
        (place, to, 22) for place in ("lan", "stranger", "g111") for to in (PUBLIC, "10.0.0.1")
    ]
    answers = routed.ask(calls, serve={**SERVE, "": [22]})
    assert [a.server for a in answers] == ["host"] * len(calls)


def test_inside_passes(routed: World) -> None:
    calls = [("g111", STRANGER, 444), ("stranger", "10.0.0.111", 443), ("", "10.0.0.111", 443)]
    expected = ["stranger 10.0.0.111", f"g111 {STRANGER}", "g111 10.0.0.1"]
    assert who(routed, calls) == expected


def wide() -> Data:
    """A bridge with a further network, in which there are guests too, and an internal bridge."""
    host = with_ipv6(data())
    host["bridges"]["vmbr0"]["addresses"] = ["10.8.0.1/24", "fd08::1/64"]
    host["guests"]["vllm-1"] |= {"address": "10.8.0.111", "address6": "fd08::111"}
    host["guests"]["nginx-gateway"] |= {"address": "10.8.0.101", "address6": "fd08::101"}
    host["bridges"]["vmbr1"] = {"address": "10.1.0.1/24"}
    host["guests"]["qdrant"] = {"id": 113, "bridge": "vmbr1", "address": "10.1.0.113"}
    return {**host, "ingress": {"ipv6": True}}


@pytest.fixture(scope="module")
def further() -> Iterator[World]:
    with World(network(wide())) as world:
        yield world


def test_further_networks_are_translated(further: World) -> None:
    calls = [("g111", LAN, 443), ("g111", LAN6, 443), ("g112", LAN, 443)]
    assert who(further, calls) == [f"lan {PUBLIC}", f"lan {PUBLIC6}", f"lan {PUBLIC}"]


@pytest.mark.parametrize("tracked", ["0", "1"])
def test_hairpin_in_a_further_network(further: World, tracked: str) -> None:
    calls = [("g111", PUBLIC, 443), ("g112", PUBLIC, 443), ("g111", PUBLIC6, 443)]
    switches = [f"/proc/sys/net/bridge/bridge-nf-call-{name}tables" for name in ("ip", "ip6")]
    try:
        further.must(["tee", *switches], given=tracked)
        expected = ["g101 10.8.0.1", "g101 10.0.0.112", "g101 fd08::1"]
        assert who(further, calls) == expected
    finally:
        further.must(["tee", *switches], given="1")


def test_internal_bridges_are_closed_from_outside(further: World) -> None:
    """A guest's answer would go by its other interface; what comes in is enough for some."""
    further.ip("route add default via 10.1.0.1", place="g113")
    serve = {"g113": [5432]}
    assert further.ask([("lan", "10.1.0.113", 5432)], serve=serve)[0].server == ""
    assert further.ask([("", "10.1.0.113", 5432)], serve=serve)[0].server == "g113"
    further.load("flush ruleset")
    assert further.ask([("lan", "10.1.0.113", 5432)], serve=serve)[0].server == "g113"
    further.rules()


def test_a_machine_outside_enters_for_what_it_is_declared_for() -> None:
    """By its own routes: metrics here, orders of its certificate; nobody else beside it does."""
    host = data()
    host["machines"] = {"monitor": {"address": LAN}, "workstation": host["machines"]["workstation"]}
    host["watch"] = {"scrapers": ["monitor"]}
    serve = {"g102": [443, 9443], "g103": [22, 9000], "g111": [8000]}
    calls = [("lan", f"10.0.0.{end}", port)
             for end, port in ((102, 9443), (103, 9000), (103, 22), (111, 8000))]  # fmt: skip
    with World(network(host)) as world:
        found = [world.ask(calls, serve=serve, source=source) for source in (LAN, "192.168.1.1")]
        assert [a.server for a in found[0]] == ["g102", "g103", "", ""]
        assert [a.server for a in found[1]] == [""] * 4
        world.load(_twin(world, "accept comment"))
        assert {a.server for a in world.ask(calls, serve=serve, source=LAN)} == {""}


TWINS = [
    ("goto entering", ("lan", "10.0.0.111", 8000), f"g111 {LAN}"),
    ("masquerade", ("g111", LAN, 443), "lan 10.0.0.111"),
    ("iifname @entries", ("lan", PUBLIC, 443), ""),
    ("\t\tip daddr 192.168.1.10 tcp dport @ports", ("", PUBLIC, 443), ""),
    ("ct status dnat accept", ("lan", PUBLIC, 443), ""),
    ("ct state established", ("g111", LAN, 443), ""),
]


@pytest.mark.parametrize(("without", "call", "then"), TWINS, ids=[t[0].strip() for t in TWINS])
def test_each_rule_is_needed(
    routed: World, without: str, call: tuple[str, str, int], then: str
) -> None:
    try:
        routed.load(_twin(routed, without))
        source = LAN if call[0] == "lan" else ""
        assert who(routed, [call], source) == [then]
    finally:
        routed.rules()


def _twin(world: World, without: str) -> str:
    lines = world.files[NAT].splitlines()
    kept = [line for line in lines if without not in line]
    assert len(kept) < len(lines)
    return "\n".join(kept) + "\n"


def test_hairpin_without_br_netfilter(routed: World) -> None:
    """Where bridged packets are not tracked, an answer must come back through the host."""
    switch = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    try:
        routed.must(["tee", switch], given="0")
        assert who(routed, [("g111", PUBLIC, 443)]) == ["g101 10.0.0.1"]
        routed.load(_twin(routed, "snat ip to"))
        assert who(routed, [("g111", PUBLIC, 443)]) == [""]
    finally:
        routed.must(["tee", switch], given="1")
        routed.rules()


def test_other_rules_stay() -> None:
    text = files(network())[NAT].data.decode()
    foreign = "table ip nat {\n\tchain x {\n\t\ttcp dport 53 accept\n\t}\n}\n"
    loaded = nft.check(text, before=foreign)
    assert nft.tables(loaded) == {("inet", "phoenix_nat"), ("ip", "nat")}
    assert nft.rules(loaded, "x") != []


def test_address_by_dhcp() -> None:
    host = data()
    host["bridges"]["vmbr0"]["uplink"] = {"interface": "enp3s0", "address": "dhcp"}
    leased = {"inet dhcp": f"inet static\n\taddress {PUBLIC}/24"}
    with World(network(host), instead=leased) as world:
        own = [("g111", "10.0.0.1", 443), ("", "10.0.0.1", 443), ("", "127.0.0.1", 443)]
        # By ssh the host is met at the same address.
        own += [("lan", PUBLIC, 22), ("g111", PUBLIC, 22)]
        answers = world.ask([*everyone(PUBLIC), *own], serve={**SERVE, "": [443, 22]})
    servers = [answer.server for answer in answers]
    assert servers == ["g101"] * 3 + ["host"] * len(own)


def test_ingress_can_be_closed() -> None:
    with World(network({**data(), "ingress": {"ipv4": False}})) as world:
        assert who(world, [("lan", PUBLIC, 443), ("g111", LAN, 443)]) == ["", f"lan {PUBLIC}"]


def test_exposed_port() -> None:
    site = data("site.yaml")
    site["services"]["vectors"] |= {
        "protocol": "tcp",
        "expose": [{"name": "v.example.org", "port": 8443}],
    }
    with World(network(site=site)) as world:
        calls = [("lan", PUBLIC, 8443), ("lan", PUBLIC, 444)]
        assert who(world, calls, LAN) == [f"g101 {LAN}", ""]


def test_ipv6_private_and_closed() -> None:
    with World(network(with_ipv6(data()))) as world:
        calls = [("lan", PUBLIC6, 443), ("lan", "fd00::101", 443), ("g111", LAN6, 443)]
        assert who(world, calls) == ["", "", f"lan {PUBLIC6}"]


def test_ipv6_private_and_declared() -> None:
    host = {**with_ipv6(data()), "ingress": {"ipv6": True}}
    with World(network(host)) as world:
        answers = who(world, everyone(PUBLIC6))
    assert answers[1:] == ["g101 fd00::1", f"g101 {PUBLIC6}"]
    assert answers[0].startswith("g101 2001:db8:1::")


def test_ipv6_global_and_closed() -> None:
    with World(network(with_ipv6(data(), "2001:db8:2::"))) as world:
        calls = [("lan", "2001:db8:2::101", 443), ("g111", LAN6, 443)]
        assert who(world, calls) == ["", "lan 2001:db8:2::111"]


def test_ipv6_global_and_declared() -> None:
    host = {**with_ipv6(data(), "2001:db8:2::"), "ingress": {"ipv6": True}}
    with World(network(host)) as world:
        gateway, other = ("lan", "2001:db8:2::101", 443), ("lan", "2001:db8:2::111", 443)
        assert who(world, [gateway, other, ("lan", PUBLIC6, 443)], LAN6) == [
            f"g101 {LAN6}",
            "",
            f"g101 {LAN6}",
        ]


def test_ipv6_learnt_from_advertisements() -> None:
    host = {**with_ipv6(data(), uplink="auto"), "ingress": {"ipv6": True}}
    learnt = {"inet6 auto": f"inet6 static\n\taddress {PUBLIC6}/64\n\tgateway 2001:db8:1::1"}
    with World(network(host), instead=learnt) as world:
        answers = world.ask([*everyone(PUBLIC6), ("g111", LAN6, 443)], serve=SERVE)
    assert [a.server for a in answers] == ["g101", "g101", "g101", "lan"]


def firewalled(world: World) -> None:
    """Put the bridges of PVE's firewall between a guest and vmbr0."""
    world.ip(
        "link add fwbr111i0 type bridge",
        "link add fwln111i0 type veth peer name fwpr111p0",
        "link set veth111i0 nomaster",
        "link set veth111i0 master fwbr111i0",
        "link set fwln111i0 master fwbr111i0",
        "link set fwpr111p0 master vmbr0",
        *(f"link set {name} up" for name in ("fwbr111i0", "fwln111i0", "fwpr111p0")),
    )
    # The host's addresses are none of the firewall bridge's.
    world.must(["tee", "/proc/sys/net/ipv4/conf/fwbr111i0/rp_filter"], given="2")


def test_masquerading_behind_firewall_bridges() -> None:
    calls = [("g111", LAN, 443), ("g111", PUBLIC, 443)]
    with World(network()) as world:
        firewalled(world)
        assert who(world, calls) == [f"lan {PUBLIC}", "g101 10.0.0.1"]
    with World(network(), without=["ct zone set"]) as world:
        firewalled(world)
        assert who(world, calls) != [f"lan {PUBLIC}", "g101 10.0.0.1"]
