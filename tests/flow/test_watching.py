"""A network that is watched: logs with one id, metrics for who may read them, and `status`."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from builder.deploy import hops
from builder.network import METRICS_PORT
from tests.flow import watched
from tests.flow.stage import Flow, flow
from tests.flow.watched import Scraper, nginx, raw, traefik, untraced
from tests.integration.handle import until
from tests.judges import prometheus

pytestmark = [pytest.mark.long(3), pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen")]
METRICS = f"https://mesh.phoenix.internal:{METRICS_PORT}/metrics"


def hostile(name: str, path: bytes) -> bytes:
    """A request whose client says what it likes, in whatever bytes."""
    return b"\r\n".join(
        [
            b"GET " + path + b"?key=secret7 HTTP/1.1",
            b"Host: " + name.encode(),
            b"X-Request-Id: theirs",
            b'User-Agent: \xff\xfe"}, {"id":"theirs"',
            b"Connection: close",
            b"",
            b"",
        ]
    )


def logged(made: Flow, request: str) -> list[str]:
    """The logs that lack a request through gateway, mesh and the front of `page`."""
    logs = {"gateway": nginx(made, "gateway"), "mesh": traefik(made), "front": nginx(made, "one")}
    return untraced(request, logs)


def one_id_in_all_logs(made: Flow) -> None:
    """Made by the gateway, told to the client; whatever is asked, lines are JSON, without keys."""
    for path in (b"/", b"/%ff%22", b"/\xc3\x28"):
        request = raw(made, "page.example.org", hostile("page.example.org", path))["x-request-id"]
        assert len(request) == 32
        until(lambda r=request: not logged(made, r), "the id is in all logs", limit=20)
    every = [*nginx(made, "gateway"), *traefik(made), *nginx(made, "one")]
    assert "theirs" not in [line["id"] for line in every]
    assert "secret7" not in json.dumps(every)


def a_call_from_inside_has_one_too(made: Flow) -> None:
    """Made by the front; the mesh logs it as that told it. One of the caller's own goes on."""
    for words, given in (((), ""), (("--header", "X-Request-Id: mine-1"), "mine-1")):
        url = "https://chat.svc.phoenix.internal/"
        got = made.inside("monitor", "ask", "get", "--url", url, *words)
        (request,) = got["headers"]["X-Request-Id"]
        assert given in ("", request)

        def traced(request: str = request) -> bool:
            fronts = nginx(made, "one")
            return not untraced(request, {"mesh": traefik(made), "front": fronts})

        until(traced, "the id is in both logs", limit=20)


def a_front_that_drops_the_id_is_seen(made: Flow) -> None:
    """The twin: the same look at a front that makes an id of its own."""
    number = made.number("one")
    current = made.host.guest(number, "readlink", "-f", "/opt/phoenix/current").strip()
    place = f"{current}/nginx/http.conf"
    twin = f"sed 's/$http_x_request_id;/$request_id;/' {place} >/tmp/twin && mount --bind /tmp/twin"
    made.host.guest(number, "sh", "-c", f"{twin} {place}; chmod 644 /tmp/twin")
    try:
        made.host.guest(number, "sh", "-c", "systemctl reload 'phoenix-nginx@*'")
        count = itertools.count()

        def dropped() -> bool:
            path = f"/twin-{next(count)}"
            asked = hostile("page.example.org", path.encode())
            request = raw(made, "page.example.org", asked)["x-request-id"]
            logs = (nginx, "gateway"), (nginx, "one")
            until(
                lambda: all(path in [x["path"] for x in look(made, name)] for look, name in logs),
                "both have logged it",
                limit=20,
            )
            return {"gateway", "mesh"} <= {*logged(made, request)}

        until(dropped, "the front drops the id", limit=40, pause=1)
    finally:
        made.host.guest(number, "umount", place)
        made.host.guest(number, "sh", "-c", "systemctl reload 'phoenix-nginx@*'")


def prometheus_reads_and_the_dashboard_shows(made: Flow) -> None:
    """By the files as they were made; each graph of it has something to show."""
    scraper = Scraper(made)
    scraper.start()
    board = json.loads(scraper.file("dashboard.json"))
    exprs = [t["expr"] for panel in board["panels"] for t in panel.get("targets", ())]

    def empty() -> list[str]:
        made.outside("ask", "get", "--url", "https://chat.example.org/")
        made.outside("ask", "get", "--url", "https://page.example.org/")
        return [expr for expr in exprs if not scraper.asked(expr)]

    until(lambda: not empty(), "each graph shows something", limit=200, pause=2)
    assert scraper.asked("up") == [1]
    (days,) = (e for e in exprs if "not_after" in e)
    assert 0 < scraper.asked(days)[0] <= 7
    assert scraper.asked("no_such_metric") == []


