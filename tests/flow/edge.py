"""The host whose hops, listeners and names are tried: each kind of hop once, two families of
addresses, and a guest that serves nothing and calls."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator
from typing import Any

from builder.lab.shape import Lab
from tests.integration.handle import Handle, handle, until

CHAT, PAIR, STORE = "chat.example.org", "pair.svc.phoenix.internal", "store.example.org"
STORE_PORT = 5432
GATEWAY, MESH, CA, ONE, TWO, WEB = 101, 102, 103, 111, 112, 113
GUESTS = {GATEWAY: "gateway", MESH: "mesh", CA: "ca", ONE: "one", TWO: "two", WEB: "web"}
NET, NET6, LAN6 = "10.0.0", "fd00:10", "fd00:198"

SITE = """\
site: phoenix
domain: phoenix.internal
dns: [198.18.255.53]
ca: {lifetime: 1h}
services:
  chat:
    backends: [one]
    port: 8000
    health: {path: /health, interval: 3s, timeout: 3s}
    expose: [chat.example.org]
    inside: true
    grace: 15s
    limits: {rate: 1000/s, burst: 1000}
  pair:
    backends: [one, two]
    port: 8001
    health: {path: /health, interval: 3s, timeout: 3s}
    inside: {callers: [web]}
  store:
    backends: [two]
    port: 8002
    protocol: tcp
    expose: [{name: store.example.org, port: 5432}]
"""
_HOST = """\
host: HOST
platform: {kind: lxc}
reach: root@ADDRESS
ingress: {ipv6: true}
bridges:
  vmbr0:
    address: NET.1/24
    address6: SIX::1/64
    uplink:
      interface: eth0
      address: ADDRESS/24
      gateway: ROUTER
      address6: OUTER::10/64
      gateway6: OUTER::1
defaults: {template: debian-12.tar, restart: allow}
guests:
"""


def host(lab: Lab) -> str:
    """The description of a lab's host."""
    text = _HOST.replace("HOST", lab.name).replace("ADDRESS", str(lab.address))
    text = text.replace("ROUTER", str(lab.router)).replace("NET", NET)
    text = text.replace("SIX", NET6).replace("OUTER", LAN6)
    for number, name in GUESTS.items():
        role = f", role: {name}" if number < ONE else ""
        text += f"  {name}: {{id: {number}{role}, address: {NET}.{number}, "
        text += f"address6: '{NET6}::{number}'}}\n"
    return text


def six(made: Handle) -> None:
    """Give the LAN's router and client IPv6, which Docker gives them none of."""
    for container, number, routes in (
        (made.lab.lan, 1, ()),
        (made.client.id, 20, (NET6 + "::/64",)),
    ):
        found = made.up.engine.inspected(container)
        assert found is not None
        steps = [
            "echo 0 >/proc/sys/net/ipv6/conf/all/disable_ipv6",
            "echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6",
            f"ip -6 address replace {LAN6}::{number}/64 dev eth0 nodad",
            *(f"ip -6 route replace {route} via {LAN6}::10" for route in routes),
        ]
        # From outside, since what Docker runs may not write there.
        net = f"--net=/proc/{found['State']['Pid']}/ns/net"
        subprocess.run(["nsenter", net, "sh", "-ec", "\n".join(steps)], check=True)


PROGRAM = """
import http.server, json, socketserver, sys, threading
service, guest, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
class Web(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps({"service": service, "guest": guest}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(f"{service} {guest} ".encode() + line)
class Server(socketserver.ThreadingTCPServer):
    request_queue_size, allow_reuse_address, daemon_threads = 128, True, True
Server(("127.0.0.1", port), Echo if service == "store" else Web).serve_forever()
"""
"""A program behind a front: it says who answers, in JSON or (store) line by line."""


def programs(made: Handle) -> None:
    """Start the programs of all services in their guests."""
    for service, guest, port in (
        ("chat", ONE, 8000), ("pair", ONE, 8001), ("pair", TWO, 8001), ("store", TWO, 8002)
    ):  # fmt: skip
        words = ["python3", "-I", "-c", PROGRAM, service, GUESTS[guest], str(port)]
        made.guest(guest, "systemd-run", "--quiet", f"--unit=try-{service}", *words)


def at(guest: int) -> frozenset[str]:
    """A guest's addresses."""
    return frozenset({f"{NET}.{guest}", f"{NET6}::{guest}"})


@contextlib.contextmanager
def edge() -> Iterator[Handle]:
    """A lab of its own with all of it on it, that answers."""
    with handle("lab", SITE, host, alone=True) as made:
        six(made)
        made.deploy()
        programs(made)
        until(lambda: outside(made) == (200, "one"), "the first answer")
        yield made


def outside(made: Handle) -> tuple[int, str]:
    """A client's request for `chat`: its status (0 for no answer) and who answered."""
    return _read(made.client.run(*curl(made)))


def curl(made: Handle, *more: str, url: str = f"https://{CHAT}/") -> list[str]:
    """A client's command that asks for something, and prints body and status."""
    names = [f"{CHAT}:{port}:{made.lab.address}" for port in (80, 443)]
    return [
        *("curl", "--silent", "--max-time", "20", "--cacert", "/root.crt", "--write-out"),
        *("\n%{http_code}", *(word for name in names for word in ("--resolve", name)), *more, url),
    ]


INSIDE = """
import json, sys, urllib.error, urllib.request
try:
    with urllib.request.urlopen(sys.argv[1], timeout=20) as found:
        print(found.read().decode(), found.status, sep="\\n")
except urllib.error.HTTPError as error:
    print(error.read().decode(), error.code, sep="\\n")
except OSError as error:
    print(error, 0, sep="\\n")
"""
"""Asks for an URL as any program of a guest does, and prints body and status."""


def inside(made: Handle, guest: int, url: str) -> tuple[int, str]:
    """The same for a request of a guest's program."""
    return _read((0, made.guest(guest, "python3", "-I", "-c", INSIDE, url)))


def _read(said: tuple[int, str]) -> tuple[int, str]:
    body, _, status = said[1].strip().rpartition("\n")
    with contextlib.suppress(ValueError):
        found: dict[str, Any] = json.loads(body)
        return int(status), str(found.get("guest", body))
    return int(status), body.strip()


STREAM = """
import socket, ssl, sys
context = ssl.create_default_context(cafile="/root.crt")
said = b""
try:
    with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as link:
        with context.wrap_socket(link, server_hostname=sys.argv[3]) as stream:
            stream.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
            while b"HTTP" not in said and (found := stream.recv(4096)):
                said += found
except OSError:
    pass
print(said.decode(errors="replace"))
"""


def stream(made: Handle) -> str:
    """What comes back over a connection of a client to `store`."""
    where = [str(made.lab.address), str(STORE_PORT), STORE]
    return made.client.run("python3", "-I", "-c", STREAM, *where)[1].strip()
