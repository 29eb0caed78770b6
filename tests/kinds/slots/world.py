"""A service guest with its front in two slots, really running, and clients outside of it."""

from __future__ import annotations

import ctypes
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

from builder.network import Network
from tests.judges import pki
from tests.kinds.traefik.running import documents, network
from tests.kinds.units import lab
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine

SCRIPT = "/opt/phoenix/current/bin/phoenix-slots"
HERE = "10.0.0.114"
STATE, RUN = "/var/lib/phoenix/slots", "/run/phoenix-slots"
PUBLIC, SLOT_A, SLOT_B = 8080, 20001, 21001
NAME = "webui.phoenix.internal"

# Answers with its name to whatever it is asked, on the wildcard, as a careless program does.
PROGRAM = """
import http.server, socketserver, socket
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b"program"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 1024
    daemon_threads = True
Server(("::", 8080), Handler).serve_forever()
"""


def net() -> Network:
    """The reference with IPv6, and one service behind the front of `webui`."""
    site, hosts = documents()
    host = hosts["pve1"]
    host["bridges"]["vmbr0"]["address6"] = "fd00::1/64"
    host["guests"]["webui"]["address6"] = "fd00::114"
    service = {"backends": ["webui"], "port": PUBLIC, "inside": True}
    return network({**site, "services": {"webui": service}, "certificates": {}}, host)


def program(guest: Machine) -> None:
    """Start the program behind the front."""
    guest.write("/srv/program.py", PROGRAM)
    unit = "[Service]\nExecStart=/usr/bin/python3 /srv/program.py\n"
    guest.write("/run/systemd/system/program.service", unit)
    guest.must("systemctl", "start", "program.service")


def certificate(guest: Machine, name: str) -> None:
    """Put a certificate where the ACME client would."""
    pair, folder = pki.authority().issue([name]), f"/var/lib/phoenix/certificates/{name}"
    guest.write(f"{folder}/certificate.pem", pair.certificate.decode())
    guest.write(f"{folder}/key.pem", pair.key.decode())
    guest.shell(f"chgrp -R phoenix-certs {folder}; chmod 750 {folder}; chmod 640 {folder}/*")


@contextmanager
def front() -> Iterator[tuple[Lab, Machine]]:
    """The lab with the guest `webui`, its program and its certificate."""
    with lab.running(net(), ("webui",)) as found:
        guest = found.guests["webui"]
        # There is no CA here.
        guest.must("systemctl", "stop", "phoenix-acme.timer", "phoenix-acme.path", "phoenix-acme")
        certificate(guest, NAME)
        program(guest)
        guest.until(lambda: "program" in found.ask("webui", NAME, port=PUBLIC))
        yield found, guest


def nft(guest: Machine, *arguments: str) -> str:
    """The guest's own nft."""
    tools = "/opt/phoenix/current/programs/nftables/usr"
    library = f"LD_LIBRARY_PATH={tools}/lib/x86_64-linux-gnu"
    return guest.must("env", library, f"{tools}/sbin/nft", *arguments)


def leads(guest: Machine) -> str:
    """The slot to which the rules in force lead."""
    loaded = nft(guest, "list", "table", "inet", "phoenix_slots")
    (found,) = (slot for slot in "ab" if f"map live_{slot} " in loaded)
    return found


def do(guest: Machine, *words: str) -> str:
    return guest.must(SCRIPT, *words)


def started(guest: Machine, slot: str) -> None:
    """Start a slot and wait until its port is listened on."""
    do(guest, "start", slot)
    port = {"a": SLOT_A, "b": SLOT_B}[slot]
    guest.until(lambda: f":{port} " in guest.must("ss", "-Hltn"))


opened: list[ssl.SSLSocket] = []


def connection(lab: Lab) -> ssl.SSLSocket:
    """A kept connection of a client outside."""
    context = ssl.create_default_context(cadata=pki.authority().root.decode())
    with within(lab):
        made = socket.create_connection((HERE, PUBLIC), timeout=10)
    opened.append(context.wrap_socket(made, server_hostname=NAME))
    return opened[-1]


class within:  # noqa: N801
    """Sockets made in here belong to the clients' network."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def __enter__(self) -> None:
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.back = open("/proc/self/ns/net")
        with open(f"/proc/{self.lab.holder}/ns/net") as there:
            assert self.libc.setns(there.fileno(), 0x40000000) == 0

    def __exit__(self, *_: object) -> None:
        assert self.libc.setns(self.back.fileno(), 0x40000000) == 0
        self.back.close()


def ask(kept: ssl.SSLSocket) -> str:
    kept.sendall(f"GET / HTTP/1.1\r\nHost: {NAME}\r\n\r\n".encode())
    found = b""
    while b"program" not in found:
        data = kept.recv(9999)
        assert data, "closed"
        found += data
    return found.decode()
