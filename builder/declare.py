"""From accepted data to frozen values: shorthands spelled out, defaults applied, units converted.

`site` and `host` take data that the schemas have accepted; they cannot fail. The order of keys in a
mapping means nothing: what stands in one is sorted by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from typing import Any

from builder.model import (
    Authority,
    Backend,
    Bridge,
    CertificateSource,
    Device,
    Directory,
    Disk,
    Exposure,
    Features,
    Guest,
    Health,
    Host,
    Inside,
    Interface,
    Limits,
    Machine,
    Mount,
    Plain,
    Platform,
    RouteTo,
    Service,
    Site,
    Start,
    Uplink,
)

Data = Mapping[str, Any]

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def seconds(duration: str) -> int:
    """Seconds in a duration of the language, such as "10s" or "7d"."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def size(text: str | int) -> int:
    """Bytes in a size of the language, such as "512MiB"; 0 is 0."""
    return text if isinstance(text, int) else int(text[:-3]) * _BYTES[text[-3:]]


def site(data: Data) -> Site:
    """The site of an accepted site document."""
    return Site(
        name=data["site"],
        domain=data["domain"],
        dns=tuple(ip_address(a) for a in data["dns"]),
        ca=_authority(data.get("ca", {})),
        directories=tuple(_directory(n, d) for n, d in sorted(data.get("acme", {}).items())),
        certificates={n: _source(c) for n, c in sorted(data.get("certificates", {}).items())},
        services=tuple(_service(n, s) for n, s in sorted(data["services"].items())),
    )


def _authority(data: Data) -> Authority:
    lifetime = seconds(data.get("lifetime", "7d"))
    return Authority(
        lifetime=lifetime,
        renew=seconds(data["renew"]) if "renew" in data else lifetime // 3,
        root_lifetime=seconds(data.get("root_lifetime", "3650d")),
        intermediate_lifetime=seconds(data.get("intermediate_lifetime", "1825d")),
    )


def _directory(name: str, data: Data) -> Directory:
    return Directory(
        name=name,
        url=data["directory"],
        email=data["email"],
        challenge=data.get("challenge", "http-01"),
        provider=data.get("provider", ""),
        environment=tuple(sorted(data.get("environment", {}).items())),
        root=data.get("root", ""),
    )


def _source(data: str | Data) -> CertificateSource:
    if isinstance(data, str):
        return CertificateSource("site")
    if "acme" in data:
        return CertificateSource("acme", acme=data["acme"])
    return CertificateSource("files", **data["files"])


def _service(name: str, data: Data) -> Service:
    headers, protocol = data.get("headers", {}), data.get("protocol", "http")
    return Service(
        name=name,
        backends=tuple(_backend(b) for b in data["backends"]),
        port=data["port"],
        protocol=protocol,
        front=data.get("tls", "front") == "front" and protocol != "https",
        profile=data.get("profile", "web"),
        grace=seconds(data["grace"]) if "grace" in data else _grace(data),
        health=_health(data["health"]) if "health" in data else None,
        sticky=_sticky(name, data.get("sticky", False)),
        expose=tuple(_exposure(e) for e in data.get("expose", ())),
        inside=_inside(data.get("inside", False)),
        limits=_limits(data.get("limits", {})),
        request_headers=tuple(sorted(headers.get("request", {}).items())),
        response_headers=tuple(sorted(headers.get("response", {}).items())),
        plain=tuple(Plain(p["hop"], p["reason"]) for p in data.get("plain", ())),
    )


def _backend(data: str | Data) -> Backend:
    if isinstance(data, str):
        return Backend(data, None, None, "", 1)
    address = ip_address(data["address"]) if "address" in data else None
    server_name = data.get("server_name", "")
    return Backend(
        data.get("name", ""), address, data.get("port"), server_name, data.get("weight", 1)
    )


def _grace(data: Data) -> int:
    """By what is usual: a download takes minutes, a stream an hour, a database's connection is
    kept."""
    short = data.get("profile", "web") in {"web", "upload"} and data.get("protocol") != "tcp"
    return 600 if short else 3600


