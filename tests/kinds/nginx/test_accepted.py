"""nginx takes what is emitted, and what it loads is what was declared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from builder.kinds import traefik_view
from builder.network import Network
from builder.tree import File, Tree
from tests.judges import nginx
from tests.judges.guest import GENERATION, Guest
from tests.judges.nginx_conf import Directive, parse
from tests.judges.refusal import Refused
from tests.kinds.nginx import networks
from tests.kinds.nginx.serving import FOLDERS

pytestmark = [pytest.mark.judge]


def check(net: Network, name: str, slot: str = "a") -> tuple[Directive, ...]:
    """What nginx loads in a guest, includes read in."""
    loaded = nginx.check(networks.guest(net, name), f"nginx/{slot}.conf", folders=FOLDERS)
    return tuple(_read_in(loaded.main, loaded.files))


def _read_in(given: tuple[Directive, ...], files: dict[str, str]) -> Iterator[Directive]:
    for each in given:
        if each.name == "include":
            found = parse(files[f"{GENERATION}/nginx/{each.args[0]}"])
            yield from _read_in(found, files)
        else:
            yield replace(each, block=tuple(_read_in(each.block, files)))


def walk(loaded: tuple[Directive, ...], *path: str) -> list[Directive]:
    """The directives at a path of names."""
    found = list(loaded)
    for name in path[:-1]:
        found = [below for each in found if each.name == name for below in each.block]
    return [each for each in found if each.name == path[-1]]


def first(server: Directive, name: str) -> str:
    return next((each.args[0] for each in server.find(name)), "")


@pytest.mark.parametrize("host", ["pve1", "lab"])
def test_reference(host: str) -> None:
    net = networks.network(host_data=networks.host(host))
    guests = sorted(networks.trees(net))
    assert guests == ["nginx-gateway", "qdrant", "vllm-1", "vllm-2", "webui"]
    for name in guests:
        loaded = check(net, name, "b" if host == "lab" else "a")
        servers = walk(loaded, "http", "server")
        named = {first(s, "server_name") for s in servers} - {""}
        gateway = {"chat.example.org", "ai.home.example.org"}
        assert named == (gateway if name == "nginx-gateway" else {f"{name}.phoenix.internal"})


def test_slots_differ_in_ports_and_folders_only() -> None:
    net = networks.full()
    for tree in networks.trees(net).values():
        a = tree.file("nginx/a.conf").data.decode()
        b = tree.file("nginx/b.conf").data.decode()
        assert a != b
        alike = a.replace("slot a", "slot b").replace("nginx-a", "nginx-b")
        alike = alike.replace("nginx@a", "nginx@b").replace("default a;", "default b;")
        lines = zip(alike.splitlines(), b.splitlines(), strict=True)
        for one, other in (pair for pair in lines if pair[0] != pair[1]):
            assert one.split()[0] == "listen"
            assert one.replace("20", "21", 1) == other


def test_every_pair() -> None:
    """All profiles with all protocols, limits, plain hops: loaded with what each asks for."""
    net = networks.full()
    loaded = check(net, "nginx-gateway")
    http, tcp = walk(loaded, "http", "server"), walk(loaded, "stream", "server")
    passed = dict[str, Directive]()
    for location in (x for server in http for x in server.find("location")):
        for name in [x.args[1] for x in location.find("set") if x.args[0].endswith("service")]:
            passed.setdefault(name, location)
    declared = {s.service.name: s.service for s in net.services}
    assert set(passed) == {n for n, s in declared.items() if s.protocol != "tcp"}
    assert len(tcp) == len(networks.PROFILES)
    for name, location in passed.items():
        service, h2 = declared[name], declared[name].protocol in {"h2c", "grpc"}
        url = first(location, "grpc_pass" if h2 else "proxy_pass")
        plain, tls = ("grpc", "grpcs") if h2 else ("http", "https")
        assert url.split(":")[0] == (plain if service.is_plain("mesh") else tls)
        hour = service.profile in {"stream", "websocket", "slow", "llm"}
        patience = first(location, "grpc_read_timeout" if h2 else "proxy_read_timeout")
        assert (patience == "3600s") == hour
        if service.limits.clients:
            allowed = [each.args[0] for each in location.find("allow")]
            assert allowed == ["192.168.1.0/24", "fd00::/8", "::1/128"]
            assert first(location, "deny") == "all"
            assert first(location, "limit_req") == f"zone=rate-{name}"
            assert first(location, "limit_conn") == f"connections-{name}"
        if not h2:
            buffered = service.profile in {"web", "upload", "slow"}
            assert first(location, "proxy_buffering") == ("on" if buffered else "off")


def test_every_front() -> None:
    net = networks.full()
    front, fronts = check(net, "webui", "b"), net.member("webui").fronts
    assert len({f.service.protocol for f in fronts}) == 4
    programs = [x.args[0] for x in walk(front, "http", "upstream")]
    assert programs == [f"program-{f.service.name}" for f in fronts if f.service.protocol != "tcp"]
    targets = {first(x, "proxy_pass") for x in walk(front, "stream", "server")}
    assert targets == {f"127.0.0.1:{f.program}" for f in fronts if f.service.protocol == "tcp"}


def test_the_mesh_lets_go_of_a_front_first() -> None:
    """Also of a connection that it opened and has not used: else a request meets its end."""
    net = networks.full()
    loaded = check(net, "webui")
    mesh = int(traefik_view.IDLE_FRONT.removesuffix("s"))
    every = walk(loaded, "http", "server")
    servers = [s for s in every if any("ssl" in listen.args for listen in s.find("listen"))]
    assert len(servers) == 2 * sum(f.service.protocol != "tcp" for f in net.member("webui").fronts)
    for server in servers:
        for name in ("keepalive_timeout", "client_header_timeout"):
            [shared] = walk(loaded, "http", name)
            found = first(server, name) or shared.args[0]
            assert int(found.removesuffix("s")) > mesh, name


def test_nothing_exposed() -> None:
    net = networks.network(networks.services(chat={"backends": ["vllm-1"], "port": 8000}))
    assert len(walk(check(net, "nginx-gateway"), "http", "server")) == 2


def test_long_names() -> None:
    """Names of 250 characters do not burst nginx's hashes."""
    label = "a" * 60
    name = ".".join([label] * 4) + ".org"
    declared = {
        "chat": {"backends": ["vllm-1"], "port": 8000, "expose": [name]},
        "x" * 40: {
            "backends": ["vllm-1"], "port": 8001, "protocol": "tcp",
            "expose": [{"name": name, "port": 5000}],
        },
    }  # fmt: skip
    net = networks.network(networks.services(**declared))
    check(net, "nginx-gateway")
    check(net, "vllm-1")


def test_judge_says_no() -> None:
    """A broken line in an included file is refused, so the verdicts above mean something."""
    guest = networks.guest(networks.network(), "nginx-gateway")
    path = "nginx/services/chat.conf"
    kept = [x for x in guest.tree if x.path != path]
    text = guest.tree.file(path).data.replace(b"proxy_buffering off", b"proxy_buffering of")
    broken = [*kept, File(path, text)]
    with pytest.raises(Refused, match='"of" in "proxy_buffering"'):
        nginx.check(Guest(Tree.of(broken)), folders=FOLDERS)
