"""Random valid configurations: every document that these strategies draw must pass all checks.

They draw what a person would write, by construction free of clashes: each guest, service, address
and port comes from a running number. `examples` gives a fixed list for a seed, so that the tests
that judge them and the one that counts what occurs in them look at the same ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

Data = dict[str, Any]
Draw = Any

PROTOCOLS = ("http", "https", "h2c", "grpc", "tcp")
PROFILES = ("web", "stream", "websocket", "upload", "slow", "llm")
_SIZES = ("512MiB", "1GiB", "48GiB")
_NOT_SHOWN = ("Cc", "Cf", "Cs", "Cn")
_TEXT = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0x2FFF, exclude_categories=_NOT_SHOWN),
    min_size=8,
    max_size=40,
).filter(lambda t: len(t.strip()) >= 8)
_HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
_SEGMENT = st.text("abcXYZ019._~@+-", min_size=1, max_size=8).filter(lambda s: s[0] != ".")


@st.composite
def configurations(draw: Draw) -> Data:
    """A site with one host: {"site": document, "host": document}."""
    host = draw(_host())
    site = draw(_site(host))
    if len(site["services"]) > 1 and draw(st.integers(0, 4)) == 0:
        kept = sorted(site["services"])[1:]
        host["services"] = kept
    return {"site": site, "host": host}


@lru_cache(maxsize=64)
def examples(number: int, count: int) -> tuple[Data, ...]:
    """`count` configurations of the list with this number; the same ones each time."""
    found: list[Data] = []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(configurations())
    def collect(data: Data) -> None:
        found.append(data)

    collect()
    return tuple(found[:count])


def _maybe(draw: Draw, into: Data, key: str, value: st.SearchStrategy[Any], odds: int = 3) -> None:
    if draw(st.integers(1, odds)) == 1:
        into[key] = draw(value)


@st.composite
def _host(draw: Draw) -> Data:
    kind = draw(st.sampled_from(["proxmox", "proxmox", "lxc"]))
    mode = draw(st.sampled_from(["routed", "routed", "bridged"]))
    six = draw(st.booleans())
    platform: Data = {"kind": kind}
    if kind == "proxmox":
        _maybe(draw, platform, "version", st.sampled_from([8, 9]), 2)
        _maybe(draw, platform, "cluster", st.just("home"))
        _maybe(draw, platform, "firewall", st.booleans())
    bridge, reach = draw(_routed(six) if mode == "routed" else _bridged(six))
    host: Data = {
        "host": "node",
        "platform": platform,
        "reach": reach,
        "bridges": {"vmbr0": bridge},
        "guests": draw(_guests(kind, bridge, six, mode)),
    }
    if draw(st.booleans()):
        host["bridges"]["vmbr1"] = {"address": "10.9.0.1/24", "description": draw(_TEXT)}
        _second_nic(draw, host)
    if draw(st.booleans()):
        host["machines"] = draw(_machines(six))
    _maybe(draw, host, "dns", st.just(["192.0.2.53", "2001:db8::53"]))
    _maybe(draw, host, "ingress", st.fixed_dictionaries({"ipv4": st.booleans()}))
    if six and draw(st.booleans()):
        host.setdefault("ingress", {})["ipv6"] = draw(st.booleans())
    _maybe(draw, host, "ca", st.just({"key": "file:/srv/ca.key", "password": "env:CA_PASSWORD"}))
    _maybe(draw, host, "defaults", _settings(kind))
    return host


def _second_nic(draw: Draw, host: Data) -> None:
    guest = host["guests"]["worker-0"]
    first = {key: guest.pop(key) for key in ("address", "address6", "mac", "vlan") if key in guest}
    second: Data = {"bridge": "vmbr1", "address": "10.9.0.20"}
    _maybe(draw, second, "mtu", st.just(1400))
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
    _maybe(draw, uplink, "mtu", st.just(1492))
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
    _maybe(draw, bridge, "mtu", st.just(1500))
    _maybe(draw, bridge, "addresses", st.just(["10.77.0.1/24"]))
    _maybe(draw, bridge, "routes", st.just([{"to": "10.50.0.0/16", "via": "10.0.0.250"}]))
    _maybe(draw, bridge, "description", _TEXT)
    if draw(st.booleans()):
        bridge["vlan_aware"] = True
        _maybe(draw, bridge, "vlans", st.just("2-100 4000"))
    return bridge


@st.composite
def _guests(draw: Draw, kind: str, bridge: Data, six: bool, mode: str) -> Data:
    count = draw(st.integers(1, 6))
    names = ["edge", "mesh", "ca", *(f"worker-{i}" for i in range(count))]
    roles = ["gateway", "mesh", "ca", *["service"] * count]
    guests: Data = {}
    for i, (name, role) in enumerate(zip(names, roles, strict=True)):
        guest: Data = {"id": 101 + i, "address": f"10.0.1.{10 + i}"}
        if role != "service" or draw(st.booleans()):
            guest["role"] = role
        if six and (role == "gateway" or draw(st.booleans())):
            guest["address6"] = f"fd00:1::{10 + i:x}"
        _maybe(draw, guest, "bridge", st.just("vmbr0"))
        _maybe(draw, guest, "mac", st.just(f"52:54:00:00:01:{10 + i:02x}"))
        if bridge.get("vlan_aware"):
            _maybe(draw, guest, "vlan", st.integers(2, 99), 3)
        if mode == "bridged":
            _maybe(draw, guest, "gateway", st.sampled_from(["host", "lan"]), 2)
        guest |= draw(_settings(kind))
        guest |= draw(_extras(kind, i, unprivileged=guest.get("unprivileged", True)))
        guests[name] = guest
    return guests


@st.composite
def _settings(draw: Draw, kind: str) -> Data:
    found: Data = {}
    _maybe(draw, found, "cores", st.integers(1, 64))
    _maybe(draw, found, "memory", st.sampled_from(_SIZES))
    _maybe(draw, found, "swap", st.sampled_from([0, "512MiB"]))
    disk = st.sampled_from(["8GiB", {"size": "16GiB"}, {"size": "4GiB", "storage": "local-zfs"}])
    _maybe(draw, found, "disk", disk)
    template = "local:vztmpl/debian-12.tar.zst" if kind == "proxmox" else "debian-12.tar"
    _maybe(draw, found, "template", st.just(template))
    _maybe(draw, found, "unprivileged", st.just(True))
    _maybe(draw, found, "onboot", st.booleans())
    _maybe(draw, found, "restart", st.sampled_from(["allow", "refuse"]))
    if kind == "proxmox":
        _maybe(draw, found, "tags", st.just(["ai", "edge_1"]))
    return found


@st.composite
def _extras(draw: Draw, kind: str, number: int, unprivileged: bool) -> Data:
    found: Data = {}
    if draw(st.integers(0, 3)) == 0:
        features: Data = {"nesting": kind == "proxmox" or draw(st.booleans())}
        if kind == "proxmox":
            for key in ("keyctl", "fuse", "mknod"):
                _maybe(draw, features, key, st.booleans(), 2)
        found["features"] = features
    if unprivileged and draw(st.integers(0, 7)) == 0:
        found["unprivileged"] = False
        found["features"] = {"mount": ["nfs", "cifs"]}
    mounts = [{"source": "/srv/models", "target": "/srv/models", "readonly": True}]
    _maybe(draw, found, "mounts", st.sampled_from([mounts, [{**mounts[0], "readonly": False}]]), 4)
    own = {"path": "/dev/ttyUSB0", "gid": 20, "uid": 0, "mode": "0660", "major": 188}
    devices = [["nvidia0"], ["nvidia1", "dri/renderD128"], ["dri/card0"], ["kfd"], [own]]
    _maybe(draw, found, "devices", st.sampled_from(devices), 4)
    start = {"order": 100 + number, "up": "30s", "down": "2m"}
    if number > 2:
        _maybe(draw, found, "start", st.sampled_from([start, {"up": "5s"}]), 4)
    _maybe(draw, found, "description", _TEXT, 3)
    _maybe(draw, found, "adopt", st.booleans(), 6)
    return found


@st.composite
def _machines(draw: Draw, six: bool) -> Data:
    vm: Data = {"vm": 201, "address": "10.0.2.1"}
    if six:
        _maybe(draw, vm, "address6", st.just("fd00:1::2:1"), 2)
    _maybe(draw, vm, "bridge", st.just("vmbr0"), 2)
    _maybe(draw, vm, "mac", st.just("52:54:00:00:02:01"), 2)
    _maybe(draw, vm, "description", _TEXT, 2)
    return {"desk": vm, "outside": {"address": "203.0.113.7"}}


@st.composite
def _site(draw: Draw, host: Data) -> Data:
    site: Data = {
        "site": draw(st.sampled_from(["home", "lab-2", "s"])),
        "domain": draw(st.sampled_from(["home.internal", "a.b.c.example.net"])),
        "dns": ["9.9.9.9"],
    }
    ca = st.sampled_from(
        [
            {"lifetime": "30d", "renew": "10d"},
            {"lifetime": "24h"},
            {"lifetime": "10m", "intermediate_lifetime": "365d", "root_lifetime": "3650d"},
        ]
    )
    _maybe(draw, site, "ca", ca, 2)
    count = draw(st.sampled_from([5, 1, 6, 2, 7, 4, 8]))
    site["services"] = {f"service-{i}": draw(_service(i, host)) for i in range(count)}
    names = sorted(
        e if isinstance(e, str) else e["name"]
        for s in site["services"].values()
        for e in s.get("expose", ())
    )
    if draw(st.booleans()):
        site["acme"] = draw(_directories())
    certificates = {name: draw(_certificate(site)) for name in names if draw(st.booleans())}
    if certificates:
        site["certificates"] = certificates
    return site


@st.composite
def _directories(draw: Draw) -> Data:
    public: Data = {
        "directory": "https://acme.example.org/directory",
        "email": "ops@example.org",
    }
    _maybe(draw, public, "challenge", st.just("http-01"), 2)
    dns: Data = {
        "directory": "https://dns.example.org:14000/dir",
        "email": "ops@example.org",
        "challenge": "dns-01",
        "provider": "cloudflare",
        "environment": {"CF_DNS_API_TOKEN": "file:~/token", "CF_ZONE": "command:pass show zone"},
    }
    root = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    _maybe(draw, dns, "root", st.just(root), 2)
    return {"public": public, "by-dns": dns}


@st.composite
def _certificate(draw: Draw, site: Data) -> str | Data:
    delivered = {"certificate": "file:/srv/crt.pem", "key": "env:KEY"}
    choices: list[str | Data] = ["site", {"files": delivered}]
    choices += [{"acme": name} for name in site.get("acme", {})]
    return draw(st.sampled_from(choices))


@st.composite
def _service(draw: Draw, number: int, host: Data) -> Data:
    protocol, profile = draw(st.sampled_from(PROTOCOLS)), draw(st.sampled_from(PROFILES))
    service: Data = {"port": 3000 + number}
    if protocol != "http" or draw(st.booleans()):
        service["protocol"] = protocol
    if profile != "web" or draw(st.booleans()):
        service["profile"] = profile
    _maybe(draw, service, "tls", st.sampled_from(["front", "own"]))
    service["backends"] = draw(_backends(number, host))
    if len(service["backends"]) > 1 or draw(st.booleans()):
        service["health"] = draw(_health())
    if draw(st.booleans()):
        service["expose"] = draw(_expose(number, protocol))
    if draw(st.booleans()):
        service["inside"] = draw(_inside(host))
    service |= draw(_options(protocol))
    hops = _hops(protocol, "expose" in service)
    plain = [{"hop": hop, "reason": draw(_TEXT)} for hop in hops if draw(st.integers(0, 5)) == 0]
    if plain:
        service["plain"] = plain
    _without_what_means_nothing(service, protocol)
    return service


def _without_what_means_nothing(service: Data, protocol: str) -> None:
    if protocol in {"grpc", "tcp"}:
        for key in ("path", "status"):
            service.get("health", {}).pop(key, None)
    if protocol == "tcp" and isinstance(service.get("inside"), dict):
        service["inside"].pop("path", None)
    if "expose" not in service:
        service.pop("limits", None)


def _hops(protocol: str, exposed: bool) -> list[str]:
    found = [] if protocol == "https" else ["backend"]
    if protocol != "tcp":
        found.append("mesh")
    if exposed and protocol not in {"grpc", "h2c"}:
        found.append("outside")
    return found


@st.composite
def _backends(draw: Draw, number: int, host: Data) -> list[str | Data]:
    workers = [n for n, g in host["guests"].items() if g.get("role", "service") == "service"]
    chosen = draw(st.lists(st.sampled_from(workers), min_size=1, max_size=3, unique=True))
    found: list[str | Data] = []
    for i, name in enumerate(chosen):
        if draw(st.integers(0, 2)):
            found.append(name)
        else:
            weighted: Data = {"name": name, "weight": draw(st.integers(1, 9))}
            _maybe(draw, weighted, "port", st.just(4000 + 10 * number + i), 2)
            found.append(weighted)
    if "machines" in host:
        others: list[str | Data] = ["desk", {"name": "outside", "port": 8443}]
        others.append({"address": "198.51.100.9", "server_name": "ai.example.net"})
        _also(draw, found, others)
    return found


def _also(draw: Draw, found: list[str | Data], others: list[str | Data]) -> None:
    if draw(st.integers(0, 3)) == 0:
        found.append(draw(st.sampled_from(others)))


@st.composite
def _health(draw: Draw) -> Data:
    found: Data = {}
    _maybe(draw, found, "path", st.sampled_from(["/health", "/v1/up"]), 2)
    _maybe(draw, found, "interval", st.sampled_from(["10s", "1m"]), 2)
    _maybe(draw, found, "timeout", st.sampled_from(["2s", "10s"]), 2)
    _maybe(draw, found, "status", st.sampled_from([200, 204]), 3)
    return found


@st.composite
def _expose(draw: Draw, number: int, protocol: str) -> list[str | Data]:
    name = f"app-{number}.example.org"
    if protocol == "tcp":
        return [{"name": name, "port": 15000 + number}]
    found: list[str | Data] = [name] if draw(st.booleans()) else [{"name": name}]
    if draw(st.booleans()):
        parts = draw(st.lists(_SEGMENT, min_size=1, max_size=2))
        slash = draw(st.sampled_from(["", "/"]))
        path: Data = {"name": "shared.example.org", "path": f"/s{number}/{'/'.join(parts)}{slash}"}
        _maybe(draw, path, "strip", st.booleans(), 2)
        found.append(path)
    return found


@st.composite
def _inside(draw: Draw, host: Data) -> bool | Data:
    if draw(st.booleans()):
        return draw(st.booleans())
    found: Data = {}
    ends = [*host["guests"], *host.get("machines", {})]
    callers = st.lists(st.sampled_from(ends), min_size=1, max_size=3, unique=True)
    _maybe(draw, found, "callers", callers, 2)
    _maybe(draw, found, "path", st.just("/api/"), 2)
    return found


@st.composite
def _options(draw: Draw, protocol: str) -> Data:
    found: Data = {}
    limits: Data = {}
    _maybe(draw, limits, "connections", st.integers(1, 1000))
    _maybe(draw, limits, "clients", st.just(["192.0.2.0/24", "2001:db8::/32"]))
    _maybe(draw, found, "description", _TEXT)
    if protocol != "tcp":
        _maybe(draw, limits, "body", st.sampled_from(["10GiB", "unlimited", "512KiB"]))
        _maybe(draw, limits, "rate", st.sampled_from(["50/s", "100/m"]))
        if "rate" in limits:
            _maybe(draw, limits, "burst", st.integers(0, 100), 2)
        _maybe(draw, found, "sticky", st.sampled_from([True, False, {"cookie": "sid"}]))
        values = st.fixed_dictionaries({"X-One": _HEADER_TEXT, "X-Two": _HEADER_TEXT})
        headers = {}
        _maybe(draw, headers, "request", values)
        _maybe(draw, headers, "response", values)
        if headers:
            found["headers"] = headers
    if limits:
        found["limits"] = limits
    return found