def _health(data: Data) -> Health:
    return Health(
        path=data.get("path", "/"),
        interval=seconds(data.get("interval", "10s")),
        timeout=seconds(data.get("timeout", "5s")),
        status=data.get("status"),
    )


def _sticky(service: str, data: bool | Data) -> str:
    if isinstance(data, bool):
        return f"phoenix-{service}" if data else ""
    return str(data["cookie"])


def _exposure(data: str | Data) -> Exposure:
    if isinstance(data, str):
        return Exposure(data, "/", False, None)
    return Exposure(data["name"], data.get("path", "/"), data.get("strip", False), data.get("port"))


def _inside(data: bool | Data) -> Inside | None:
    if isinstance(data, bool):
        return Inside(None, "/") if data else None
    callers = data.get("callers")
    return Inside(None if callers is None else tuple(callers), data.get("path", "/"))


def _limits(data: Data) -> Limits:
    body, rate = data.get("body"), data.get("rate")
    return Limits(
        body=None if body is None else 0 if body == "unlimited" else size(body),
        rate=None if rate is None else (int(rate[:-2]), _SECONDS[rate[-1]]),
        burst=data.get("burst", 0),
        connections=data.get("connections"),
        clients=tuple(data.get("clients", ())),
    )


def host(data: Data) -> Host:
    """The host of an accepted host document (with what it takes over from `like` merged in)."""
    platform, ca = data["platform"], data.get("ca", {})
    ingress, defaults = data.get("ingress", {}), data.get("defaults", {})
    user, _, reach = data["reach"].rpartition("@")
    return Host(
        name=data["host"],
        platform=Platform(
            kind=platform["kind"],
            version=platform.get("version", 8) if platform["kind"] == "proxmox" else 0,
            cluster=platform.get("cluster", ""),
        ),
        user=user or "root",
        # ssh takes an IPv6 address in brackets too (cleanhostname in OpenSSH's misc.c).
        reach=reach.removeprefix("[").removesuffix("]"),
        dns=tuple(ip_address(a) for a in data.get("dns", ())),
        ca_key=ca.get("key", ""),
        ca_password=ca.get("password", ""),
        services=tuple(sorted(data["services"])) if "services" in data else None,
        ingress4=ingress.get("ipv4", True),
        ingress6=ingress.get("ipv6", False),
        scrapers=tuple(data.get("watch", {}).get("scrapers", ())),
        bridges=tuple(_bridge(n, b) for n, b in sorted(data["bridges"].items())),
        guests=tuple(_guest(n, {**defaults, **g}) for n, g in sorted(data["guests"].items())),
        machines=tuple(_machine(n, m) for n, m in sorted(data.get("machines", {}).items())),
    )


def _v4(data: Data, key: str) -> IPv4Address | None:
    return IPv4Address(data[key]) if key in data else None


def _v6(data: Data, key: str) -> IPv6Address | None:
    return IPv6Address(data[key]) if key in data else None


def _cidr(text: str) -> IPv4Interface | IPv6Interface:
    return IPv6Interface(text) if ":" in text else IPv4Interface(text)


def _bridge(name: str, data: Data) -> Bridge:
    return Bridge(
        name=name,
        address=IPv4Interface(data["address"]) if "address" in data else None,
        address6=IPv6Interface(data["address6"]) if "address6" in data else None,
        addresses=tuple(_cidr(a) for a in data.get("addresses", ())),
        gateway=_v4(data, "gateway"),
        gateway6=_v6(data, "gateway6"),
        ports=tuple(data.get("ports", ())),
        mtu=data.get("mtu"),
        vlan_aware=data.get("vlan_aware", False),
        vlans=data.get("vlans", "2-4094"),
        routes=tuple(RouteTo(r["to"], ip_address(r["via"])) for r in data.get("routes", ())),
        uplink=_uplink(data["uplink"]) if "uplink" in data else None,
    )


def _uplink(data: Data) -> Uplink:
    address6 = data.get("address6")
    return Uplink(
        interface=data["interface"],
        address=None if data["address"] == "dhcp" else IPv4Interface(data["address"]),
        gateway=_v4(data, "gateway"),
        address6=address6 if address6 in {None, "auto", "dhcp"} else IPv6Interface(address6),
        gateway6=_v6(data, "gateway6"),
        mtu=data.get("mtu"),
    )


