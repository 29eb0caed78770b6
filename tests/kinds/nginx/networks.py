"""Networks to judge: the reference, changed at will, and one that holds every pair."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from builder import declare
from builder.derive import derive
from builder.kinds import nginx
from builder.kinds.artifact import GuestFiles
from builder.network import Network, Trust
from builder.tree import File, Tree
from tests.judges import pki
from tests.judges.guest import Guest

CONFIGS = Path(__file__).parents[3] / "configs"
PROFILES = ("web", "stream", "websocket", "upload", "slow", "llm")
PROTOCOLS = ("http", "https", "h2c", "grpc", "tcp")
GATEWAY, MESH = "10.0.0.101", "10.0.0.102"
MESH_NAME = "traefik-mesh.phoenix.internal"


@cache
def _read(name: str) -> Any:
    return yaml.safe_load((CONFIGS / name).read_text())


def site() -> dict[str, Any]:
    """The reference site as data, to be changed."""
    return copy.deepcopy(_read("site.yaml"))


def host(name: str = "pve1") -> dict[str, Any]:
    """A reference host as data; `lab` with what it takes over from pve1."""
    own = copy.deepcopy(_read(f"hosts/{name}.yaml"))
    return _merged(host(own.pop("like")), own) if "like" in own else own


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    found = dict(base)
    for key, value in over.items():
        if value is None:
            found.pop(key, None)
        elif isinstance(value, dict) and isinstance(found.get(key), dict):
            found[key] = _merged(found[key], value)
        else:
            found[key] = value
    return found


def network(site_data: dict[str, Any] | None = None, host_data: Any = None) -> Network:
    """The network of these data; of the reference where they are not given."""
    made = derive(declare.site(site_data or site()), declare.host(host_data or host()))
    authority = pki.authority()
    return dataclasses.replace(made, trust=Trust(authority.root, authority.intermediate))


def services(**declared: dict[str, Any]) -> dict[str, Any]:
    """The reference site with just these services."""
    return {**site(), "certificates": {}, "services": declared}


def trees(net: Network) -> dict[str, Tree]:
    """What the kind makes, by guest."""
    made = nginx.artifacts(net)
    assert all(isinstance(x, GuestFiles) and x.kind == "nginx" for x in made)
    return {x.guest: x.tree for x in made if isinstance(x, GuestFiles)}


def guest(net: Network, name: str, *, certificates: Iterable[str] = ()) -> Guest:
    """A guest with its nginx files, the site's root, and certificates of these names."""
    assert net.trust
    tree = trees(net)[name] + Tree.of([File("trust/root.crt", net.trust.root)])
    return Guest(tree, state=dict(held(certificates)))


def held(names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The files of certificates from the site's CA."""
    for name in names:
        pair = pki.authority().issue([name])
        yield f"/var/lib/phoenix/certificates/{name}/certificate.pem", pair.certificate
        yield f"/var/lib/phoenix/certificates/{name}/key.pem", pair.key


def full() -> Network:
    """Every pair of profile and protocol, each exposed and in front of a program, with IPv6, all
    limits, several names and paths, delivered certificates and every plain hop."""
    declared: dict[str, Any] = {}
    for number, (profile, protocol) in enumerate(itertools.product(PROFILES, PROTOCOLS)):
        name, port = f"{profile}-{protocol}", 30000 + number
        more: dict[str, Any] = {"name": "shared.example.org", "path": f"/{name}/v1", "strip": True}
        exposed: dict[str, Any] = {"name": f"{name}.example.org"}
        if protocol == "tcp":
            more = {"name": "shared.example.org", "port": port}
            exposed["port"] = port
        declared[name] = {
            "backends": ["webui"],
            "port": port,
            "profile": profile,
            "protocol": protocol,
            "expose": [exposed, more],
            "inside": True,
            "plain": _plain(number),
            "limits": _limits(number, protocol),
        }
    data = services(**declared)
    data["certificates"] = {
        "web-http.example.org": {"files": {"certificate": "file:/a", "key": "file:/b"}},
        "web-tcp.example.org": {"files": {"certificate": "file:/a", "key": "file:/b"}},
        "llm-http.example.org": {"acme": "letsencrypt"},
    }
    hosted = host()
    hosted["bridges"]["vmbr0"]["address6"] = "fd00::1/64"
    for guest_data in hosted["guests"].values():
        guest_data["address6"] = f"fd00::{guest_data['id']}"
    return network(data, hosted)


def _plain(number: int) -> list[dict[str, str]]:
    reason = "a reason that is long enough"
    hops = [[], ["outside"], ["mesh"], ["backend"], ["outside", "mesh"], []]
    return [{"hop": hop, "reason": reason} for hop in hops[number % len(hops)]]


def _limits(number: int, protocol: str) -> dict[str, Any]:
    every: dict[str, Any] = {"connections": 10, "clients": ["192.168.1.7/24", "fd00::/8", "::1"]}
    if protocol != "tcp":
        every |= {"body": "8GiB" if number % 2 else "unlimited", "rate": "100/m", "burst": 5}
    return every if number % 3 else {}
