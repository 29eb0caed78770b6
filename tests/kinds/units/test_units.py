"""Units as they are written: judged by systemd itself, in a guest that has all they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

import pytest

from builder.kinds import units
from builder.kinds.artifact import GuestFiles
from builder.network import Network
from builder.tree import File, Link, Tree
from tests.judges import systemd
from tests.judges.guest import Guest
from tests.kinds.traefik.running import documents, network, site
from tests.kinds.units import machine

MOST = 2.5
ROLES = ("nginx-gateway", "traefik-mesh", "step-ca", "webui")
Settings = Mapping[str, list[str]]


def tree(net: Network, guest: str) -> Tree:
    (found,) = (a for a in units.artifacts(net) if isinstance(a, GuestFiles) and a.guest == guest)
    return found.tree


def settings(net: Network, guest: str, unit: str) -> Settings:
    """Each setting of a unit with all its values."""
    found: dict[str, list[str]] = {}
    for line in tree(net, guest).file(f"units/{unit}").data.decode().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_who_gets_what() -> None:
    net = network()
    found = {
        member.guest.name: {unit.name.removeprefix("phoenix-") for unit in units.view(net, member)}
        for member in net.members
    }
    names = {"names.service", "names.path", "names.timer"}
    common = names | {"users.service"}
    acme = {"acme.service", "acme.timer", "acme.path"}
    nginx = {"slots.service", "nginx@.service", "nginx-logs.service", "nginx-logs.timer"} | acme
    assert found["step-ca"] == common | {
        "step-ca.service", "step-ca-clock.service", "step-ca-clock.timer",
    }  # fmt: skip
    assert found["nginx-gateway"] == found["webui"] == common | nginx
    assert found["traefik-mesh"] == common | acme | {
        "slots.service", "traefik@.service", "traefik-certificate.service",
    }  # fmt: skip
    bare = network(site())
    held = {u.name.removeprefix("phoenix-") for u in units.view(bare, bare.member("webui"))}
    assert held == names


def test_links_are_those_of_systemctl_enable() -> None:
    for name in ROLES:
        files = tree(network(), name)
        links = {e.path: e.target for e in files if isinstance(e, Link)}
        for entry in files:
            if isinstance(entry, File) and entry.path.startswith("units/"):
                unit = entry.path.removeprefix("units/")
                for target in re.findall(r"^WantedBy=(.*)$", entry.data.decode(), re.MULTILINE):
                    for one in units._instances(unit):
                        assert links.pop(f"units/{target}.wants/{one}") == f"../{unit}"
        assert links == {}


def test_certificates_as_files_are_credentials() -> None:
    reference, _ = documents()
    files = {"files": {"certificate": "file:/c", "key": "file:/k"}}
    every = {"chat.example.org": files, "ai.home.example.org": files}
    net = network({**reference, "certificates": every})
    loaded = settings(net, "nginx-gateway", "phoenix-nginx@.service")["LoadCredential"]
    secrets = "/opt/phoenix-secrets/current"
    names = [f"{name}.{part}" for name in sorted(every) for part in ("crt", "key")]
    assert loaded == [f"{name}:{secrets}/{name}" for name in names]
    # Nothing is ordered there.
    assert "phoenix-acme.service" not in {u.name for u in units.view(net, net.gateway)}


def test_tokens_are_credentials_of_the_client_alone() -> None:
    reference, _ = documents()
    directory = {
        "directory": "https://ca.example.net/d", "email": "a@example.net", "challenge": "dns-01",
        "provider": "cloudflare", "environment": {"CF_DNS_API_TOKEN": "env:T"},
    }  # fmt: skip
    net = network(
        {
            **reference,
            "acme": {"own": directory},
            "certificates": {"chat.example.org": {"acme": "own"}},
        }
    )
    acme = settings(net, "nginx-gateway", "phoenix-acme.service")
    name = "own.CF_DNS_API_TOKEN"
    assert acme["LoadCredential"] == [f"{name}:/opt/phoenix-secrets/current/{name}"]
    assert "LoadCredential" not in settings(net, "nginx-gateway", "phoenix-nginx@.service")
    # One by its web root, one by DNS, each tried twice.
    assert acme["RuntimeMaxSec"] == [str(60 + 130 + 610)]


def test_port_80_for_who_listens_there() -> None:
    net = network()
    assert settings(net, "traefik-mesh", "phoenix-acme.service")["AmbientCapabilities"] == [
        "CAP_NET_BIND_SERVICE"
    ]
    assert settings(net, "webui", "phoenix-acme.service")["CapabilityBoundingSet"] == [""]


@pytest.mark.parametrize(
    ("lifetime", "interval"), [("10m", 25), ("5m", 12), ("1h", 150), ("7d", 1800), ("90d", 1800)]
)
def test_looks_fit_the_lifetime(lifetime: str, interval: int) -> None:
    """At least six looks in the time that is left, however late each comes by chance."""
    reference, _ = documents()
    net = network({**reference, "ca": {"lifetime": lifetime}})
    timer = settings(net, "webui", "phoenix-acme.timer")
    assert timer["OnUnitInactiveSec"] == timer["OnActiveSec"] == [str(interval)]
    latest = interval + int(timer["RandomizedDelaySec"][0]) + int(timer["AccuracySec"][0])
    assert net.site.ca.renew / latest >= 6


@cache
def whole(name: str) -> tuple[Tree, tuple[str, ...]]:
    net = network()
    return machine.tree(net, name), net.member(name).programs


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
@pytest.mark.parametrize("name", ROLES)
def test_little_is_exposed(name: str) -> None:
    files, programs = whole(name)
    found = systemd.security(Guest(files, programs=programs))
    assert len(found) >= 3
    assert {unit: level for unit, level in found.items() if level > MOST} == {}
    print(found)


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_without_hardening_more_is_exposed() -> None:
    plain = File("units/plain.service", b"[Service]\nExecStart=/bin/true\n")
    (level,) = systemd.security(Guest(Tree.of([plain]))).values()
    assert level > 9
