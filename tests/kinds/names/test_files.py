"""Names as they are written: judged by BIND's named-checkzone, and by what a resolver reads."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from builder.emit.fixed import fixed
from builder.kinds import names
from builder.kinds.artifact import GuestFiles, KitFiles
from builder.network import Network
from builder.tree import Tree
from tests.kinds.traefik.running import documents, network
from tests.kinds.units import machine
from tests.kinds.units.machine import Machine

HEAD = "$TTL 300\n{0} IN SOA localhost. hostmaster.localhost. 1 3600 600 86400 300\n"


def guest(net: Network, name: str = "webui") -> Tree:
    (found,) = (a for a in names.artifacts(net) if isinstance(a, GuestFiles) and a.guest == name)
    return found.tree


def kit(net: Network) -> Tree:
    (found,) = (a for a in names.artifacts(net) if isinstance(a, KitFiles))
    assert found.name == "site"
    return found.tree


def pairs(data: bytes) -> list[tuple[str, str]]:
    """(address, name) of each line; a line has just one name."""
    found = []
    for line in data.decode().splitlines():
        address, name = line.split(" ")
        found.append((address, name))
    return found


def exposed(net_names: list[str]) -> Network:
    """The reference, with one service exposed under these names."""
    site, _ = documents()
    service = {"backends": ["webui"], "port": 8080, "expose": net_names}
    return network({**site, "services": {"webui": service}, "certificates": {}})


@pytest.fixture(scope="module")
def judge() -> Iterator[Machine]:
    with machine.booted(guest(network())) as found:
        yield found


def test_the_ca_finds_every_name_that_it_is_asked_for() -> None:
    """Also that of a tcp service, which the mesh tells apart by it, where no guest may call."""
    site, _ = documents()
    store = {"backends": ["qdrant"], "port": 5432, "protocol": "tcp",
             "expose": [{"name": "store.example.org", "port": 5432}]}  # fmt: skip
    net = network({**site, "services": {**site["services"], "store": store}})
    ordered = {n for m in net.members for c in m.certificates for n in c.names}
    assert "store.svc.phoenix.internal" in ordered
    found = {name for _, name in pairs(guest(net, "step-ca").file("names/hosts").data)}
    assert ordered <= found


def test_every_name_is_there() -> None:
    net = network()
    found = pairs(guest(net).file("names/hosts").data)
    assert sorted(found) == sorted((str(a), n) for n, every in net.names for a in every)
    table = {name: address for address, name in found}
    assert table["vllm-1.phoenix.internal"] == "10.0.0.111"
    assert table["chat.svc.phoenix.internal"] == "10.0.0.102"
    assert table["chat.example.org"] == "10.0.0.101"
    assert table["workstation.phoenix.internal"] == "10.0.0.201"
    # An address is called by the first line it has: its owner's name, not a service's.
    first: dict[str, str] = {}
    for address, name in found:
        first.setdefault(address, name)
    assert first["10.0.0.101"] == "nginx-gateway.phoenix.internal"
    assert first["10.0.0.102"] == "traefik-mesh.phoenix.internal"


def test_both_families() -> None:
    _, hosts = documents()
    host = hosts["pve1"]
    host["bridges"]["vmbr0"]["address6"] = "fd00::1/64"
    host["guests"]["webui"]["address6"] = "fd00::114"
    site, _ = documents()
    net = network(site, host)
    found = pairs(guest(net).file("names/hosts").data)
    assert ("fd00::114", "webui.phoenix.internal") in found
    assert ("10.0.0.114", "webui.phoenix.internal") in found
    versions = [":" in address for address, _ in found]
    assert versions == sorted(versions)
    assert (
        b"webui.phoenix.internal. IN AAAA fd00::114\n"
        in kit(net).file("phoenix.internal.zone").data
    )


def test_resolv_conf_is_ours_on_plain_lxc_alone() -> None:
    text = guest(network(host="lab")).file("names/resolv.conf").data
    assert text.decode().splitlines()[1:] == [
        "search phoenix.internal", "nameserver 9.9.9.9", "nameserver 1.1.1.1",
    ]  # fmt: skip
    with pytest.raises(KeyError):
        guest(network()).file("names/resolv.conf")


UPLINK = {"interface": "enp3s0", "address": "192.168.1.10/24", "gateway": "192.168.1.1"}
UPLINK6 = UPLINK | {"address6": "2001:db8::10/64", "gateway6": "2001:db8::1"}
ROUTED = {"address": "10.0.0.1/24", "address6": "2001:db8:1::1/64"}
BRIDGED = {"address": "10.0.0.1/24", "gateway": "10.0.0.254", "ports": ["enp3s0"]}
BRIDGED6 = BRIDGED | {"address6": "2001:db8:1::1/64", "gateway6": "2001:db8:1::fe"}


@pytest.mark.parametrize(
    ("bridge", "ingress", "entrance"),
    [
        (ROUTED | {"uplink": UPLINK}, {}, {"192.168.1.10"}),
        (ROUTED | {"uplink": UPLINK6}, {}, {"192.168.1.10"}),
        (ROUTED | {"uplink": UPLINK6}, {"ipv6": True}, {"192.168.1.10", "2001:db8::10"}),
        (ROUTED | {"uplink": UPLINK6}, {"ipv4": False, "ipv6": True}, {"2001:db8::10"}),
        (ROUTED | {"uplink": UPLINK6 | {"address6": "auto"}}, {"ipv6": True}, {"192.168.1.10"}),
        (ROUTED | {"uplink": {"interface": "enp3s0", "address": "dhcp"}}, {}, set()),
        (BRIDGED6, {}, {"10.0.0.101"}),
        (BRIDGED6, {"ipv6": True}, {"10.0.0.101", "2001:db8:1::101"}),
        (BRIDGED6, {"ipv4": False}, set()),
    ],
)
def test_exposed_names_stand_for_where_traffic_enters(
    bridge: dict[str, object], ingress: dict[str, bool], entrance: set[str]
) -> None:
    """Without a known entrance there is no such name, and all others are there."""
    site, hosts = documents()
    host = hosts["pve1"] | {"ingress": ingress, "bridges": {"vmbr0": bridge}}
    host["guests"]["nginx-gateway"]["address6"] = "2001:db8:1::101"
    files = kit(network(site, host))
    name = "chat.example.org"
    assert {a for a, n in pairs(files.file("hosts").data) if n == name} == entrance
    assert (f"{name}.zone" in [e.path for e in files]) is bool(entrance)
    assert ("10.0.0.111", "vllm-1.phoenix.internal") in pairs(files.file("hosts").data)


@pytest.mark.parametrize("name", ["phoenix.internal", "x.phoenix.internal"])
def test_exposed_below_or_as_the_own_domain(name: str) -> None:
    files = kit(exposed([name]))
    assert [e.path for e in files] == ["hosts", "phoenix.internal.zone"]
    assert f"\n{name}. IN A 192.168.1.10\n".encode() in files.file("phoenix.internal.zone").data


def test_environments_say_the_same() -> None:
    """Shells and systemd are told the same variables."""
    shell = fixed("common/names/profile.sh").decode()
    manager = fixed("common/system.conf.d/phoenix.conf").decode()
    exports = set(re.findall(r"export (\w+=\S+)", shell))
    assert set(re.findall(r"^DefaultEnvironment=(\S+)$", manager, re.MULTILINE)) == exports
    assert {e.split("=")[0] for e in exports} >= {
        "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
    }  # fmt: skip


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_zones_are_loaded_by_bind(judge: Machine) -> None:
    _, hosts = documents()
    host = hosts["pve1"]
    host["bridges"]["vmbr0"]["address6"] = "fd00::1/64"
    host["guests"]["webui"]["address6"] = "fd00::114"
    site, _ = documents()
    longest = ".".join(["a" * 63] * 3 + ["b" * 57, "cd"])
    site["services"]["webui"]["expose"] = [longest, "xn--bcher-kva.example", "phoenix.internal"]
    for entry in kit(network(site, host)):
        if entry.path.endswith(".zone"):
            origin, data = entry.path.removesuffix(".zone"), entry.data.decode()  # type: ignore[union-attr]
            done = judge.run("named-checkzone", "-i", "full", origin, "-", given=data)
            assert done.code == 0, done.out
            assert "ignoring" not in done.out
            assert "loaded serial 1" in done.out


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
@pytest.mark.parametrize(
    "broken",
    ["x IN A 10.0.0.256", "x.other. IN A 10.0.0.1", f"{'a' * 64} IN A 10.0.0.1", "x IN B 1"],
)
def test_bind_refuses_what_is_wrong(judge: Machine, broken: str) -> None:
    text = HEAD.format("x.") + "x. IN NS localhost.\n" + broken + "\n"
    done = judge.run("named-checkzone", "-i", "full", "x", "-", given=text)
    assert done.code != 0 or "ignoring" in done.out
