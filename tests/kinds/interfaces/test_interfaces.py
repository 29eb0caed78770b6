"""/etc/network/interfaces and kernel settings: read, applied and reloaded by the real programs."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface
from typing import Any

import pytest

from builder.kinds import interfaces
from builder.kinds.artifact import HostFile
from tests.judges import ifupdown2
from tests.judges.namespace import Entry, Space
from tests.kinds.firewall import frames
from tests.kinds.firewall.world import STRANGER_MAC, World, data, files, network, plain, with_ipv6

PATH = "/etc/network/interfaces"
_SEND = """
import socket, sys, time
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind((sys.argv[1], 0))
    raw.send(bytes.fromhex(sys.argv[2]))
time.sleep(0.1)
"""
Data = dict[str, Any]


def text(host: Data) -> str:
    return files(network(host))[PATH].data.decode()


def bridged() -> Data:
    """Every option that a bridge with ports can have."""
    host = data()
    host["bridges"] = {
        "vmbr0": {
            "address": "10.0.0.1/24",
            "gateway": "10.0.0.254",
            "address6": "fd00::1/64",
            "gateway6": "fd00::fe",
            "ports": ["eno2", "eno1"],
            "mtu": 1400,
            "addresses": ["10.0.0.9/24", "10.8.0.1/24", "fd08::1/64"],
            "routes": [
                {"to": "10.7.0.0/16", "via": "10.0.0.7"},
                {"to": "fd07::/32", "via": "fd00::7"},
            ],
        },
        "vmbr1": {"address": "10.1.0.1/24"},
        "vmbr2": {},
    }
    return host


def vlans() -> Data:
    host = data()
    host["bridges"]["vmbr0"] |= {"vlan_aware": True, "vlans": "2-100 4000"}
    return host


def uplink(**values: Any) -> Data:
    host = with_ipv6(data())
    host["bridges"]["vmbr0"]["uplink"] = {"interface": "enp3s0", **values}
    return host


HOSTS: dict[str, Data] = {
    "reference": data(),
    "both families": with_ipv6(data()),
    "bridged": bridged(),
    "vlans": vlans(),
    "dhcp": uplink(address="dhcp", address6="dhcp", mtu=1400),
    "advertised": uplink(address="192.168.1.10/24", gateway="192.168.1.1", address6="auto"),
}
BOTH = [(name, kind) for name in HOSTS for kind in ("proxmox", "lxc")]


def test_reference() -> None:
    assert text(data()) == (
        "auto lo\niface lo inet loopback\n\n"
        "auto enp3s0\niface enp3s0 inet static\n"
        "\taddress 192.168.1.10/24\n\tgateway 192.168.1.1\n\n"
        "auto vmbr0\niface vmbr0 inet static\n\taddress 10.0.0.1/24\n"
        "\tbridge-ports none\n\tbridge-stp off\n\tbridge-fd 0\n\n"
        "source /etc/network/interfaces.d/*\n"
    )


def test_bridged() -> None:
    assert text(bridged()) == (
        "auto lo\niface lo inet loopback\n\n"
        "iface eno2 inet manual\n\tmtu 1400\n\n"
        "iface eno1 inet manual\n\tmtu 1400\n\n"
        "auto vmbr0\niface vmbr0 inet static\n"
        "\taddress 10.0.0.9/32\n\taddress 10.8.0.1/24\n\taddress 10.0.0.1/24\n"
        "\tgateway 10.0.0.254\n\tbridge-ports eno1 eno2\n\tbridge-stp off\n\tbridge-fd 0\n"
        "\tmtu 1400\n\tpost-up ip route replace 10.7.0.0/16 via 10.0.0.7 dev vmbr0 proto 80\n\n"
        "iface vmbr0 inet6 static\n\taddress fd08::1/64\n\taddress fd00::1/64\n"
        "\tgateway fd00::fe\n"
        "\tpost-up ip -6 route replace fd07::/32 via fd00::7 dev vmbr0 proto 80\n\n"
        "auto vmbr1\niface vmbr1 inet static\n\taddress 10.1.0.1/24\n"
        "\tbridge-ports none\n\tbridge-stp off\n\tbridge-fd 0\n\n"
        "auto vmbr2\niface vmbr2 inet manual\n"
        "\tbridge-ports none\n\tbridge-stp off\n\tbridge-fd 0\n\n"
        "source /etc/network/interfaces.d/*\n"
    )


def rewritten(written: str) -> dict[tuple[str, str], dict[str, str]]:
    """What is left of each stanza after PVE's GUI wrote the file: of these options the last one."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for line in written.splitlines():
        words = line.split(maxsplit=1)
        if line.startswith("iface "):
            name, family, _ = line.removeprefix("iface ").split()
            kept = found.setdefault((name, family), {})
        elif line.startswith("\t"):
            assert len(words) == len(("option", "value")), f"{line!r} would end the stanza"
            kept[words[0]] = words[1]
        else:
            assert not line or words[0] in {"auto", "source"}, line
    return found


