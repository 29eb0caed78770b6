"""What the pinned Traefik has loaded of the mesh's files is what was declared, all of it."""

from __future__ import annotations

import json
import re
from itertools import product
from typing import Any

import pytest

from builder.kinds import traefik
from builder.network import Network
from builder.tree import File, Link, Tree
from tests.judges.refusal import Refused
from tests.kinds.traefik.running import Mesh, data, documents, network, running, site, tree, until

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]

PROFILES = ("web", "stream", "websocket", "upload", "slow", "llm")
PROTOCOLS = ("http", "https", "h2c", "grpc", "tcp")
Data = dict[str, Any]


def matrix() -> Data:
    """A service for each pair of profile and protocol, with all that a service can declare."""
    services: Data = {}
    for number, (profile, protocol) in enumerate(product(PROFILES, PROTOCOLS)):
        name = f"{profile}-{protocol}"
        exposure: Data = {"name": f"{name}.example.org"}
        exposure |= {"port": 5000 + number} if protocol == "tcp" else {"path": "/a/", "strip": True}
        services[name] = {
            "backends": [
                {"name": "vllm-1", "weight": 3},
                {"name": "workstation", "port": 900 + number},
                {"address": "fd00::7", "server_name": "other.example.net", "weight": 2},
            ],
            "port": 6000 + number,
            "protocol": protocol,
            "profile": profile,
            "health": {"interval": "60s", "timeout": "2s", "path": "/ok", "status": 204},
            "inside": {"callers": ["webui", "workstation"], "path": "/b"},
            "expose": [exposure],
        }
        if protocol != "tcp":
            services[name]["sticky"] = {"cookie": "ours"}
            services[name]["headers"] = {
                "request": {"X-In": 'a `b` {{ .x }} "c" \\ $d'},
                "response": {"X-Out": "; } # '"},
            }
        if number % 2:
            services[name]["plain"] = [{"hop": "backend", "reason": "for this test"}]
        if number % 3 == 1 and protocol != "tcp":
            services[name].setdefault("plain", []).append({"hop": "mesh", "reason": "for a test"})
    return site(**services)


def equal(emitted: Any, loaded: Any) -> bool:
    """Whether what was emitted is in what was loaded; what Traefik leaves out is its zero."""
    if isinstance(emitted, dict):
        loaded = loaded or {}
        return isinstance(loaded, dict) and all(equal(v, loaded.get(k)) for k, v in emitted.items())
    if isinstance(emitted, list):
        loaded = loaded or []
        return len(emitted) == len(loaded) and all(map(equal, emitted, loaded))
    if emitted == loaded or (not emitted and loaded is None):
        return True
    if isinstance(loaded, float | int) and isinstance(emitted, str):
        return float(emitted) == loaded  # as text, since we write no floats
    return seconds(emitted) == seconds(loaded) is not None


def seconds(text: Any) -> float | None:
    """Seconds of a Go duration; a missing one is zero."""
    if text is None:
        return 0.0
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    if not re.fullmatch(r"(\d+(ms|h|m|s))+", str(text)):
        return None
    return sum(int(n) * units[u] for n, u in re.findall(r"(\d+)(ms|h|m|s)", str(text)))


def differences(emitted: Any, loaded: Any, path: str = "") -> list[str]:
    """The leaves that were not loaded as emitted."""
    if isinstance(emitted, dict) and emitted and isinstance(loaded, dict):
        return [
            found
            for key, value in emitted.items()
            for found in differences(value, loaded.get(key), f"{path}.{key}")
        ]
    return [] if equal(emitted, loaded) else [f"{path}: {emitted} is {loaded}"]


def logged(mesh: Mesh, key: str) -> list[Data]:
    """What Traefik's own log says that it has read, at level DEBUG."""
    # The last line may be in the writing.
    whole = mesh.log().split("\n")[:-1]
    lines = [json.loads(line) for line in whole if line.startswith("{")]
    return [line for line in lines if key in line]


