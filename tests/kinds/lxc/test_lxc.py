"""Containers: NNN.conf in PVE's own form, and liblxc's config as liblxc holds it."""

from __future__ import annotations

from typing import Any

import pytest

from builder.kinds import lxc
from builder.kinds.artifact import GuestFiles, HostFile
from builder.network import Network
from tests.judges import lxc as liblxc
from tests.judges.namespace import Entry, Space
from tests.kinds.firewall import frames
from tests.kinds.firewall.world import STRANGER_MAC, World, data, network, plain, with_ipv6
from tests.kinds.lxc import pve

Data = dict[str, Any]


def everything() -> Data:
    """A host with a guest that has all that a guest can have."""
    host = with_ipv6(data())
    host["bridges"]["vmbr0"] |= {"vlan_aware": True}
    host["bridges"]["vmbr1"] = {"address": "10.1.0.1/24", "mtu": 9000}
    del host["guests"]["qdrant"]["address"], host["guests"]["qdrant"]["address6"]
    host["guests"]["qdrant"] |= {
        "interfaces": {
            "eth0": {"bridge": "vmbr0", "address": "10.0.0.113", "vlan": 5},
            "eth2": {
                "bridge": "vmbr1",
                "address": "10.1.0.113",
                "mac": "bc:24:11:0a:0b:0c",
                "mtu": 9000,
            },
        },
        "cores": 4,
        "memory": "4GiB",
        "swap": "512MiB",
        "tags": ["vectors", "ai"],
        "features": {"keyctl": True, "fuse": True, "mknod": True, "mount": ["nfs", "cifs"]},
        "mounts": [
            {"source": "/srv/b", "target": "/srv/data/inner"},
            {"source": "/srv/a", "target": "/srv/data/", "readonly": True},
        ],
        "devices": [
            "nvidia1",
            "dri/renderD128",
            {"path": "/dev/kvm", "gid": 993, "uid": 5, "mode": "0660", "major": 10},
        ],
        "start": {"order": 7, "up": "10s", "down": "2m"},
        "onboot": False,
        "description": "Vektoren: 100 % schnell\n\n# lxc.mount.entry: / x\nself é: 1",
    }
    return host


def confs(net: Network) -> dict[int, str]:
    made = [a for a in lxc.artifacts(net) if isinstance(a, HostFile)]
    assert {a.merge for a in made} == {"lxc-conf"}
    return {int("".join(c for c in a.path if c.isdigit())): a.data.decode() for a in made}


def test_reference() -> None:
    made = next(a for a in lxc.artifacts(network()) if isinstance(a, HostFile))
    assert (made.path, made.mode) == ("/etc/pve/lxc/101.conf", 0o640)
    assert made.data.decode() == (
        "arch: amd64\ncores: 2\nfeatures: nesting=1\nhostname: nginx-gateway\nmemory: 1024\n"
        "nameserver: 9.9.9.9 1.1.1.1\n"
        "net0: name=eth0,bridge=vmbr0,firewall=1,gw=10.0.0.1,hwaddr=02:5B:80:69:B0:D2,"
        "ip=10.0.0.101/24,type=veth\n"
        "onboot: 1\nostype: debian\nsearchdomain: phoenix.internal\nstartup: order=30\nswap: 0\n"
        "unprivileged: 1\n"
        "lxc.mount.entry: /var/lib/phoenix/guests/101 opt/phoenix none bind,ro,create=dir 0 0\n"
        "lxc.mount.entry: /var/lib/phoenix/guests/101 usr/local/lib/systemd none "
        "bind,ro,create=dir 0 0\n"
        "lxc.mount.entry: /var/lib/phoenix/secrets/101 opt/phoenix-secrets none "
        "bind,ro,create=dir 0 0\n"
    )


@pytest.mark.parametrize("host", [data(), with_ipv6(data()), everything()])
def test_pve_would_write_the_same(host: Data) -> None:
    net = network(host)
    for number, text in confs(net).items():
        conf = pve.read(text)
        guest = next(m.guest for m in net.members if m.guest.id == number)
        for interface in guest.interfaces:
            held = conf.properties(f"net{interface.name[3:]}")
            assert held["hwaddr"] == interface.mac.upper()
            assert held["ip"].partition("/")[0] == str(interface.address)
            assert held.get("ip6", "None").partition("/")[0] == str(interface.address6)
        assert conf.description == guest.description