def test_an_edit_in_the_gui_keeps_the_hosts_own_address() -> None:
    kept = rewritten(text(bridged()))
    assert kept["vmbr0", "inet"]["address"] == "10.0.0.1/24"
    assert kept["vmbr0", "inet6"]["address"] == "fd00::1/64"


def addresses(host: Data, name: str) -> set[str]:
    bridge = host["bridges"][name]
    given = [bridge.get("address"), bridge.get("address6"), *bridge.get("addresses", ())]
    return {str(ip_interface(address).ip) for address in given if address}


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
@pytest.mark.parametrize(("name", "kind"), BOTH)
def test_ifupdown2_reads_what_was_declared(name: str, kind: str) -> None:
    host = HOSTS[name] if kind == "proxmox" else plain(HOSTS[name])
    # PVE's ifupdown2 knows the word, Debian's, which judges here, does not.
    read = ifupdown2.check(text(host).replace("inet6 auto", "inet6 manual"))
    for bridge, declared in host["bridges"].items():
        own = [each for each in read if each.name == bridge]
        held = {a for each in own for a in each.attributes.get("address", ())}
        assert {str(ip_interface(a).ip) for a in held} == addresses(host, bridge)
        ports = set(own[0].attributes["bridge-ports"][0].split())
        assert ports == set(declared.get("ports", ["none"]))
        assert own[0].auto


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    with Space() as made:
        lines = "".join(
            f"link add {n} type veth peer name far{n}\nlink set far{n} up\n"
            for n in ("eno1", "eno2")
        )
        made.must(["ip", "-batch", "-"], given=lines)
        yield made


def has(space: Space, name: str) -> set[str]:
    words = space.must(["ip", "-o", "addr", "show", "dev", name, "scope", "global"]).split()
    return {words[i + 1] for i, word in enumerate(words) if word in {"inet", "inet6"}}


def put(space: Space, host: Data, command: str) -> None:
    space.write([Entry(PATH, text(host).encode())])
    ifupdown2.apply(space, command)


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
@pytest.mark.parametrize("kind", ["proxmox", "lxc"])
def test_applied(space: Space, kind: str) -> None:
    """All of it is in effect, and stays so over a reload; a guest stays on its bridge."""
    host = {**bridged(), "platform": {"kind": kind}}
    put(space, host, "ifup")
    space.run(["ip", "link", "add", "veth101i0", "type", "veth", "peer", "name", "inside"])
    space.must(["ip", "link", "set", "veth101i0", "master", "vmbr0", "up"])
    for command in ("true", "ifreload"):
        ifupdown2.apply(space, command)
        expected = {"10.0.0.1/24", "10.0.0.9/32", "10.8.0.1/24", "fd00::1/64", "fd08::1/64"}
        assert has(space, "vmbr0") == expected
        routes = space.must(["ip", "route"]) + space.must(["ip", "-6", "route"])
        for route in ("10.7.0.0/16 via 10.0.0.7", "fd07::/32 via fd00::7"):
            assert f"{route} dev vmbr0" in routes
        for default in ("default via 10.0.0.254 dev vmbr0", "default via fd00::fe dev vmbr0"):
            assert default in routes
        # What a packet from the host bears, with a further address in the same network.
        assert "src 10.0.0.1 " in space.must(["ip", "route", "get", "10.0.0.101"])
        ports = space.must(["ip", "-o", "link", "show", "master", "vmbr0"])
        assert {name for name in ("eno1@", "eno2@") if name in ports} == {"eno1@", "eno2@"}
        assert "mtu 1400" in space.must(["ip", "link", "show", "vmbr0"])
    assert ("veth101i0" in ports) is (kind == "lxc")


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_a_changed_address_leaves_none_behind(space: Space) -> None:
    host = plain(bridged())
    put(space, host, "ifup")
    bridge = host["bridges"]["vmbr0"]
    bridge |= {"address": "10.0.0.2/24", "address6": "fd00::2/64", "addresses": []}
    put(space, host, "ifreload")
    assert has(space, "vmbr0") == {"10.0.0.2/24", "fd00::2/64"}


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_settings_are_taken_with_a_dot_in_the_name() -> None:
    host = uplink(address="192.168.1.10/24", gateway="192.168.1.1")
    host["bridges"]["vmbr0"]["uplink"]["interface"] = "eno1.5"
    file = files(network(host))["/etc/sysctl.d/90-phoenix.conf"]
    with Space(sysctls={}) as space:
        space.must(["ip", "link", "add", "eno1.5", "type", "veth", "peer", "name", "far"])
        space.write([Entry("/etc/sysctl.d/90-phoenix.conf", file.data)])
        result = space.run(["/usr/lib/systemd/systemd-sysctl", "/etc/sysctl.d/90-phoenix.conf"])
        base = "/proc/sys/net/ipv6/conf/eno1.5"
        values = [space.read(f"{base}/{key}") for key in ("accept_ra", "autoconf")]
        forwarding = space.read("/proc/sys/net/ipv4/ip_forward")
    assert (result.code, values, forwarding) == (0, [b"0\n", b"0\n"], b"1\n")


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_forwarding_keeps_the_learnt_route() -> None:
    """On a host that is running: an operator who is there over IPv6 stays there."""
    file = files(network(with_ipv6(data(), uplink="auto")))["/etc/sysctl.d/90-phoenix.conf"]
    with Space(sysctls={}) as space:
        space.write([Entry("/etc/sysctl.d/90-phoenix.conf", file.data)])
        lines = "link add enp3s0 type veth peer name far\nlink set enp3s0 up\nlink set far up\n"
        space.must(["ip", "-batch", "-"], given=lines)
        route = ["ip", "-6", "route", "show", "default"]
        advertise = frames.router("02:00:00:00:00:99", "fe80::99", "2001:db8:9::")
        for _ in range(50):
            space.must(["python3", "-I", "-c", _SEND, "far", advertise])
            if before := space.must(route):
                break
        space.must(["/usr/lib/systemd/systemd-sysctl", "/etc/sysctl.d/90-phoenix.conf"])
        assert space.read("/proc/sys/net/ipv6/conf/enp3s0/forwarding") == b"1\n"
        assert "via fe80::99 dev enp3s0" in before
        assert "via fe80::99 dev enp3s0" in space.must(route)