def _guest(name: str, data: Data) -> Guest:
    start = data.get("start", {})
    return Guest(
        name=name,
        id=data["id"],
        role=data.get("role", "service"),
        interfaces=_interfaces(data),
        gateway=data.get("gateway", "host"),
        cores=data.get("cores"),
        memory=size(data["memory"]) if "memory" in data else None,
        swap=size(data["swap"]) if "swap" in data else None,
        disk=_disk(data["disk"]) if "disk" in data else None,
        template=data.get("template", ""),
        unprivileged=data.get("unprivileged", True),
        onboot=data.get("onboot", True),
        restart=data.get("restart", "refuse"),
        tags=tuple(sorted(data.get("tags", ()))),
        features=_features(data.get("features", {})),
        mounts=tuple(
            Mount(m["source"], m["target"], m.get("readonly", False))
            for m in data.get("mounts", ())
        ),
        devices=_devices(data.get("devices", ())),
        start=Start(start.get("order"), _optional(start, "up"), _optional(start, "down")),
        description=data.get("description", ""),
        adopt=data.get("adopt", False),
    )


def _optional(data: Data, key: str) -> int | None:
    return seconds(data[key]) if key in data else None


def _interfaces(data: Data) -> tuple[Interface, ...]:
    if "interfaces" not in data:
        # What an address-less guest lacks is told by checks; until then it has no interface.
        return (_interface("eth0", (), {"bridge": "vmbr0", **data}),) if "address" in data else ()
    ordered = sorted(data["interfaces"].items(), key=lambda item: int(item[0][3:]))
    return tuple(_interface(name, ("interfaces", name), nic) for name, nic in ordered)


def _interface(name: str, at: tuple[str, ...], data: Data) -> Interface:
    return Interface(
        name=name,
        at=at,
        bridge=data["bridge"],
        address=IPv4Address(data["address"]),
        address6=_v6(data, "address6"),
        mac=data.get("mac", "").lower(),
        vlan=data.get("vlan"),
        mtu=data.get("mtu"),
    )


def _disk(data: str | Data) -> Disk:
    if isinstance(data, str):
        return Disk(size(data), "local-lvm")
    return Disk(size(data["size"]), data.get("storage", "local-lvm"))


def _features(data: Data) -> Features:
    return Features(
        nesting=data.get("nesting", True),
        keyctl=data.get("keyctl", False),
        fuse=data.get("fuse", False),
        mknod=data.get("mknod", False),
        mount=tuple(sorted(data.get("mount", ()))),
    )


# NVIDIA's nodes are root's with mode 0666; render nodes belong to Debian's groups video (44) and
# render (104). The uvm major is dynamic, so it has none here.
_NVIDIA_CONTROL = (
    Device("/dev/nvidia-uvm", 0, 0, "0666", None),
    Device("/dev/nvidia-uvm-tools", 0, 0, "0666", None),
    Device("/dev/nvidiactl", 0, 0, "0666", 195),
)


def _devices(data: list[str | Data] | tuple[()]) -> tuple[Device, ...]:
    found: dict[str, Device] = {}
    for item in data:
        for device in _device(item):
            found.setdefault(device.path, device)
    return tuple(found[path] for path in sorted(found))


def _device(data: str | Data) -> tuple[Device, ...]:
    if not isinstance(data, str):
        uid, gid, mode = data.get("uid", 0), data.get("gid", 0), data.get("mode", "0660")
        return (Device(data["path"], uid, gid, mode, data.get("major")),)
    if data.startswith("nvidia"):
        return (Device(f"/dev/{data}", 0, 0, "0666", 195), *_NVIDIA_CONTROL)
    if data == "kfd":
        return (Device("/dev/kfd", 0, 104, "0660", None),)
    return (Device(f"/dev/{data}", 0, 104 if "render" in data else 44, "0660", 226),)


def _machine(name: str, data: Data) -> Machine:
    return Machine(
        name=name,
        vm=data.get("vm"),
        address=IPv4Address(data["address"]),
        address6=_v6(data, "address6"),
        bridge=data.get("bridge", "vmbr0") if "vm" in data else "",
        mac=data.get("mac", "").lower(),
    )
