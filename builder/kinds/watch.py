"""What watches: for each scraper, Prometheus' configuration and Grafana's dashboard.

Both lie in `watch/` of the scraper's folder, a guest's overlay or a machine's join kit. The scrape
file is right as it stands there: the root and the mesh's name are known in that guest or machine.
Each graph asks for metrics that the mesh's Traefik tells, of services that are declared.

Of Traefik's metrics those of routers are per declared service, and those of services per backend:
a declared service is to Traefik a sum of backends, which it counts nothing of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from builder import emit
from builder.kinds.artifact import Artifact, GuestFiles
from builder.network import METRICS_PORT, Network
from builder.tree import File, Tree

KIND = "watch"
ROOT = "/opt/phoenix/current/trust/root.crt"
JOB = "phoenix"

# How far a graph looks back for each of its points, as Grafana chooses it.
_SPAN = "$__rate_interval"
_WIDTH, _HEIGHT = 24, 8

Data = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Target:
    """One line of a graph: a query, and how its series are called."""

    expr: str
    legend: str


@dataclass(frozen=True, slots=True)
class Graph:
    """A panel of the dashboard; `unit` by Grafana's names."""

    title: str
    unit: str
    targets: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """Graphs side by side, below a title."""

    title: str
    graphs: tuple[Graph, ...]


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """The files of each guest that is a scraper; a machine's are in its join kit."""
    return tuple(
        GuestFiles(KIND, member.guest.name, Tree.of(files(network)))
        for member in network.members
        if member.guest.name in network.host.scrapers
    )


def files(network: Network) -> Iterator[File]:
    """What a scraper gets."""
    yield File("watch/prometheus.yml", emit.yaml_text(scrape(network)))
    yield File("watch/dashboard.json", emit.json_text(dashboard(network)))


def scrape(network: Network) -> Data:
    """Prometheus' configuration: one target, the live slot of the mesh's Traefik."""
    labels = {"site": network.site.name, "host": network.host.name}
    return {
        "global": {"scrape_interval": "15s", "scrape_timeout": "10s"},
        "scrape_configs": [
            {
                "job_name": JOB,
                "scheme": "https",
                "metrics_path": "/metrics",
                "tls_config": {
                    "ca_file": ROOT,
                    "server_name": network.mesh.fqdn,
                    "min_version": "TLS12",
                },
                "static_configs": [
                    {"targets": [f"{network.mesh.fqdn}:{METRICS_PORT}"], "labels": labels}
                ],
            }
        ],
    }


def view(network: Network) -> tuple[Row, ...]:
    """The dashboard's rows: the mesh as a whole, then each service that it knows requests of."""
    host = f'job="{JOB}",site="{network.site.name}",host="{network.host.name}"'
    # Of tcp it counts connections alone, and not by service.
    services = [r.service for r in network.services if r.service.protocol != "tcp"]
    return (_mesh(host), *(_service(host, s.name, s.health is not None) for s in services))


def _mesh(host: str) -> Row:
    entry = f'{host},entrypoint=~"websecure|plain"'
    return Row(
        "Mesh",
        (
            Graph("Up", "short", (Target(f"up{{{host}}}", "mesh"),)),
            Graph(
                "Open connections",
                "short",
                (_sum("traefik_open_connections", entry, "entrypoint"),),
            ),
            Graph(
                "Answers with an error (5xx), all services",
                "percentunit",
                (Target(_share("traefik_entrypoint_requests_total", entry), "errors"),),
            ),
            Graph(
                "Life left of the mesh's certificate",
                "d",
                (Target(_days("traefik_tls_certs_not_after", host), "{{cn}}"),),
            ),
        ),
    )


def _service(host: str, name: str, checked: bool) -> Row:
    chosen = f'{host},service="{name}@file"'
    graphs = [
        Graph(
            "Requests",
            "reqps",
            (Target(f"sum by (code) (rate(traefik_router_requests_total{{{chosen}}}[{_SPAN}]))",
                    "{{code}}"),),
        ),
        Graph(
            "Answers with an error (5xx)",
            "percentunit",
            (Target(_share("traefik_router_requests_total", chosen), "errors"),),
        ),
        Graph(
            "Time to the end of the answer",
            "s",
            tuple(Target(_quantile(rank, chosen), f"p{rank}") for rank in (50, 99)),
        ),
    ]  # fmt: skip
    if checked:
        backends = f'{host},service=~"{name}[.].+@file"'
        up = Target(f"min by (service) (traefik_service_server_up{{{backends}}})", "{{service}}")
        graphs.append(Graph("Backends that are well", "short", (up,)))
    return Row(f"Service {name}", tuple(graphs))


def _sum(metric: str, chosen: str, label: str) -> Target:
    return Target(f"sum by ({label}) ({metric}{{{chosen}}})", f"{{{{{label}}}}}")


def _days(metric: str, chosen: str) -> str:
    """The days until a time; a renewed certificate stands beside those before it."""
    return f"(max by (cn) ({metric}{{{chosen}}}) - time()) / 86400"


def _share(metric: str, chosen: str) -> str:
    """The share of 5xx, which is 0 where there are none, and nothing where nobody asks."""
    asked = f"sum(rate({metric}{{{chosen}}}[{_SPAN}]))"
    failed = f'sum(rate({metric}{{{chosen},code=~"5.."}}[{_SPAN}]))'
    return f"({failed} or {asked} * 0) / {asked}"


def _quantile(rank: int, chosen: str) -> str:
    buckets = f"rate(traefik_router_request_duration_seconds_bucket{{{chosen}}}[{_SPAN}])"
    return f"histogram_quantile(0.{rank}, sum by (le) ({buckets}))"


# --- writing it down


def dashboard(network: Network) -> Data:
    """Grafana's model of the dashboard (its version 39, of Grafana 11), for import."""
    site, host = network.site.name, network.host.name
    source = {
        "name": "datasource",
        "label": "Prometheus",
        "type": "datasource",
        "query": "prometheus",
    }
    return {
        # The same at each import, so that a new one replaces the old.
        "uid": f"phoenix-{hashlib.sha256(f'{site}/{host}'.encode()).hexdigest()[:16]}",
        "title": f"Phoenix: {site}, {host}",
        "tags": ["phoenix"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": [source]},
        "panels": list(_panels(view(network))),
    }


def _panels(rows: Iterable[Row]) -> Iterator[Data]:
    number, y = 1, 0
    for row in rows:
        place = {"x": 0, "y": y, "w": _WIDTH, "h": 1}
        yield {"id": number, "type": "row", "title": row.title, "collapsed": False,
               "gridPos": place, "panels": []}  # fmt: skip
        width = _WIDTH // len(row.graphs)
        for i, graph in enumerate(row.graphs):
            place = {"x": i * width, "y": y + 1, "w": width, "h": _HEIGHT}
            yield {**_panel(graph), "id": number + 1 + i, "gridPos": place}
        number, y = number + 1 + len(row.graphs), y + 1 + _HEIGHT


def _panel(graph: Graph) -> Data:
    source = {"type": "prometheus", "uid": "${datasource}"}
    limits: Data = {"min": 0, "max": 1} if graph.unit == "percentunit" else {"min": 0}
    return {
        "type": "timeseries",
        "title": graph.title,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": graph.unit, **limits}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + i), "datasource": source, "expr": target.expr,
             "legendFormat": target.legend}
            for i, target in enumerate(graph.targets)
        ],
    }  # fmt: skip
