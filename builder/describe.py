"""A network as plain data that a person can compare: what `diff` reads, and a release carries."""

from __future__ import annotations

import dataclasses
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv6Address,
    IPv6Interface,
)

from builder.flows import flows
from builder.network import Network
from builder.tree import digest

Plain = dict[str, object]

_ADDRESSES = (IPv4Address, IPv6Address, IPv4Interface, IPv6Interface)
_LEFT_OUT = frozenset({"at", "name", "services", "guests", "machines", "bridges"})


def describe(network: Network) -> Plain:
    """The network by what a person calls things: bridges, guests, services, names, flows.

    Mappings by name wherever things have one, so that a difference is told by name and never by
    a position. Holds strings, integers and booleans; what is not set is left out.
    """
    site, host = network.site, network.host
    return {
        "site": {
            "name": site.name,
            "domain": site.domain,
            "dns": [str(a) for a in network.dns],
            "ca": _plain(site.ca),
            "directories": {d.name: _plain(d) for d in site.directories},
        },
        "authority": {
            "root": digest(network.trust.root)[:16],
            "intermediate": digest(network.trust.intermediate)[:16],
        }
        if network.trust
        else {},
        "host": _plain(host),
        "bridges": {b.name: _plain(b) for b in host.bridges},
        "guests": {m.guest.name: _plain(m.guest) for m in network.members},
        "machines": {m.name: _plain(m) for m in host.machines},
        "services": {r.service.name: _service(network, r.service.name) for r in network.services},
        "exposed": {f"{x.name}:{x.port}{x.path}": x.service.name for x in network.exposed},
        "certificates": {
            f"{m.guest.name} {c.name}": ", ".join(c.names)
            + (f" from {c.directory.name}" if c.directory else " from files" if c.files else "")
            for m in network.members
            for c in m.certificates
        },
        "names": {name: ", ".join(str(a) for a in a_s) for name, a_s in network.names},
        "flows": {
            f"{f.source} → {f.destination} {f.protocol}/{f.port}": f.reason for f in flows(network)
        },
    }


def _service(network: Network, name: str) -> Plain:
    routed = next(r for r in network.services if r.service.name == name)
    described = _plain(routed.service)
    assert isinstance(described, dict)
    for key in ("expose", "backends", "inside"):
        described.pop(key, None)
    if rate := routed.service.limits.rate:
        limits = described["limits"]
        assert isinstance(limits, dict)
        limits["rate"] = f"{rate[0]}/{'s' if rate[1] == 1 else 'm'}"
    described["backends"] = {
        b.name: f"{b.address}:{b.port}"
        + (f" weight {b.weight}" if b.weight != 1 else "")
        + ("" if b.server_name else " plain")
        for b in routed.backends
    }
    if routed.inside_name:
        described["inside"] = routed.inside_name
        described["callers"] = list(routed.callers) if routed.callers is not None else "all"
    return described


def _plain(value: object) -> object:
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, _ADDRESSES):
        return str(value)
    if isinstance(value, tuple):
        pairs = value and all(isinstance(v, tuple) and len(v) == 2 for v in value)
        if pairs and all(isinstance(v[0], str) for v in value):
            return {key: _plain(item) for key, item in value}
        if value and all(dataclasses.is_dataclass(v) and hasattr(v, "name") for v in value):
            return {v.name: _plain(v) for v in value}
        return [_plain(item) for item in value]
    assert dataclasses.is_dataclass(value), value
    assert not isinstance(value, type), value
    found = {}
    for field in dataclasses.fields(value):
        item = getattr(value, field.name)
        if field.name not in _LEFT_OUT and item is not None and item != () and item != "":
            found[field.name] = _plain(item)
    return found
