"""What a host is told to ask: each hop of each declared way, and nothing that is not declared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from builder.host import gate
from builder.kinds import paths
from builder.kinds.asks import Ask
from builder.network import Network
from tests.kinds.traefik.running import documents, network
from tests.rendered import networks

ROOT = Path(__file__).parents[3]
EVERY = {
    f"{place.name}/{name}": net
    for place in (ROOT, *sorted((ROOT / "tests/cases").iterdir()))
    for name, net in networks(place).items()
}


def asks(net: Network) -> dict[str, Ask]:
    return {ask.key: ask for ask in paths.view(net).asks}


def declared(
    services: Mapping[str, Any], certificates: Mapping[str, Any] | None = None
) -> dict[str, Ask]:
    """The reference with these services in place of its own."""
    site, _ = documents()
    return asks(network({**site, "services": services, "certificates": certificates or {}}))


@pytest.mark.parametrize("net", EVERY.values(), ids=EVERY)
def test_all_hangs_together(net: Network) -> None:
    """Each ask comes after those behind it, and its ends are there."""
    numbers = {str(member.guest.id) for member in net.members}
    ends = {*numbers, *(machine.name for machine in net.host.machines)}
    seen: set[str] = set()
    for key, ask in asks(net).items():
        assert {*ask.behind} <= seen, ask
        assert ask.source in numbers | {"uplink", "host"}, ask
        assert ask.target in ends | {"program", "outside"}, ask
        assert not ask.awaits or ask.authority == str(net.ca.guest.id)
        seen.add(key)


@pytest.mark.parametrize("net", EVERY.values(), ids=EVERY)
def test_the_host_reads_what_is_written(net: Network) -> None:
    (file,) = paths.artifacts(net)
    read, said = gate.paths(file.data), paths.view(net)
    assert (read.root, read.uplink, read.patience) == (said.root, said.uplink, said.patience)
    fields = Ask.__dataclass_fields__
    for one, other in zip(read.asks, said.asks, strict=True):
        assert all(getattr(one, name) == getattr(other, name) for name in fields)


@pytest.mark.parametrize("net", EVERY.values(), ids=EVERY)
def test_each_way_is_asked(net: Network) -> None:
    found = asks(net).values()
    side = "uplink" if paths.view(net).uplink else "host"
    entering = {(a.name, a.port) for a in found if a.source == side}
    assert {(x.name, x.port) for x in net.exposed} <= entering
    names = {a.name for a in found}
    assert {r.inside_name for r in net.services if r.inside_name} <= names
    backends = {(a.address, a.port) for a in found if a.source == str(net.mesh.guest.id)}
    assert {(str(b.address), b.port) for r in net.services for b in r.backends} <= backends
    holders = {str(m.guest.id) for m in net.members for c in m.certificates if not c.directory}
    assert holders == {a.source for a in found if a.target == str(net.ca.guest.id)}


def test_a_routed_host_is_asked_for_its_translation() -> None:
    found = asks(EVERY[f"{ROOT.name}/lab"])
    assert found["hairpin vmbr0 4"].address == "198.18.0.10"
    assert found["hairpin vmbr0 4"].source not in ("101", "host")
    assert found["hairpin host 4"].source == "host"
    assert (found["out vmbr0 4"].how, found["out vmbr0 4"].address) == ("ping", "198.18.0.1")
    assert found["out vmbr0 4"].ours
    assert not found["host out vmbr0 4"].ours


def test_a_bridged_host_translates_nothing() -> None:
    found = asks(EVERY["bridged/node"])
    assert not [key for key in found if key.startswith(("hairpin", "out ", "uplink"))]


def test_the_path_of_the_health_is_asked_where_it_can_be() -> None:
    service = {"backends": ["webui"], "port": 8080, "health": {"path": "/live", "status": 204}}
    ways = [
        {"name": "a.example.org"},
        {"name": "b.example.org", "path": "/b/", "strip": True},
        {"name": "c.example.org", "path": "/c/"},
    ]
    found = declared({"webui": {**service, "expose": ways}})
    entering = {a.name: a.path for a in found.values() if a.source == "uplink" and a.server}
    assert entering == {
        "a.example.org": "/live", "b.example.org": "/b/live", "c.example.org": "/c/",
    }  # fmt: skip
    health, other = found["program webui webui/live"], found["program webui webui/c/"]
    assert (health.legal, other.legal) == (((204, 204),), ())
    assert health.address == "127.0.0.1"


def test_limited_clients_may_be_refused() -> None:
    service = {"backends": ["webui"], "port": 8080, "expose": ["a.example.org"]}
    found = declared({"webui": {**service, "limits": {"clients": ["192.168.1.0/24"]}}})
    assert found["uplink a.example.org:443/ 4"].legal == ((403, 403),)
    assert found["mesh a.example.org:443/"].legal == ()


def test_protocols() -> None:
    both = {"backends": ["webui"], "inside": True}
    found = declared(
        {
            "rpc": {**both, "port": 6334, "protocol": "grpc", "expose": ["r.example.org"]},
            "tcp": {
                **both, "port": 5432, "protocol": "tcp",
                "expose": [{"name": "t.example.org", "port": 5432}],
            },
        }
    )  # fmt: skip
    how = {key.split(" ")[0]: a.how for key, a in found.items() if a.name in ("rpc", "tcp")}
    assert how == {"program": "open", "backend": "open"}
    rpc = found["uplink r.example.org:443/grpc.health.v1.Health/Check 4"]
    assert rpc.how == "grpc"
    tcp = found["uplink t.example.org:5432/ 4"]
    assert (tcp.how, tcp.server, tcp.port) == ("open", "t.example.org", 5432)
    assert found["mesh t.example.org:5432/"].server == "tcp.svc.phoenix.internal"
    assert "uplink t.example.org:80 4" not in found


def test_certificates_from_elsewhere() -> None:
    services = {
        name: {"backends": ["webui"], "port": port, "expose": [f"{name}.example.org"]}
        for name, port in (("acme", 1), ("files", 2), ("site", 3))
    }
    files = {"files": {"certificate": "file:a.crt", "key": "file:a.key"}}
    given = {"acme.example.org": {"acme": "letsencrypt"}, "files.example.org": files}
    found = declared(services, given)
    seen = {name: found[f"uplink {name}.example.org:443/ 4"] for name in ("acme", "files", "site")}
    kept = "/var/lib/phoenix/certificates/{}.example.org/certificate.pem"
    assert (seen["acme"].held, seen["acme"].ours) == (kept.format("acme"), False)
    assert seen["files"].held == "/opt/phoenix-secrets/current/files.example.org.crt"
    assert seen["files"].ours
    assert (seen["site"].held, seen["site"].awaits) == ("", kept.format("site"))
    assert found["hairpin vmbr0 4"].name != "acme.example.org"


def test_hops_without_tls() -> None:
    plain = [{"hop": hop, "reason": "a test"} for hop in ("mesh", "backend")]
    found = declared(
        {"webui": {"backends": ["webui"], "port": 8080, "expose": ["a.example.org"],
                   "plain": plain}}
    )  # fmt: skip
    mesh, backend = found["mesh a.example.org:443/"], found["backend webui webui:8080/"]
    assert (mesh.port, mesh.server, mesh.awaits) == (8080, "", "")
    assert (backend.server, backend.ours) == ("", False)


def test_more_certificates_take_longer() -> None:
    one = {"backends": ["webui"], "port": 8080, "expose": ["a.example.org"]}
    site, _ = documents()
    waits = [
        paths.view(network({**site, "services": {"webui": each}, "certificates": {}})).patience
        for each in (one, {**one, "expose": ["a.example.org", "b.example.org"]})
    ]
    assert waits[1] - waits[0] == 15


def test_what_is_usual_is_left_out() -> None:
    (file,) = paths.artifacts(EVERY["smallest/node"])
    for ask in json.loads(file.data)["asks"]:
        assert "" not in ask.values()
        assert [] not in ask.values()
