"""NNN.fw: read back strictly, it says exactly the declared flows, at both ends."""

from __future__ import annotations

from itertools import product

import pytest

from builder.kinds import firewall
from builder.kinds.artifact import HostFile
from builder.network import Network
from tests.kinds.firewall import pve
from tests.kinds.firewall.world import LAN, data, declared, network, with_ipv6

PORTS = (22, 80, 443, 8000, 8001, 8080, 8443, 6333, 6334, 9000)


def guards(net: Network) -> dict[int, pve.Guard]:
    found = {}
    for file in firewall.artifacts(net):
        assert isinstance(file, HostFile)
        assert (file.merge, file.mode) == ("firewall", 0o640)
        number = int(file.path.removeprefix("/etc/pve/firewall/").removesuffix(".fw"))
        found[number] = pve.read(file.data.decode())
    assert set(found) == {m.guest.id for m in net.members}
    return found


def text() -> str:
    made = firewall.artifacts(network(with_ipv6(data())))
    file = next(f for f in made if isinstance(f, HostFile) and f.path.endswith("/101.fw"))
    return file.data.decode()


def test_whole_file() -> None:
    made = firewall.artifacts(network())
    file = next(f for f in made if isinstance(f, HostFile) and f.path.endswith("/103.fw"))
    head, _, rules = file.data.decode().partition("[RULES]\n\n")
    assert head.splitlines() == [
        *("[OPTIONS]", "", "enable: 1", "dhcp: 0", "ipfilter: 1", "macfilter: 1", "ndp: 0"),
        *("policy_in: DROP", "policy_out: DROP", "radv: 0", ""),
        *("[IPSET ipfilter-net0]", "", "10.0.0.103", ""),
    ]
    assert "IN ACCEPT -source 10.0.0.101 -dest 10.0.0.103 -p tcp -dport 9000 # ACME orders" in rules
    assert rules.splitlines()[-8:-4] == [
        "OUT DROP -dest 10.0.0.0/24 # nothing else inside",
        "OUT ACCEPT -dest 192.168.1.10 -p tcp -dport 80 # gateway from inside",
        "OUT ACCEPT -dest 192.168.1.10 -p tcp -dport 443 # gateway from inside",
        "OUT DROP -dest 192.168.1.10 # the host",
    ]


@pytest.mark.parametrize("version", [4, 6])
def test_exactly_the_declared_flows(version: int) -> None:
    net = network(with_ipv6(data()))
    files, every = guards(net), [m.guest for m in net.members]
    addresses = {g.id: str((g.address if version == 4 else g.address6) or "") for g in every}
    passed = set()
    for a, b, port in product(every, every, PORTS):
        source, to = addresses[a.id], addresses[b.id]
        if a is b or not (source and to):
            continue
        ways = ((files[a.id], "OUT"), (files[b.id], "IN"))
        ends = [guard.lets(way, "tcp", source, to, port) for guard, way in ways]
        assert len(set(ends)) == 1, f"only one end of {a.name} → {b.name}:{port} is open"
        if all(ends):
            passed.add((f"g{a.id}", to, port))
    assert passed == declared(net, version)
    assert len(passed) > 15


def test_outside() -> None:
    files = guards(network({**data(), "dns": ["9.9.9.9"]}))
    own = "10.0.0.111"
    out = [("tcp", LAN, 443), ("tcp", LAN, 80), ("udp", LAN, 123), ("udp", "9.9.9.9", 53)]
    assert all(files[111].lets("OUT", p, own, to, port) for p, to, port in out)
    shut = [("tcp", LAN, 22), ("udp", LAN, 53), ("tcp", "10.0.0.1", 443), ("tcp", "10.0.0.200", 80)]
    assert not any(files[111].lets("OUT", p, own, to, port) for p, to, port in shut)
    assert files[101].lets("IN", "tcp", LAN, "10.0.0.101", 443)
    assert not files[101].lets("IN", "tcp", LAN, "10.0.0.101", 22)
    assert not files[111].lets("IN", "tcp", LAN, own, 8000)
    assert files[111].lets("IN", "echo", LAN, own, 0)