def test_forwarding_only_where_it_is_routed() -> None:
    def keys(host: Data) -> set[str]:
        return {s.key for s in interfaces.settings(network(host))}

    both = {"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"}
    assert keys(data()) & both == {"net/ipv4/ip_forward"}
    assert keys(with_ipv6(data())) & both == both
    assert keys(bridged()) & both == set()
    paths = set(files(network(bridged())))
    assert not {"/etc/phoenix/nat.nft", "/etc/systemd/system/phoenix-nat.service"} & paths


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_router_advertisements() -> None:
    """The uplink learns from them though the host forwards; a bridge does not."""
    host = plain(with_ipv6(data(), uplink="auto"))
    with World(network(host)) as world:
        frame = frames.router("02:00:00:00:00:99", "fe80::99", "2001:db8:9::")
        inside = frames.router(STRANGER_MAC, "fe80::900", "2001:db8:8::")
        world.arrived({"lan": ("lan", frame), "stranger": ("stranger", inside)}, "lan")
        routes = world.must(["ip", "-6", "route", "show", "default"])
        assert any(a.startswith("2001:db8:9:") for a in has(world, "enp3s0"))
        assert "via fe80::99 dev enp3s0" in routes
        assert has(world, "vmbr0") == {"10.0.0.1/24", "fd00::1/64"}
        # Whoever sets it back, the next reload mends it.
        switch = "/proc/sys/net/ipv6/conf/enp3s0/accept_ra"
        world.must(["tee", switch], given="1")
        ifupdown2.apply(world, "ifreload")
        assert world.read(switch) == b"2\n"
        assert any(a.startswith("2001:db8:9:") for a in has(world, "enp3s0"))


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_the_gateway_stays_when_a_guest_goes() -> None:
    """A bridge without a port of its own has the lowest MAC of the guests."""
    with World(network(with_ipv6(data()))) as world:
        world.ip("link set veth102i0 address 02:00:00:00:00:01")
        calls, serve = [("g111", to, 22) for to in ("10.0.0.1", "fd00::1")], {"": [22]}
        assert [a.server for a in world.ask(calls, serve=serve)] == ["host", "host"]
        world.ip("link del veth102i0")
        assert [a.server for a in world.ask(calls, serve=serve)] == ["host", "host"]


def test_modules() -> None:
    made = files(network())["/etc/modules-load.d/phoenix.conf"].data.decode().split()
    needed = "nf_tables nft_chain_nat nf_nat nf_conntrack nft_redir nft_fib_inet nft_ct"
    assert set(made) >= {*needed.split(), "nft_reject_inet", "nf_conntrack_netlink", "nft_masq"}


def test_every_file_is_of_the_host() -> None:
    merges = {a.path: a.merge for a in interfaces.artifacts(network()) if isinstance(a, HostFile)}
    assert {path for path, merge in merges.items() if merge != "replace"} == {PATH}
