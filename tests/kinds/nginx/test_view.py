"""What is decided before anything is written, and that no value can end a statement."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from builder.kinds import nginx, nginx_common, nginx_front, nginx_gateway
from builder.network import Network
from builder.tree import File
from tests.judges.nginx_conf import Directive, parse
from tests.kinds.nginx import networks


def service(**more: Any) -> dict[str, Any]:
    return {"backends": ["webui"], "port": 8000, "expose": ["one.example.org"], **more}


def made(**more: Any) -> nginx_gateway.View:
    return nginx_gateway.view(networks.network(networks.services(one=service(**more))))


@pytest.mark.parametrize(
    ("profile", "protocol", "expected"),
    [  # http2, upgrades, buffered, body buffered, idle, idle of the body; body limit
        ("web", "http", (False, False, True, True, 60, 60, 1 << 20)),
        ("stream", "http", (False, False, False, False, 3600, 600, 1 << 20)),
        ("websocket", "https", (False, True, False, True, 3600, 600, 1 << 20)),
        ("upload", "http", (False, False, True, False, 600, 600, 0)),
        ("slow", "http", (False, False, True, True, 3600, 600, 1 << 20)),
        ("llm", "http", (False, True, False, False, 3600, 600, 0)),
        ("llm", "h2c", (True, False, False, False, 3600, 3600, 0)),
        ("web", "grpc", (True, False, True, False, 60, 60, 0)),
    ],
)
def test_profiles(profile: str, protocol: str, expected: tuple[object, ...]) -> None:
    [passed] = made(profile=profile, protocol=protocol).services
    assert (*dataclasses.astuple(passed.how), passed.limits.body) == expected


def test_bodies_are_collected_where_they_are_small() -> None:
    for body, collected in (("16MiB", True), ("17MiB", False), ("unlimited", False)):
        [passed] = made(limits={"body": body}).services
        assert passed.how.body_buffered == collected


def test_limits() -> None:
    [passed] = made(
        limits={"rate": "100/m", "connections": 7, "clients": ["192.168.1.9/24", "fd00::1/8"]}
    ).services
    assert passed.limits == nginx_gateway.Limits(
        body=1 << 20,
        rate="rate=100r/m",
        rate_zone="rate-one",
        burst=0,
        connections=7,
        connections_zone="connections-one",
        clients=("192.168.1.0/24", "fd00::/8"),
    )


def test_paths() -> None:
    def at(*paths: str) -> list[tuple[str, bool, bool]]:
        exposed = [{"name": "one.example.org", "path": path} for path in paths]
        found = made(expose=exposed).sites[0].locations
        return [(x.path, x.exact, x.resolved) for x in found]

    both = [("/v1", True, False), ("/v1/", False, False)]
    assert at("/v1") == at("/v1/") == both
    assert at("/") == [("/", False, False)]
    # One service under several prefixes is still alone on its name.
    assert at("/", "/v1/") == [("/", False, False), *both]


def test_shared_names_are_resolved() -> None:
    other = service(expose=[{"name": "one.example.org", "path": "/other"}])
    net = networks.network(networks.services(one=service(), other=other))
    assert all(x.resolved for x in nginx_gateway.view(net).sites[0].locations)


@pytest.mark.parametrize(
    ("source", "challenge", "delivered"),
    [
        ({"acme": "letsencrypt"}, True, False),
        ({"acme": "dns"}, False, False),
        ({"files": {"certificate": "file:/a", "key": "file:/b"}}, False, True),
        ("site", True, False),
    ],
)
def test_certificates(source: Any, challenge: bool, delivered: bool) -> None:
    data = networks.services(one=service())
    data["acme"]["dns"] = {
        "directory": "https://x/y", "email": "a@b", "challenge": "dns-01", "provider": "x",
    }  # fmt: skip
    data["certificates"] = {"one.example.org": source}
    [site] = nginx_gateway.view(networks.network(data)).sites
    assert (site.challenge, site.delivered) == (challenge, delivered)


def test_plain_hops() -> None:
    def hop(name: str, **more: Any) -> nginx_gateway.View:
        return made(plain=[{"hop": name, "reason": "a reason that is long"}], **more)

    assert hop("mesh").services[0].url == "http://mesh-plain"
    assert hop("mesh").upstreams == (nginx_gateway.Upstream("mesh-plain", "10.0.0.102:8080"),)
    assert hop("mesh", protocol="grpc").services[0].url == "grpc://mesh-h2-plain"
    assert hop("outside").sites[0].plain == hop("outside").sites[0].locations
    assert hop("backend").services[0].url == "https://mesh"
    tcp = {"protocol": "tcp", "expose": [{"name": "one.example.org", "port": 5432}]}
    assert not hop("outside", **tcp).streams[0].tls
    assert hop("mesh", **tcp).streams[0].tls
    # The mesh tells tcp services apart by the handshake: that hop can't be plain.
    assert hop("mesh", **tcp).stream_mesh == "10.0.0.102:443"
    assert hop("mesh", **tcp).streams[0].inside == "one.svc.phoenix.internal"


def test_tcp_alone_is_not_redirected() -> None:
    tcp = {"protocol": "tcp", "expose": [{"name": "one.example.org", "port": 5432}]}
    [site] = made(**tcp).sites
    assert (site.locations, site.redirect, site.challenge) == ((), False, True)


def test_workers() -> None:
    [guest] = [m.guest for m in networks.network().members if m.guest.name == "vllm-1"]
    assert guest.cores == 8
    assert nginx_common.workers(guest, 4) == 4
    assert nginx_common.workers(dataclasses.replace(guest, cores=1), 4) == 1
    assert nginx_common.workers(dataclasses.replace(guest, cores=None), 4) == 4


def test_a_change_alters_one_file() -> None:
    """Adding a limit to a service rewrites that service's file, and nothing that holds others."""
    before = networks.site()
    after = networks.site()
    after["services"]["chat"]["limits"] = {"body": "1GiB"}
    old, new = (networks.trees(networks.network(x)) for x in (before, after))
    changed = {
        (guest, entry.path)
        for guest, tree in new.items()
        for entry in tree
        if entry not in old[guest].entries
    }
    assert changed == {("nginx-gateway", "nginx/services/chat.conf")}


