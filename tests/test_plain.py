"""What goes unencrypted, as each build lists it."""

from __future__ import annotations

import dataclasses

from builder.flows import ANY, flows, plain
from builder.network import Network, PlainHop
from tests.kinds.traefik.running import documents, network

REASON = "a switch that knows no better"


def listed(net: Network, service: str) -> list[tuple[str, str, str, int]]:
    return [(p.hop, p.source, p.destination, p.port) for p in plain(net) if p.service == service]


def asked(hop: str, **more: object) -> Network:
    """The reference, with one service more that goes unencrypted on a hop."""
    site, _ = documents()
    service = {
        "backends": ["vllm-1", "vllm-2"], "port": 9001, "health": {"path": "/"},
        "plain": [{"hop": hop, "reason": REASON}], **more,
    }  # fmt: skip
    return network({**site, "services": {**site["services"], "more": service}})


def test_every_network_has_challenges_and_the_redirect() -> None:
    net = network()
    holders = {f.destination for f in flows(net) if f.reason == "ACME challenges"}
    assert {"nginx-gateway", "traefik-mesh", "vllm-1", "workstation"} <= holders
    found = listed(net, "")
    assert [x for x in found if x[0] == "redirect"] == [("redirect", ANY, "nginx-gateway", 80)]
    challenges = {x for x in found if x[0] == "challenge"}
    own = {("challenge", "step-ca", holder, 80) for holder in holders}
    # The reference has a name with a public certificate.
    assert challenges == own | {("challenge", ANY, "nginx-gateway", 80)}
    assert {p.service for p in plain(net)} == {""}


def test_only_a_public_directory_that_asks_by_http_comes_from_outside() -> None:
    site, _ = documents()
    net = network({**site, "certificates": {}})
    assert [x for x in listed(net, "") if x[1] == ANY] == [("redirect", ANY, "nginx-gateway", 80)]


def test_a_hop_that_was_asked_for() -> None:
    exposed = {"expose": ["more.example.org"]}
    assert listed(asked("outside", **exposed), "more") == [("outside", ANY, "nginx-gateway", 80)]
    backends = [("backend", "traefik-mesh", name, 9001) for name in ("vllm-1", "vllm-2")]
    assert listed(asked("backend", **exposed), "more") == backends
    inside = {"inside": {"callers": ["webui"]}}
    assert listed(asked("mesh", **exposed, **inside), "more") == [
        ("mesh", "nginx-gateway", "traefik-mesh", 8080),
        ("mesh", "webui", "traefik-mesh", 8080),
    ]
    assert listed(asked("mesh", **inside), "more") == [("mesh", "webui", "traefik-mesh", 8080)]


def test_tcp_from_outside_is_met_at_its_own_port() -> None:
    expose = [{"name": "more.example.org", "port": 5432}]
    net = asked("outside", protocol="tcp", expose=expose, health={})
    assert listed(net, "more") == [("outside", ANY, "nginx-gateway", 5432)]


def test_each_may_begin_by_a_flow() -> None:
    """What the build lists and what the firewall lets pass tell of the same ends."""
    exposed = {"expose": ["more.example.org"], "inside": True}
    for hop in ("outside", "mesh", "backend"):
        net = asked(hop, **exposed)
        let = {(f.source, f.destination, f.port) for f in flows(net)}
        anyone = {(d, port) for s, d, port in let if s == ANY}
        for p in plain(net):
            one = (p.source, p.destination, p.port)
            assert one in let or one[1:] in anyone, p


def test_the_reason_is_as_it_was_given() -> None:
    (found,) = (p for p in plain(asked("outside", expose=["more.example.org"])) if p.service)
    assert found == PlainHop("more", "outside", REASON, ANY, "nginx-gateway", 80)
    assert dataclasses.asdict(found).keys() == {
        *("service", "hop", "reason", "source", "destination", "port")
    }