def dynamic(files: Tree) -> Data:
    """All dynamic files as one, as Traefik merges them."""
    whole: Data = {}
    for entry in files:
        if isinstance(entry, File) and entry.path.startswith("traefik/dynamic/"):
            for section, kinds in data(files, entry.path).items():
                for kind, named in kinds.items():
                    if isinstance(named, list):
                        whole.setdefault(section, {})[kind] = named
                        continue
                    at = whole.setdefault(section, {}).setdefault(kind, {})
                    assert not set(at) & set(named)
                    at.update(named)
    return whole


def check(mesh: Mesh, files: Tree) -> None:
    """Everything was loaded as emitted, is enabled, and nothing went wrong."""
    static = data(files, "traefik/a.yaml")
    static["log"]["level"] = "DEBUG"
    (told,) = logged(mesh, "staticConfiguration")
    assert differences(static, told["staticConfiguration"]) == []
    read = [x["config"] for x in logged(mesh, "config") if x.get("providerName") == "file"]
    # The log leaves out what might be secret; test_requests.py shows that it was read.
    hidden = ("rootCAs:", ".tls.certificates:")
    found = differences(dynamic(files), read[-1])
    assert [line for line in found if not any(key in line for key in hidden)] == []
    raw = mesh.api("rawdata")
    emitted = dynamic(files)
    for section, prefix in (("http", ""), ("tcp", "tcp")):
        for kind in ("routers", "services", "middlewares"):
            shown = f"{prefix}{kind.title()}" if prefix else kind
            loaded = {
                name.removesuffix("@file"): value
                for name, value in raw.get(shown, {}).items()
                if name.endswith("@file")
            }
            wanted = emitted.get(section, {}).get(kind, {})
            assert set(loaded) == set(wanted)
            assert [n for n, v in loaded.items() if v["status"] != "enabled" or "error" in v] == []
    assert mesh.faults() == []


@pytest.mark.parametrize("host", ["pve1", "lab"])
def test_reference_is_loaded(host: str) -> None:
    net = network(host=host)
    with running(net, debug=True) as mesh:
        check(mesh, tree(net))
        declared_is_loaded(mesh, net, documents()[0])


def test_every_profile_and_protocol_is_loaded() -> None:
    declared = matrix()
    net = network(declared)
    with running(net, debug=True) as mesh:
        check(mesh, tree(net))
        declared_is_loaded(mesh, net, declared)


def declared_is_loaded(mesh: Mesh, net: Network, declared: Data) -> None:
    """From the description alone: names, callers, servers, weights, checks."""
    raw = mesh.api("rawdata")
    for name, service in declared["services"].items():
        tcp = service.get("protocol") == "tcp"
        services = raw["tcpServices" if tcp else "services"]
        routers = raw["tcpRouters" if tcp else "routers"]
        own = [r for r in routers.values() if r["service"] == name]
        assert own, name
        hosts = set(re.findall(r"Host(?:SNI)?\(`([^`]+)`\)", " ".join(r["rule"] for r in own)))
        assert hosts == expected_hosts(name, service, declared["domain"])
        children = {
            child["name"]: child["weight"]
            for child in services[f"{name}@file"]["weighted"]["services"]
        }
        weights = [b.get("weight", 1) if isinstance(b, dict) else 1 for b in service["backends"]]
        assert sorted(children.values()) == sorted(weights)
        plain = any(p["hop"] == "backend" for p in service.get("plain", ()))
        for child in children:
            balancer = services[f"{child}@file"]["loadBalancer"]
            (server,) = balancer["servers"]
            if tcp:
                assert server.get("tls", False) is not plain
            else:
                assert server["url"].startswith("https://") is not plain
            assert ("healthCheck" in balancer) is ("health" in service)
        for backend in service["backends"]:
            address = home(net, backend)
            assert any(address in json.dumps(services[f"{c}@file"]) for c in children)


