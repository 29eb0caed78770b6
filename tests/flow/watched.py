"""What a whole flow leaves to be watched: lines of logs, and a scraper with a real Prometheus."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from typing import Any

from builder.lab.shape import Lab
from tests.flow import described
from tests.flow.stage import Flow
from tests.judges import programs

Line = dict[str, Any]
GUESTS = """\
  one: {id: 111, address: NET.111GATEWAY}
  monitor: {id: 112, address: NET.112GATEWAY}
"""
SITE = """\
site: phoenix
domain: phoenix.internal
dns: [198.18.255.53]
services:
  chat:
    backends: [one]
    port: 8000
    profile: llm
    health: {path: /health, interval: 3s, timeout: 3s}
    expose: [chat.example.org]
    inside: true
  page:
    backends: [one]
    port: 8004
    expose: [page.example.org]
"""
_MAPPED = 100000
# A client without manners: what it is given, it sends, byte by byte, and shows the answer.
_RAW = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/root.crt")
name, address, text = sys.argv[1:]
with socket.create_connection((address, 443), timeout=20) as plain:
    with context.wrap_socket(plain, server_hostname=name) as stream:
        stream.sendall(bytes.fromhex(text))
        while data := stream.recv(65536):
            sys.stdout.write(data.decode("latin-1"))
"""


def host(lab: Lab) -> str:
    """The description of a lab's host, with a guest that may scrape."""
    return described.described.host(lab, GUESTS) + "watch: {scrapers: [monitor]}\n"


def raw(flow: Flow, name: str, request: bytes) -> dict[str, str]:
    """The headers of what is answered to a client outside that sends just these bytes."""
    code, said = flow.host.client.run(
        "python3", "-c", _RAW, name, flow.host.gateway(), request.hex()
    )
    assert code == 0, said
    head = said.partition("\r\n\r\n")[0].split("\r\n")
    print(head)
    return {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:])}


def nginx(flow: Flow, guest: str) -> list[Line]:
    """The lines of a guest's nginx; each must be JSON in UTF-8."""
    path = flow.root(flow.number(guest)) / "var/log/phoenix-nginx/access.json"
    return [json.loads(line.decode()) for line in path.read_bytes().splitlines()]


def traefik(flow: Flow) -> list[Line]:
    """The lines of the mesh's access log, by the names that nginx gives what they tell."""
    said = flow.host.guest(
        flow.number("mesh"), "journalctl", "--unit=phoenix-traefik@*", "--output=cat", "--no-pager"
    )
    lines = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    return [
        {**line, "id": line.get("request_X-Request-Id") or line.get("origin_X-Request-Id"),
         "path": line["RequestPath"]}
        for line in lines
        if "RequestPath" in line
    ]  # fmt: skip


def untraced(request: str, logs: dict[str, Iterable[Line]]) -> list[str]:
    """The logs in which no line, or more than one, bears this id."""
    return [name for name, lines in logs.items() if [x["id"] for x in lines].count(request) != 1]


class Scraper:
    """A Prometheus in the guest `monitor`, started on the file that was made for it."""

    def __init__(self, flow: Flow) -> None:
        self.flow, self.number = flow, flow.number("monitor")
        folder = programs.folder("prometheus") / "usr/bin"
        for name in ("prometheus", "promtool"):
            place = flow.root(self.number) / "usr/local/bin" / name
            if not place.exists():
                shutil.copy(folder / name, place)
                os.chown(place, _MAPPED, _MAPPED)

    def start(self) -> None:
        self.inside(
            "systemd-run", "--unit=watcher", "prometheus", "--storage.tsdb.path=/var/tmp/watcher",
            "--config.file=/opt/phoenix/current/watch/prometheus.yml",
            "--web.listen-address=127.0.0.1:9090",
        )  # fmt: skip

    def inside(self, *command: str) -> str:
        return self.flow.host.guest(self.number, *command)

    def file(self, name: str) -> bytes:
        """A file of those that were made for it."""
        return self.inside("cat", f"/opt/phoenix/current/watch/{name}").encode()

    def asked(self, expr: str) -> list[float]:
        """The values of what a query finds; none while Prometheus is not ready."""
        try:
            said = self.inside(
                "promtool", "query", "instant", "--format=json", "http://127.0.0.1:9090",
                expr.replace("$__rate_interval", "1m"),
            )  # fmt: skip
        except AssertionError:
            return []
        found = json.loads(said or "[]")
        return [float(each["value"][1]) for each in found]


def outside(flow: Flow, address: str, port: int) -> str:
    """What becomes of a connection of a client in the LAN: "open", or why it is not."""
    program = (
        "import socket, sys\n"
        "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), 2)\n"
        "except OSError as error: print(error)\n"
        "else: print('open')\n"
    )
    code, said = flow.host.client.run("python3", "-c", program, address, str(port))
    assert code == 0, said
    return said.strip()