def failed(found: dict[str, Any]) -> dict[tuple[str, int], int]:
    """How many requests failed of late, by service and guest."""
    counts: dict[tuple[str, int], int] = {}
    for rate in found["rates"]:
        key = (rate["service"], rate["guest"])
        counts[key] = counts.get(key, 0) + rate["failed"]
    return counts


def errors_are_counted(made: Flow) -> None:
    """A program that is down: in `status`, of each hop, and in the graph of its service."""
    scraper, before = Scraper(made), failed(made.host.status())
    made.host.guest(made.number("one"), "systemctl", "stop", "try-page")
    statuses = [
        made.outside("ask", "get", "--url", "https://page.example.org/")["status"]
        for _ in range(20)
    ]
    assert statuses == [521] * 20
    board = json.loads(scraper.file("dashboard.json"))
    (row,) = (i for i, p in enumerate(board["panels"]) if p["title"] == "Service page")
    share = board["panels"][row + 2]["targets"][0]["expr"]

    def rising() -> bool:
        made.outside("ask", "get", "--url", "https://page.example.org/")
        return any(value > 0.5 for value in scraper.asked(share))

    until(rising, "the graph shows the errors", limit=90, pause=2)
    made.host.guest(made.number("one"), "systemctl", "start", "try-page")
    made.answers()
    found = made.host.status()
    after = failed(found)
    for guest in (101, 111):
        assert after["page", guest] >= before.get(("page", guest), 0) + 20
        # Of programs that were not there yet, and none of late.
        assert after["chat", guest] <= before["chat", guest]
    table = hops.table(found)
    print("\n".join(table))
    for ends, name in (("uplink → gateway", "page.example.org"), ("mesh → one", "page")):
        (line,) = (x for x in table if x.startswith(f"  {ends} ") and f" {name} " in x)
        assert all(part in line for part in (" yes ", " 6 d ", " %)")), line


def reads(made: Flow, guest: str) -> str:
    """What a scrape of a guest comes to: 200, another status, or why none came."""
    made.equip(made.number(guest))
    got = made.inside(guest, "ask", "get", "--url", METRICS)
    return str(got["status"] or got["why"])


def nobody_else_reads(made: Flow) -> None:
    """By the firewall; and were that open, by Traefik."""
    assert reads(made, "monitor") == "200"
    got = made.inside("monitor", "ask", "get", "--url", METRICS)
    assert {name for name, _, _ in prometheus.samples(got["body"])} >= {"traefik_open_connections"}
    plain = made.inside("monitor", "ask", "get", "--url", METRICS.replace("https", "http"))
    assert plain["status"] != 200, plain
    assert "traefik_" not in plain.get("body", "")
    for address in (made.host.gateway(), str(made.network.mesh.guest.address)):
        assert watched.outside(made, address, METRICS_PORT) != "open"
    assert not {reads(made, "one"), reads(made, "gateway")} & {"200", "404"}
    made.host.sh(f"nft insert rule inet phoenix_guests judge tcp dport {METRICS_PORT} accept")
    try:
        assert reads(made, "one") == "404"
    finally:
        made.host.sh("systemctl reload-or-restart phoenix-firewall")


def a_scraper_that_is_declared_reads(made: Flow) -> None:
    """After a deploy; and Prometheus goes on, with the slot that is live now."""
    scraper = Scraper(made)
    live = ("/opt/phoenix/current/bin/phoenix-slots", "live")
    slot = made.host.guest(102, *live)
    (before,) = scraper.asked("process_start_time_seconds")
    made.host.edit(made.host.host, "[monitor]", "[monitor, one]")
    made.host.deploy()
    assert made.host.guest(102, *live) != slot
    assert reads(made, "one") == "200"
    files = made.host.guest(made.number("one"), "ls", "/opt/phoenix/current/watch").split()
    assert files == ["dashboard.json", "prometheus.yml"]
    until(
        lambda: scraper.asked("process_start_time_seconds > " + str(before)),
        "Prometheus reads the slot that is live",
        limit=60,
    )


def test_watching() -> None:
    """One lab; what a step leaves, the next finds."""
    with flow(watched.SITE, watched.host) as made:
        one_id_in_all_logs(made)
        a_call_from_inside_has_one_too(made)
        a_front_that_drops_the_id_is_seen(made)
        prometheus_reads_and_the_dashboard_shows(made)
        errors_are_counted(made)
        nobody_else_reads(made)
        a_scraper_that_is_declared_reads(made)