@pytest.mark.parametrize("entering", [True, False])
def test_the_host_is_not_outside(entering: bool) -> None:
    """What a guest may call outside, it may not call at the host but for the gateway."""
    ingress = {"ipv4": entering, "ipv6": entering}
    site = data("site.yaml")
    site["services"]["vectors"] |= {
        "protocol": "tcp",
        "expose": [{"name": "v.example.org", "port": 8443}],
    }
    guard = guards(network({**with_ipv6(data()), "ingress": ingress}, site))[111]
    ends = (("10.0.0.111", "192.168.1.10"), ("fd00::111", "2001:db8:1::10"))
    for own, host in ends:
        for port in (80, 443, 8443):
            assert guard.lets("OUT", "tcp", own, host, port) is entering
        assert not guard.lets("OUT", "udp", own, host, 123)
        assert not guard.lets("OUT", "tcp", own, host, 8006)
    assert not guard.lets("OUT", "tcp", "fd00::111", "fe80::1", 443)
    assert guard.lets("OUT", "tcp", "fd00::111", "2001:db8:9::1", 443)


def test_nobody_sends_as_another() -> None:
    files = guards(network())
    assert files[111].lets("OUT", "tcp", "10.0.0.111", "10.0.0.101", 443)
    assert not files[111].lets("OUT", "tcp", "10.0.0.102", "10.0.0.101", 443)


def test_closed_entrances_are_open_inside() -> None:
    files = guards(network({**data(), "ingress": {"ipv4": False}}))
    assert files[101].lets("IN", "tcp", "10.0.0.111", "10.0.0.101", 443)
    assert not files[101].lets("IN", "tcp", LAN, "10.0.0.101", 443)
    six = guards(network(with_ipv6(data())))
    assert six[101].lets("IN", "tcp", "fd00::111", "fd00::101", 443)
    assert not six[101].lets("IN", "tcp", "2001:db8:1::50", "fd00::101", 443)


def test_only_who_speaks_ipv6_hears_neighbours() -> None:
    files = guards(network(with_ipv6(data())))
    assert {number: g.options["ndp"] for number, g in files.items() if number < 110} == {
        101: "1",
        102: "1",
        103: "0",
    }
    assert files[101].sets == {"ipfilter-net0": {"10.0.0.101", "fd00::101"}}


BROKEN = {
    "yes for 1": ("enable: 1", "enable: yes"),
    "off": ("enable: 1", "enable: 0"),
    "open policy": ("policy_in: DROP", "policy_in: ACCEPT"),
    "unknown option": ("radv: 0", "radvd: 0"),
    "option twice": ("radv: 0", "radv: 0\nradv: 1"),
    "unknown section": ("[RULES]", "[RULE]"),
    "set's name": ("[IPSET ipfilter-net0]", "[IPSET ipfilter-eth0]"),
    "no section": ("[OPTIONS]\n", ""),
    "lower case action": ("IN ACCEPT", "IN accept"),
    "no action": ("IN ACCEPT", "IN"),
    "group": ("IN ACCEPT", "GROUP web"),
    "switched off": ("IN ACCEPT", "|IN ACCEPT"),
    "bad address": ("-source 10.0.0.103", "-source 10.0.0.300"),
    "host bits": ("-source 10.0.0.103", "-source 10.0.0.103/24"),
    "a name": ("-source 10.0.0.103", "-source step-ca"),
    "unknown set": ("-source 10.0.0.103", "-source +step-ca"),
    "two families": ("-source 10.0.0.103", "-source fd00::103"),
    "port without protocol": ("-p tcp -dport 80", "-dport 80"),
    "port by name": ("-dport 80 ", "-dport http "),
    "port too high": ("-dport 80 ", "-dport 80000 "),
    "misspelt": ("-dport", "-dports"),
    "two dashes short": ("-dest", "dest"),
    "address in a set": ("\n10.0.0.101\n", "\n10.0.0\n"),
    "carriage return": ("\n", "\r\n"),
    "no last line": ("# time\n\n", "# time"),
    "empty": ("", None),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_pve_would_skip_is_found(name: str) -> None:
    old, new = BROKEN[name]
    good = text()
    pve.read(good)
    bad = "" if new is None else good.replace(old, new, 1 if name != "no last line" else -1)
    assert bad != good
    if name == "no last line":
        bad = bad.rstrip("\n")
    with pytest.raises(pve.SkippedError):
        pve.read(bad)


def test_a_flow_that_is_missing_is_found() -> None:
    """The comparison with the flows is no mere comparison with itself."""
    net = network()
    lost = text().replace("-dport 443 # gateway to mesh", "-dport 444 # gateway to mesh")
    guard = pve.read(lost)
    assert not guard.lets("OUT", "tcp", "10.0.0.101", "10.0.0.102", 443)
    assert ("g101", "10.0.0.102", 443) in declared(net, 4)
