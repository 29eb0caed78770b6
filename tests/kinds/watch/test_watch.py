"""What scrapers get and may read: the mesh's own metrics, judged by promtool and by Traefik."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from builder.flows import Flow, flows
from builder.kinds import join, watch
from builder.kinds.artifact import GuestFiles, KitFiles
from builder.network import METRICS_PORT, Network
from builder.tree import File, Tree
from tests.judges import pki, prometheus
from tests.judges.http import Response
from tests.judges.refusal import Refused
from tests.kinds.traefik.backends import GATEWAY, VLLM1, VLLM2, WEBUI, WORKSTATION, backend
from tests.kinds.traefik.running import (
    Mesh,
    documents,
    mesh_certificate,
    network,
    put,
    running,
    tree,
    until,
)
from tests.kinds.traefik.running import site as sites

Data = dict[str, Any]
SHARED = "traefik/dynamic/_mesh.yaml"
FILES = ["watch/dashboard.json", "watch/prometheus.yml"]


def watched(*scrapers: str, site: Data | None = None) -> Network:
    """The reference with these scrapers."""
    _, hosts = documents()
    host = {**hosts["pve1"], "watch": {"scrapers": [*scrapers]}}
    if not scrapers:
        del host["watch"]
    return network(site, host)


def dashboard(net: Network) -> Data:
    found: Data = json.loads(Tree.of(watch.files(net)).file("watch/dashboard.json").data)
    return found


def exprs(board: Data) -> list[str]:
    return [t["expr"] for panel in board["panels"] for t in panel.get("targets", ())]


# --- who gets what


def test_each_scraper_gets_its_files_and_nobody_else() -> None:
    net = watched("webui", "workstation")
    kits = [a for a in join.artifacts(net) if isinstance(a, KitFiles)]
    found = {a.name: [e.path for e in a.tree if e.path.startswith("watch/")] for a in kits}
    for a in watch.artifacts(net):
        assert isinstance(a, GuestFiles)
        found[a.guest] = [e.path for e in a.tree]
    assert found == {"workstation": FILES, "webui": FILES}
    (kit,) = kits
    readme = kit.tree.file("README").data
    assert b"cp -R --remove-destination bin names acme trust users watch /" in readme
    user_data = kit.tree.file("cloud-init/user-data").data
    assert b"/opt/phoenix/current/watch/prometheus.yml" in user_data


def test_nobody_declared_is_nothing_made() -> None:
    net = watched()
    assert watch.artifacts(net) == ()
    assert METRICS_PORT not in [x.port for x in net.mesh.listeners]
    assert b"\n  metrics:\n" not in tree(net).file("traefik/a.yaml").data
    assert b"\n  metrics:\n" in tree(watched("webui")).file("traefik/a.yaml").data
    assert b"prometheus@internal" not in tree(net).file("traefik/dynamic/_mesh.yaml").data
    assert METRICS_PORT not in [flow.port for flow in flows(net)]
    (kit,) = join.artifacts(net)
    assert not [e for e in kit.tree if e.path.startswith("watch/")]
    assert b"watch" not in kit.tree.file("README").data


def test_scrapers_alone_may_begin() -> None:
    net = watched("webui", "workstation")
    to_metrics = [flow for flow in flows(net) if flow.port == METRICS_PORT]
    mesh = net.mesh.guest.name
    assert to_metrics == [
        Flow(name, mesh, "tcp", METRICS_PORT, "metrics") for name in ("webui", "workstation")
    ]


def test_a_scraper_moves_no_other_port_of_the_slots() -> None:
    before, after = watched().mesh.listeners, watched("webui").mesh.listeners
    assert after[: len(before)] == before
    assert [x.port for x in after[len(before) :]] == [METRICS_PORT]


# --- the files, by their own programs


@pytest.mark.judge
@pytest.mark.needs("root", "unshare")
def test_promtool_takes_the_scrape_file() -> None:
    net = watched("webui")
    data = Tree.of(watch.files(net)).file("watch/prometheus.yml").data
    root = {watch.ROOT: pki.authority().root}
    prometheus.check(data, root)
    with pytest.raises(Refused, match="server_names"):
        prometheus.check(data.replace(b"server_name", b"server_names"), root)


@pytest.mark.judge
@pytest.mark.needs("root", "unshare")
def test_promtool_takes_every_query() -> None:
    asked = exprs(dashboard(watched("webui")))
    prometheus.queries(asked)
    with pytest.raises(Refused, match="could not parse"):
        prometheus.queries([asked[0].replace("}", "")])


def test_the_dashboard_is_one_that_grafana_imports() -> None:
    board = dashboard(watched("webui"))
    assert len(board["uid"]) <= 40
    assert [(v["name"], v["type"], v["query"]) for v in board["templating"]["list"]] == [
        ("datasource", "datasource", "prometheus")
    ]
    numbers = [panel["id"] for panel in board["panels"]]
    assert len(set(numbers)) == len(numbers)
    taken = set[tuple[int, int]]()
    for panel in board["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert cells
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
        assert panel["title"]
        if panel["type"] == "row":
            continue
        refs = [target["refId"] for target in panel["targets"]]
        assert refs
        assert len(set(refs)) == len(refs)
        for source in (panel["datasource"], *(t["datasource"] for t in panel["targets"])):
            assert source == {"type": "prometheus", "uid": "${datasource}"}


def test_a_row_for_each_service_that_has_requests() -> None:
    reference, _ = documents()
    reference["services"]["db"] = {"backends": ["qdrant"], "port": 5432, "protocol": "tcp",
                                   "inside": True}  # fmt: skip
    board = dashboard(watched("webui", site=reference))
    rows = [panel["title"] for panel in board["panels"] if panel["type"] == "row"]
    assert rows == ["Mesh", *(f"Service {n}" for n in sorted(reference["services"]) if n != "db")]


def test_dashboards_of_two_hosts_are_two() -> None:
    net = watched("webui")
    other = dataclasses.replace(net, host=dataclasses.replace(net.host, name="pve2"))
    assert dashboard(net)["uid"] != dashboard(other)["uid"]
    assert not set(exprs(dashboard(net))) & set(exprs(dashboard(other)))


# --- Traefik, and those who ask it


@pytest.fixture(scope="module", name="mesh")
def _mesh() -> Iterator[Mesh]:
    health = {"path": "/", "interval": "1s", "timeout": "1s"}
    site = sites(chat={"backends": ["vllm-1", "vllm-2"], "port": 8000, "inside": True,
                       "health": health})  # fmt: skip
    with running(watched("workstation", site=site)) as mesh:
        for guest in ("vllm-1", "vllm-2"):
            backend(mesh, guest, 8000)
        yield mesh


def scraped(mesh: Mesh, source: str, path: str = "/metrics", host: str = "") -> Response:
    """The answer to one scrape over TLS, by the mesh's name and the site's root."""
    listener = mesh.net.mesh.listener(METRICS_PORT)
    context = ssl.create_default_context(cadata=pki.authority().root.decode())
    stream = context.wrap_socket(
        mesh.connect(source, listener.a), server_hostname=mesh.net.mesh.fqdn
    )
    connection = http.client.HTTPConnection(host or mesh.net.mesh.fqdn)
    connection.sock = stream
    with contextlib.closing(stream), contextlib.closing(connection):
        connection.request("GET", path)
        answer = connection.getresponse()
        return Response(answer.status, dict(answer.getheaders()), answer.read())


def read(mesh: Mesh) -> list[tuple[str, dict[str, str], float]]:
    answer = scraped(mesh, WORKSTATION)
    assert answer.status == 200
    return prometheus.samples(answer.body.decode())


@pytest.mark.judge
@pytest.mark.needs("root", "unshare")
def test_only_scrapers_read(mesh: Mesh) -> None:
    assert scraped(mesh, WORKSTATION).status == 200
    # By its address too: Prometheus says the target's name or address.
    assert scraped(mesh, WORKSTATION, host=f"10.0.0.102:{METRICS_PORT}").status == 200
    for source in (GATEWAY, WEBUI, VLLM1, VLLM2, "10.0.0.1", "192.168.1.10"):
        assert scraped(mesh, source).status == 404
    for path in ("/", "/api/rawdata", "/ping", "/metrics/../api/rawdata"):
        assert scraped(mesh, WORKSTATION, path).status == 404
    # Nor is it told where requests go.
    assert mesh.ask(GATEWAY, mesh.net.mesh.fqdn, "/metrics").status == 404


def _all(stream: socket.socket) -> bytes:
    """What comes until the other end closes, however it does."""
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while got := stream.recv(65536):
            said += got
    return said


@pytest.mark.judge
@pytest.mark.needs("root", "unshare")
def test_nothing_plain_and_no_other_name(mesh: Mesh) -> None:
    port = mesh.net.mesh.listener(METRICS_PORT).a
    with mesh.connect(WORKSTATION, port) as stream:
        stream.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b"traefik_" not in _all(stream)
    context = ssl.create_default_context(cadata=pki.authority().root.decode())
    context.check_hostname = False
    with pytest.raises(ssl.SSLError):
        context.wrap_socket(mesh.connect(WORKSTATION, port), server_hostname="other.example.org")


@pytest.mark.judge
@pytest.mark.needs("root", "unshare")
def test_every_metric_of_the_dashboard_is_told(mesh: Mesh) -> None:
    mesh.ask(WEBUI, "chat.svc.phoenix.internal")
    asked = exprs(dashboard(mesh.net))
    # `up` is Prometheus' own.
    wanted = set[str]().union(*map(prometheus.metrics, asked)) - {"up"}
    assert len(wanted) >= 6

    def lacking() -> set[str]:
        return wanted - {name for name, _, _ in read(mesh)}

    until(lambda: not lacking(), lambda: f"lacking: {lacking()}", mesh.patience)
    # And of the series that it chooses.
    services = {labels.get("service") for name, labels, _ in read(mesh) if "_router_" in name}
    assert "chat@file" in services

    def up() -> list[str]:
        return sorted(labels["service"] for name, labels, value in read(mesh)
                      if name == "traefik_service_server_up" and value == 1)  # fmt: skip

    # A busy machine's late answer takes one out for a moment.
    until(lambda: up() == ["chat.vllm-1.8000@file", "chat.vllm-2.8000@file"], mesh.log)
    entries = {labels["entrypoint"] for name, labels, _ in read(mesh) if "_entrypoint_" in name}
    assert entries == {"websecure"}  # scrapes count for nothing


@pytest.mark.judge
@pytest.mark.needs("root", "unshare")
def test_a_certificate_of_before_is_told_too(mesh: Mesh) -> None:
    """So the dashboard takes the one that ends last."""

    def told() -> list[str]:
        return [x["cn"] for name, x, _ in read(mesh) if name == "traefik_tls_certs_not_after"]

    assert told() == [mesh.net.mesh.fqdn]
    put(mesh.space, mesh_certificate(mesh.net))
    mesh.reread()
    until(lambda: told() == [mesh.net.mesh.fqdn] * 2, mesh.log)
    assert any("max by (cn) (traefik_tls_certs_not_after{" in e for e in exprs(dashboard(mesh.net)))


@pytest.mark.judge
@pytest.mark.needs("root", "unshare")
def test_a_slot_that_drains_lets_scrapers_go() -> None:
    net = watched("workstation")
    files = tree(net)
    draining = files.file("traefik/draining/traefik/dynamic/_slot.yaml").data
    kept = [e for e in files if e.path != "traefik/dynamic/_slot.yaml"]
    with running(net, files=Tree.of([*kept, File("traefik/dynamic/_slot.yaml", draining)])) as mesh:
        assert scraped(mesh, WORKSTATION).headers["Connection"] == "close"


@pytest.mark.judge
@pytest.mark.needs("root", "unshare")
@pytest.mark.parametrize(
    ("path", "old", "new", "check"),
    [
        (SHARED, b" && (ClientIP(`10.0.0.201`))", b"", test_only_scrapers_read),
        (SHARED, b"Path(`/metrics`)", b"PathPrefix(`/`)", test_only_scrapers_read),
        (SHARED, b"service: \"prometheus@internal\"\n      tls: {}",
         b"service: \"prometheus@internal\"", test_nothing_plain_and_no_other_name),
        ("traefik/a.yaml", b"addRoutersLabels: true", b"addRoutersLabels: false",
         test_every_metric_of_the_dashboard_is_told),
    ],
    ids=["anyone", "any-path", "plain", "no-routers"],
)  # fmt: skip
def test_twin(path: str, old: bytes, new: bytes, check: Any) -> None:
    """The mesh, with one thing about its metrics otherwise, does not pass."""
    site = sites(chat={"backends": ["vllm-1"], "port": 8000, "inside": True,
                       "health": {"interval": "1s", "timeout": "1s"}})  # fmt: skip
    net = watched("workstation", site=site)
    files = tree(net)
    text = files.file(path).data
    assert text.count(old) == 1, text.decode()
    changed = Tree.of([*(e for e in files if e.path != path), File(path, text.replace(old, new))])
    with running(net, files=changed) as mesh:
        backend(mesh, "vllm-1", 8000)
        mesh.patience = 3.0
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            check(mesh)