def test_front_of_own_tls_or_plain_is_none() -> None:
    declared = networks.services(
        own=service(tls="own"),
        bare=service(port=8001, plain=[{"hop": "backend", "reason": "a reason that is long"}]),
    )
    assert list(networks.trees(networks.network(declared))) == ["nginx-gateway"]


# --- hostile values, as no schema would let them through


FIXED = {f"nginx/{name}" for name in ("settings.conf", "stream-settings.conf", "server.conf")}
HOSTILE = st.text(min_size=1, max_size=12) | st.text(
    alphabet="ab;{}\"'\\$# \n\r\t\0~*=@/.é\u2028", min_size=1, max_size=12
)


def shape(net: Network) -> Counter[tuple[int, str, int]]:
    """The statements of all files that hold values: depth, name and number of parameters."""

    def below(found: Iterable[Directive], depth: int) -> Iterator[tuple[int, str, int]]:
        for x in found:
            # In a map, the name is a value.
            yield depth, x.name if x.name.isidentifier() else "", len(x.args)
            yield from below(x.block, depth + 1)

    files = [f for tree in networks.trees(net).values() for f in tree if isinstance(f, File)]
    texts = [f.data.decode() for f in files if f.path not in FIXED]
    return Counter(x for text in texts for x in below(parse(text), 0))


def replaced(net: Network, old: str, new: str) -> Network:
    """`net` with every text that holds `old` holding `new` there."""

    def through(value: Any) -> Any:
        if isinstance(value, str):
            return value.replace(old, new)
        if isinstance(value, tuple):
            return tuple(through(x) for x in value)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: through(getattr(value, f.name)) for f in dataclasses.fields(value)}
            return dataclasses.replace(value, **fields)
        return value

    return through(net)  # type: ignore[no-any-return]


def hostile() -> Network:
    exposed = [
        {"name": "nnn.example.org", "path": "/ppp/", "strip": True},
        {"name": "nnn.example.org", "path": "/other"},
    ]
    tcp = service(protocol="tcp", expose=[{"name": "nnn.example.org", "port": 5432}], port=8001)
    declared = networks.services(sss=service(expose=exposed, limits={"rate": "1/s"}), ttt=tcp)
    return networks.network(declared)


@pytest.mark.parametrize("where", ["nnn", "ppp", "sss", "ttt", "webui", "traefik-mesh"])
@settings(deadline=None, max_examples=40)
@given(value=HOSTILE)
@example(value='";} server { listen 1; } #')
@example(value="a; return 200 x")
@example(value="$host")
@example(value="\n}")
@example(value="a b")
def test_hostile(where: str, value: str) -> None:
    """A value is one parameter, whatever it holds, or it is refused."""
    assume(value.strip("/"))  # a path of nothing but slashes is another path, and means one
    net = hostile()
    try:
        found = shape(replaced(net, where, value))
    except (ValueError, AssertionError):
        # Refused by the quoting, or as a path; an ordinary value is not.
        assert not value.isascii() or not value.isalnum()
        return
    assert found == shape(net)


def test_hostile_shape_sees_a_statement() -> None:
    """The comparison above is blind neither to a further statement nor to a parameter."""
    net = hostile()
    fewer = dataclasses.replace(net, exposed=net.exposed[:-1])
    assert shape(net) != shape(fewer)
    assert shape(net) == shape(replaced(net, "nnn", "other"))
    assert nginx.KIND == "nginx"
    assert nginx_front.view(net.member("webui")).name == "webui.phoenix.internal"