def test_a_guest_with_everything() -> None:
    conf = pve.read(confs(network(everything()))[113])
    assert conf.keys | {"net0": "", "net2": ""} == {
        "arch": "amd64",
        "cores": "4",
        "dev0": "/dev/dri/renderD128,gid=104,mode=0660",
        "dev1": "/dev/kvm,gid=993,mode=0660,uid=5",
        "dev2": "/dev/nvidia-uvm,mode=0666",
        "dev3": "/dev/nvidia-uvm-tools,mode=0666",
        "dev4": "/dev/nvidia1,mode=0666",
        "dev5": "/dev/nvidiactl,mode=0666",
        "features": "fuse=1,keyctl=1,mknod=1,mount=cifs;nfs,nesting=1",
        "hostname": "qdrant",
        "memory": "4096",
        "nameserver": "9.9.9.9 1.1.1.1",
        "net0": "",
        "net2": "",
        "onboot": "0",
        "ostype": "debian",
        "searchdomain": "phoenix.internal",
        "startup": "order=7,up=10,down=120",
        "swap": "512",
        "tags": "ai;vectors",
        "unprivileged": "1",
    }
    assert conf.properties("net0")["tag"] == "5"
    assert conf.properties("net2") | {"ip": "10.1.0.113/24", "mtu": "9000"} == {
        "name": "eth2",
        "bridge": "vmbr1",
        "firewall": "1",
        "hwaddr": "BC:24:11:0A:0B:0C",
        "ip": "10.1.0.113/24",
        "mtu": "9000",
        "type": "veth",
    }
    assert [value.partition(" none ")[0] for _, value in conf.raw[3:]] == [
        "/srv/a srv/data",
        "/srv/b srv/data/inner",
    ]


def test_what_is_not_declared_is_left_as_it_is() -> None:
    host = data()
    del host["defaults"]
    keys = pve.read(confs(network(host))[101]).keys
    assert not {"cores", "memory", "swap", "tags"} & set(keys)
    assert pve.read(confs(network(host))[101]).description == ""