def expected_hosts(name: str, service: Data, domain: str) -> set[str]:
    inside = {f"{name}.svc.{domain}"}
    exposed = {x if isinstance(x, str) else x["name"] for x in service.get("expose", ())}
    if service.get("protocol") == "tcp":
        return inside
    return exposed | (inside if service.get("inside") else set())


def home(net: Network, backend: Any) -> str:
    if isinstance(backend, dict) and "address" in backend:
        return str(backend["address"])
    name = backend if isinstance(backend, str) else backend["name"]
    return str(net.addresses(name)[0])


# --- the judge itself: each of these must be seen


def changed(files: Tree, path: str, before: bytes, after: bytes) -> Tree:
    """Another tree, with one text in one file replaced."""
    old = files.file(path)
    assert before in old.data
    new = File(path, old.data.replace(before, after), old.mode)
    return Tree.of(new if e.path == path else e for e in files)


CHAT = "traefik/dynamic/chat.yaml"


@pytest.mark.parametrize(
    ("path", "before", "after"),
    [
        (CHAT, b"\nhttp:", b"\nhtpp:"),  # ignored
        (CHAT, b"passHostHeader", b"passHostHeaders"),  # refuses all files
        (CHAT, b"rule: \"Host(", b"rule: \"Hosts("),  # only that router goes
        (CHAT, b"- \"retry.chat\"", b"- \"retry.chats\""),
        (CHAT, b"serversTransport: \"chat.vllm-1.8000\"", b"serversTransport: \"chat\""),
        (CHAT, b"dialTimeout: \"5s\"", b"dialTimeout: \"soon\""),
    ],
)  # fmt: skip
def test_a_broken_dynamic_file_is_seen(path: str, before: bytes, after: bytes) -> None:
    net = network()
    good = tree(net)
    if before.startswith(b"\n"):
        before, after = before[1:], after[1:]
    broken = changed(good, path, before, after)
    with running(net, files=broken, debug=True, start=False) as mesh:
        # Where the whole directory is refused, the API has no router, and never answers.
        mesh.patience = 1.0
        with pytest.raises(AssertionError):
            start_and_check(mesh, good)


def start_and_check(mesh: Mesh, files: Tree) -> None:
    mesh.start()
    check(mesh, files)


def test_a_misspelt_static_key_is_seen() -> None:
    net = network()
    good = tree(net)
    ignored = changed(good, "traefik/a.yaml", b"\nping:", b"\npinging:")
    with running(net, files=ignored, debug=True) as mesh, pytest.raises(AssertionError):
        check(mesh, good)
    refused = changed(good, "traefik/a.yaml", b"readTimeout", b"readTimeouts")
    with pytest.raises(Refused), running(net, files=refused):
        pass


def test_links_lead_to_what_is_drained() -> None:
    """Every link of the draining folder is followed by Traefik, or a router would be missing."""
    net = network()
    files = tree(net)
    with running(net, debug=True) as mesh:
        before = mesh.api("rawdata")["routers"]
        folder = "/var/lib/phoenix/slots/traefik"
        mesh.space.must(["ln", "-sfn", f"/opt/phoenix/1/{traefik.DRAINING}", f"{folder}/a"])
        mesh.reread()
        slot = {}

        def drains() -> bool:
            slot.update(mesh.api("rawdata")["middlewares"]["slot@file"]["headers"])
            return "customResponseHeaders" in slot

        until(drains, mesh.log)
        assert slot["customResponseHeaders"] == {"Connection": "close"}
        # What callers are not believed stays the same.
        assert slot["customRequestHeaders"]["Forwarded"] == ""
        assert {k: v["rule"] for k, v in mesh.api("rawdata")["routers"].items()} == {
            k: v["rule"] for k, v in before.items()
        }
        assert any(isinstance(e, Link) for e in files)
        assert mesh.faults() == []
