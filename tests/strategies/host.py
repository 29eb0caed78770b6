"""Host documents."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.strategies.common import TEXT, Data, Draw, maybe

_SIZES = ("512MiB", "1GiB", "48GiB")


@st.composite
def hosts(draw: Draw) -> Data:
    kind = draw(st.sampled_from(["proxmox", "proxmox", "lxc"]))
    mode = draw(st.sampled_from(["routed", "routed", "bridged"]))
    six = draw(st.booleans())
    platform: Data = {"kind": kind}
    if kind == "proxmox":
        maybe(draw, platform, "version", st.sampled_from([8, 9]), 2)
        maybe(draw, platform, "cluster", st.just("home"))
    bridge, reach = draw(_routed(six) if mode == "routed" else _bridged(six))
    host: Data = {
        "host": "node",
        "platform": platform,
        "reach": reach,
        "bridges": {"vmbr0": bridge},
        "guests": draw(_guests(kind, bridge, six, mode)),
    }
    if draw(st.booleans()):
        # Debian's ifupdown2, which judges, takes one bridge with VLANs.
        aware = not bridge.get("vlan_aware") and draw(st.booleans())
        inner = {"address": "10.9.0.1/24", "vlan_aware": aware, "description": draw(TEXT)}
        host["bridges"]["vmbr1"] = inner
        _second_nic(draw, host, aware)
    if draw(st.booleans()):
        host["machines"] = draw(_machines(six))
    if draw(st.booleans()):
        ends = st.sampled_from([*host["guests"], *host.get("machines", {})])
        host["watch"] = {"scrapers": draw(st.lists(ends, min_size=1, max_size=2, unique=True))}
    maybe(draw, host, "dns", st.just(["192.0.2.53", "2001:db8::53"]))
    maybe(draw, host, "ingress", st.fixed_dictionaries({"ipv4": st.booleans()}))
    if six and draw(st.booleans()):
        host.setdefault("ingress", {})["ipv6"] = draw(st.booleans())
    maybe(draw, host, "ca", st.just({"key": "file:/srv/ca.key", "password": "env:CA_PASSWORD"}))
    maybe(draw, host, "defaults", _settings(kind))
    for guest in host["guests"].values():
        needed = {"template", "disk"} if kind == "proxmox" else {"template"}
        if not needed <= {**host.get("defaults", {}), **guest}.keys():
            guest["adopt"] = True
    return host


def _second_nic(draw: Draw, host: Data, aware: bool) -> None:
    guest = host["guests"]["worker-0"]
    first = {key: guest.pop(key) for key in ("address", "address6", "mac", "vlan") if key in guest}
    second: Data = {"bridge": "vmbr1", "address": "10.9.0.20"}
    maybe(draw, second, "mtu", st.just(1400))
    if aware:
        maybe(draw, second, "vlan", st.integers(2, 4094), 2)
    guest.pop("bridge", None)
    guest["interfaces"] = {"eth0": {"bridge": "vmbr0", **first}, "eth1": second}


@st.composite
def _routed(draw: Draw, six: bool) -> tuple[Data, str]:
    uplink: Data = {"interface": "enp3s0"}
    if draw(st.booleans()):
        uplink |= {"address": "192.0.2.10/24", "gateway": "192.0.2.1"}
        reach = "root@192.0.2.10"
    else:
        uplink["address"] = "dhcp"
        reach = "admin@node.example.org"
    if six:
        uplink["address6"] = draw(st.sampled_from(["auto", "dhcp", "2001:db8:1::10/64"]))
        if uplink["address6"].startswith("2001"):
            uplink["gateway6"] = "2001:db8:1::1"
    maybe(draw, uplink, "mtu", st.just(1492))
    bridge: Data = {"address": "10.0.0.1/16", "uplink": uplink}
    return draw(_bridge(bridge, six)), reach


@st.composite
def _bridged(draw: Draw, six: bool) -> tuple[Data, str]:
    bridge: Data = {"address": "10.0.0.1/16", "gateway": "10.0.255.254", "ports": ["enp3s0"]}
    if six:
        bridge["gateway6"] = "fd00:1::ffff"
    return draw(_bridge(bridge, six)), "10.0.0.1"


@st.composite
def _bridge(draw: Draw, bridge: Data, six: bool) -> Data:
    if six:
        bridge["address6"] = "fd00:1::1/64"
    maybe(draw, bridge, "mtu", st.just(1500))
    maybe(draw, bridge, "addresses", st.just(["10.77.0.1/24"]))
    maybe(draw, bridge, "routes", st.just([{"to": "10.50.0.0/16", "via": "10.0.0.250"}]))
    maybe(draw, bridge, "description", TEXT)
    if draw(st.booleans()):
        bridge["vlan_aware"] = True
        maybe(draw, bridge, "vlans", st.just("2-100 4000"))
    return bridge


@st.composite
def _guests(draw: Draw, kind: str, bridge: Data, six: bool, mode: str) -> Data:
    count = draw(st.integers(1, 6))
    names = ["edge", "mesh", "ca", *(f"worker-{i}" for i in range(count))]
    roles = ["gateway", "mesh", "ca", *["service"] * count]
    # Who is in a VLAN reaches those in it, and a router of the LAN; the host is in none.
    vlan = mode == "bridged" and bridge.get("vlan_aware") and draw(st.sampled_from([0, 2, 99]))
    guests: Data = {}
    for i, (name, role) in enumerate(zip(names, roles, strict=True)):
        guest: Data = {"id": 101 + i, "address": f"10.0.1.{10 + i}"}
        if role != "service" or draw(st.booleans()):
            guest["role"] = role
        if six and (role == "gateway" or draw(st.booleans())):
            guest["address6"] = f"fd00:1::{10 + i:x}"
        maybe(draw, guest, "bridge", st.just("vmbr0"))
        maybe(draw, guest, "mac", st.just(f"52:54:00:00:01:{10 + i:02x}"))
        if vlan:
            guest |= {"vlan": vlan, "gateway": "lan"}
        elif mode == "bridged":
            maybe(draw, guest, "gateway", st.sampled_from(["host", "lan"]), 2)
        guest |= draw(_settings(kind))
        guest |= draw(_extras(kind, i, unprivileged=guest.get("unprivileged", True)))
        guests[name] = guest
    return guests


@st.composite
def _settings(draw: Draw, kind: str) -> Data:
    found: Data = {}
    maybe(draw, found, "cores", st.integers(1, 64))
    maybe(draw, found, "memory", st.sampled_from(_SIZES))
    maybe(draw, found, "swap", st.sampled_from([0, "512MiB"]))
    template = "local:vztmpl/debian-12.tar.zst" if kind == "proxmox" else "debian-12.tar"
    maybe(draw, found, "template", st.just(template))
    maybe(draw, found, "unprivileged", st.just(True))
    maybe(draw, found, "onboot", st.booleans())
    maybe(draw, found, "restart", st.sampled_from(["allow", "refuse"]))
    if kind == "proxmox":
        sizes = ["8GiB", {"size": "16GiB"}, {"size": "4GiB", "storage": "NFS_2.a"}]
        maybe(draw, found, "disk", st.sampled_from(sizes), 2)
        maybe(draw, found, "tags", st.just(["ai", "edge_1"]))
    return found


@st.composite
def _extras(draw: Draw, kind: str, number: int, unprivileged: bool) -> Data:
    found: Data = {}
    if draw(st.integers(0, 3)) == 0:
        features: Data = {"nesting": kind == "proxmox" or draw(st.booleans())}
        if kind == "proxmox":
            for key in ("keyctl", "fuse", "mknod"):
                maybe(draw, features, key, st.booleans(), 2)
        found["features"] = features
    if unprivileged and draw(st.integers(0, 7)) == 0:
        found["unprivileged"] = False
        found["features"] = {"mount": ["nfs", "cifs"]} if kind == "proxmox" else {}
    mounts = [{"source": "/srv/models", "target": "/srv/models", "readonly": True}]
    maybe(draw, found, "mounts", st.sampled_from([mounts, [{**mounts[0], "readonly": False}]]), 4)
    own: Data = {"path": "/dev/ttyUSB0"}
    if kind == "proxmox":
        own |= {"gid": 20, "uid": 0, "mode": "0660"}
    devices = [["nvidia0"], ["nvidia1", "dri/renderD128"], ["dri/card0"], ["kfd"], [own]]
    if kind == "lxc" and not found.get("unprivileged", unprivileged):
        own["major"] = 188
        devices = [["dri/renderD128"], ["dri/card0"], [own, {"path": "/dev/kfd", "major": 235}]]
    maybe(draw, found, "devices", st.sampled_from(devices), 4)
    start: Data = {"order": 100 + number, "up": "30s"}
    if kind == "proxmox":
        start["down"] = "2m"
    if number > 2:
        maybe(draw, found, "start", st.sampled_from([start, {"up": "5s"}]), 4)
    maybe(draw, found, "description", TEXT, 3)
    maybe(draw, found, "adopt", st.booleans(), 6)
    return found


@st.composite
def _machines(draw: Draw, six: bool) -> Data:
    vm: Data = {"vm": 201, "address": "10.0.2.1"}
    if six:
        maybe(draw, vm, "address6", st.just("fd00:1::2:1"), 2)
    maybe(draw, vm, "bridge", st.just("vmbr0"), 2)
    maybe(draw, vm, "mac", st.just("52:54:00:00:02:01"), 2)
    maybe(draw, vm, "description", TEXT, 2)
    return {"desk": vm, "outside": {"address": "203.0.113.7"}}