BROKEN = {
    "unknown key": ("cores: 2", "core: 2"),
    "value": ("cores: 2", "cores: two"),
    "order": ("arch: amd64\ncores: 2", "cores: 2\narch: amd64"),
    "twice": ("cores: 2", "cores: 2\ncores: 3"),
    "yes": ("onboot: 1", "onboot: yes"),
    "no mac": ("hwaddr=02:5B:80:69:B0:D2,", "hwaddr=02:5B:80:69:B0,"),
    "net32": ("net0:", "net32:"),
    "order of properties": ("name=eth0,bridge=vmbr0", "bridge=vmbr0,name=eth0"),
    "unknown property": ("type=veth", "type=veth,zone=1"),
    "raw key": ("lxc.mount.entry: /var/lib/phoenix/guests/101 opt", "lxc.sysctl.x: /a opt"),
    "absolute target": ("guests/101 opt", "guests/101 /opt"),
    "raw before keys": ("swap: 0\n", "lxc.mount.entry: /a b none bind,create=dir 0 0\nswap: 0\n"),
    "late comment": ("swap: 0", "#late\nswap: 0"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_pve_would_drop_is_found(name: str) -> None:
    old, new = BROKEN[name]
    good = confs(network())[101]
    assert old in good
    pve.read(good)
    with pytest.raises(pve.SkippedError):
        pve.read(good.replace(old, new))


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
@pytest.mark.parametrize("host", [data(), with_ipv6(data()), everything()])
def test_liblxc_holds_what_was_declared(host: Data) -> None:
    net = network(plain(host))
    held = liblxc.load_all({str(number): text for number, text in confs(net).items()})
    for member in net.members:
        values = held[str(member.guest.id)]
        for interface in member.guest.interfaces:
            number = interface.name.removeprefix("eth")
            key = f"lxc.net.{number}"
            assert values[f"{key}.hwaddr"] == [interface.mac]
            assert values[f"{key}.veth.pair"] == [f"veth{member.guest.id}i{number}"]
            assert values[f"{key}.ipv4.address"][0].startswith(f"{interface.address}/")
            given = values.get(f"{key}.ipv6.address", ["None/"])[0]
            assert given.startswith(f"{interface.address6}/")
        assert values["lxc.uts.name"] == [member.guest.name]
        entries = [" ".join(entry.split()[:2]) for entry in values["lxc.mount.entry"]]
        own = f"/var/lib/phoenix/guests/{member.guest.id}"
        assert f"{own} opt/phoenix" in entries
        assert f"{own} usr/local/lib/systemd" in entries


def test_plain_devices_and_limits() -> None:
    host = plain(everything())
    host["guests"]["qdrant"]["unprivileged"] = False
    text = confs(network(host))[113]
    lines = text.splitlines()
    for rule in ("c 195:1 rwm", "c 195:255 rwm", "c 226:128 rwm", "c 10:* rwm"):
        assert f"lxc.cgroup2.devices.allow = {rule}" in lines
    assert "lxc.mount.entry = /dev/kvm dev/kvm none bind,optional,create=file 0 0" in lines
    assert "lxc.cgroup2.cpu.max = 400000 100000" in lines
    assert "lxc.cgroup2.memory.max = 4294967296" in lines
    assert "lxc.cgroup2.memory.swap.max = 536870912" in lines
    assert "lxc.net.0.veth.vlan.id = 5" in lines
    assert "idmap" not in text
    assert "userns.conf" not in text
    assert "devices.allow" not in confs(network(plain(everything())))[113]


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_plain_order_and_profile() -> None:
    """lxc-autostart starts the CA first; a machine's own word on the profile is the last one."""
    made = confs(network(plain()))
    with Space() as space:
        space.write(Entry(f"/var/lib/lxc/{n}/config", t.encode()) for n, t in made.items())
        listed = space.must(["lxc-autostart", "-L", "-a"]).split()[::2]
        ask = ["lxc-info", "-n", "101", "-H", "-c", "lxc.apparmor.profile"]
        profile = space.must(ask).strip()
        override = "/usr/share/lxc/config/common.conf.d/90-machine.conf"
        space.write([Entry(override, b"lxc.apparmor.profile = unconfined\n")])
        overridden = space.must(ask).strip()
    assert listed[:3] == ["103", "102", "101"]
    assert sorted(listed[3:]) == ["111", "112", "113", "114"]
    assert (profile, overridden) == ("generated", "unconfined")


def test_creation() -> None:
    def made(host: Data, name: str) -> Data:
        net = network(host)
        return dict(lxc.creation(net, net.member(name).guest))

    template = "local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"
    common = {"arch": "amd64", "template": template, "unprivileged": "1"}
    assert made(data(), "vllm-1") == {
        **common,
        "ostype": "debian",
        "rootfs": "local-lvm:64",
    }
    assert made(plain(), "vllm-1") == common
    bare = data()
    del bare["defaults"]
    assert made(bare, "step-ca") == {"arch": "amd64", "ostype": "debian", "unprivileged": "1"}


def test_a_guest_to_be_adopted_is_never_made() -> None:
    for host in (data(), plain()):
        host["guests"]["vllm-1"]["adopt"] = True
        net = network(host)
        assert lxc.creation(net, net.member("vllm-1").guest) == {}


def inside(net: Network, name: str) -> dict[str, Any]:
    found = (a for a in lxc.artifacts(net) if isinstance(a, GuestFiles) and a.guest == name)
    return {entry.path: entry for entry in next(found).tree}


def test_the_unit_is_wanted() -> None:
    entries = inside(network(), "vllm-1")
    unit = entries["units/phoenix-ipv6.service"].data.decode()
    assert "WantedBy=sysinit.target" in unit
    assert entries["units/sysinit.target.wants/phoenix-ipv6.service"].target.endswith(
        "../phoenix-ipv6.service"
    )
    assert "/opt/phoenix/current/network/sysctl.conf" in unit


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_no_address_that_was_not_declared() -> None:
    """A router turns up on the bridge: only the guest without our settings makes itself one."""
    net = network(with_ipv6(data()))
    with World(net) as world:
        for name, number in (("step-ca", 103), ("vllm-1", 111)):
            path = f"/tmp/{number}.conf"
            settings = inside(net, name)["network/sysctl.conf"].data
            world.write([Entry(path, settings)])
            command = ["ip", "netns", "exec", f"g{number}", "/usr/lib/systemd/systemd-sysctl", path]
            world.must(command)
        frame = frames.router(STRANGER_MAC, "fe80::900", "2001:db8:8::")
        world.arrived({"router": ("stranger", frame)}, "g112")

        def has(number: int) -> list[str]:
            command = ["ip", "-n", f"g{number}", "-6", "-o", "addr", "show", "scope", "global"]
            return [line.split()[3] for line in world.must(command).splitlines()]

        assert has(103) == []
        assert has(111) == ["fd00::111/64"]
        assert len(has(112)) > 1
        routes = world.must(["ip", "-n", "g111", "-6", "route", "show", "default"])
        assert routes.startswith("default via fd00::1 ")
        assert "fe80::900" not in routes
