"""Traefik run for real on a network's mesh files, with backends and clients around it.

All addresses of the network lead to the space itself, so a client calls from any guest's address,
and a backend listens on its own.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from builder import declare, inherit
from builder.derive import derive
from builder.kinds import traefik
from builder.kinds.artifact import GuestFiles
from builder.network import API_PORTS, Network, Trust
from builder.source import read
from builder.tree import Tree
from tests.judges import pki
from tests.judges.guest import GENERATION, STATE, Guest
from tests.judges.http import Response
from tests.judges.namespace import TIMEOUT, Daemon, Entry, Space

CONFIGS = Path(__file__).parents[3] / "configs"
USER = 6102
Data = dict[str, Any]


def documents() -> tuple[Data, dict[str, Data]]:
    """The reference site, and its hosts by name."""
    hosts = {p.stem: _read(p) for p in sorted((CONFIGS / "hosts").glob("*.yaml"))}
    return _read(CONFIGS / "site.yaml"), hosts


def _read(path: Path) -> Data:
    data = read(path.name, path.read_bytes())
    assert isinstance(data, dict)
    return data


def network(site: Data | None = None, host: Data | str = "pve1") -> Network:
    """The network of these documents; left out, those of the reference."""
    reference, hosts = documents()
    whole = inherit.whole(host, hosts) if isinstance(host, str) else host
    authority = pki.authority()
    trust = Trust(authority.root, authority.intermediate)
    return derive(declare.site(site or reference), declare.host(whole), trust)


def site(**services: Data) -> Data:
    """A site with these services only."""
    reference, _ = documents()
    return {"site": "t", "domain": reference["domain"], "dns": ["9.9.9.9"], "services": services}


def tree(net: Network) -> Tree:
    (found,) = traefik.artifacts(net)
    assert isinstance(found, GuestFiles)
    assert found.guest == net.mesh.guest.name
    return found.tree


def data(files: Tree, path: str) -> Data:
    """A YAML file of a tree, by a reader that is not ours."""
    loaded = yaml.safe_load(files.file(path).data)
    assert isinstance(loaded, dict)
    return loaded


class Mesh:
    """Slot a of the mesh of `net`, running."""

    def __init__(self, space: Space, guest: Guest, net: Network) -> None:
        self.space, self.guest, self.net = space, guest, net
        self.daemon: Daemon | None = None
        self.patience, self.slot = TIMEOUT, "a"

    def start(self, slot: str = "a") -> None:
        self.slot = slot
        argv = [
            f"{STATE}/slots/traefik/{slot}/programs/traefik/traefik",
            f"--configfile={STATE}/slots/traefik/{slot}/traefik/{slot}.yaml",
        ]
        self.daemon = self.space.start(argv, user=USER)
        self.space.await_ports(self.daemon, [API_PORTS[slot]])
        until(
            lambda: self.api("rawdata").get("routers", {}).get("api@file"), self.log, self.patience
        )

    def log(self) -> str:
        assert self.daemon
        return self.space.log(self.daemon)

    def faults(self) -> list[str]:
        """Lines of the log that tell of an error."""
        return [line for line in self.log().splitlines() if '"level":"error"' in line]

    def api(self, path: str) -> Data:
        connection = http.client.HTTPConnection("127.0.0.1", 1)
        connection.sock = self.space.connect("127.0.0.1", API_PORTS[self.slot])
        with contextlib.closing(connection):
            connection.request("GET", f"/api/{path}")
            answer = connection.getresponse().read()
        try:
            found = json.loads(answer)
        except ValueError:
            return {}
        assert isinstance(found, dict)
        return found

    def reread(self) -> None:
        """SIGHUP; Traefik waits 0.1 s for further ones, so await what is to come of it."""
        assert self.daemon
        self.space.signal(self.daemon, signal.SIGHUP)

    def connect(self, source: str, port: int = 20000) -> socket.socket:
        """A connection from a guest's (or any) address to the mesh."""
        mesh = str(self.net.mesh.guest.address)
        made = self.space.socket()
        made.bind((source, 0))
        made.connect((mesh, port))
        return made

    def tls(self, source: str, name: str, root: bytes | None = None) -> ssl.SSLSocket:
        """A TLS connection on which the mesh has proven to be `name`."""
        context = ssl.create_default_context(cadata=(root or pki.authority().root).decode())
        context.set_alpn_protocols(["http/1.1"])
        return context.wrap_socket(self.connect(source), server_hostname=name)

    def ask(
        self,
        source: str,
        host: str,
        path: str = "/",
        *,
        sni: str = "",
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        port: int = 20000,
        plain: bool = False,
    ) -> Response:
        """One request of `source`; `sni` is the name in the handshake, where it is not `host`."""
        connection = http.client.HTTPConnection(host, port)
        stream = self.connect(source, port) if plain else self.tls(source, sni or host)
        connection.sock = stream
        with contextlib.closing(stream), contextlib.closing(connection):
            connection.putrequest(method, path, skip_host=True)
            connection.putheader("Host", host)
            for key, value in (headers or {}).items():
                connection.putheader(key, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            answer = connection.getresponse()
            found = {key.lower(): value for key, value in answer.getheaders()}
            return Response(answer.status, found, answer.read())

    def outside(self, host: str, path: str = "/", **more: Any) -> Response:
        """As the gateway asks: by the mesh's own name, for an exposed one."""
        gateway = str(self.net.gateway.guest.address)
        return self.ask(gateway, host, path, sni=self.net.mesh.fqdn, **more)


@contextlib.contextmanager
def running(
    net: Network,
    *,
    files: Tree | None = None,
    debug: bool = False,
    certificate: bool = True,
    start: bool = True,
    state: Mapping[str, bytes] | None = None,
) -> Iterator[Mesh]:
    """The mesh of `net` with a certificate of the judges' authority."""
    authority, whole = pki.authority(), files or tree(net)
    added = {f"{GENERATION}/trust/root.crt": authority.root, **(state or {})}
    if debug:
        text = whole.file("traefik/a.yaml").data.replace(b'level: "INFO"', b'level: "DEBUG"')
        added[f"{GENERATION}/traefik/a.yaml"] = text
    if certificate:
        added |= mesh_certificate(net)
    guest = Guest(whole, state=added, programs=["traefik"])
    with Space(binds=guest.binds()) as space:
        space.own_all_addresses()
        guest.enter(space, "traefik")
        mesh = Mesh(space, guest, net)
        if start:
            mesh.start()
        yield mesh


def mesh_certificate(net: Network) -> dict[str, bytes]:
    (one,) = net.mesh.certificates
    pair = pki.authority().issue(one.names)
    folder = f"{STATE}/certificates/{one.name}"
    return {f"{folder}/certificate.pem": pair.certificate, f"{folder}/key.pem": pair.key}


def put(space: Space, files: Mapping[str, bytes]) -> None:
    """Write state of the mesh guest later than at its start."""
    space.write([Entry(path, content, 0o640, USER) for path, content in files.items()])


class Server:
    """A backend with TLS (or, without `pair`, plain), which answers what it was asked.

    `script` takes the request's head as text and the connection, and writes the answer itself.
    """

    def __init__(
        self,
        space: Space,
        address: str,
        port: int,
        pair: pki.Pair | None,
        *,
        name: str = "",
        script: Callable[[str, socket.socket], None] | None = None,
        alpn: tuple[str, ...] = ("http/1.1",),
    ) -> None:
        self.name, self.script = name or address, script
        self.alpn: list[str | None] = []
        self.heads: list[str] = []
        self.healthy = True
        self.context = None if pair is None else _context(pair, alpn)
        self.listening = space.socket()
        self.listening.settimeout(None)
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listening.bind((address, port))
        self.listening.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()

    def _accept(self) -> None:
        while True:
            try:
                stream, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=[stream], daemon=True).start()

    def _one(self, stream: socket.socket) -> None:
        with contextlib.suppress(OSError):
            stream.settimeout(30)
            if self.context:
                made = self.context.wrap_socket(stream, server_side=True)
                self.alpn.append(made.selected_alpn_protocol())
                stream = made
            while self._answer(stream):
                pass
        stream.close()

    def _answer(self, stream: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            got = stream.recv(1)
            # A client that speaks TLS to a plain backend is told at once.
            if not got or (not head and got == b"\x16"):
                return False
            head += got
        text = head.decode("latin-1")
        self.heads.append(text)
        if self.script:
            self.script(text, stream)
            return False
        length = re.search(r"(?i)^content-length: (\d+)", text, re.MULTILINE)
        left = int(length[1]) if length else 0
        size = left
        while left:
            taken = len(stream.recv(min(left, 1 << 16)))
            if not taken:
                return False
            left -= taken
        fields = dict(line.split(": ", 1) for line in text.split("\r\n")[1:] if ": " in line)
        body = {"server": self.name, "line": text.split("\r\n")[0], "headers": fields, "body": size}
        answer = json.dumps(body).encode()
        status = "200 OK" if self.healthy else "503 Service Unavailable"
        stream.sendall(
            f"HTTP/1.1 {status}\r\nContent-Length: {len(answer)}\r\n\r\n".encode() + answer
        )
        return True


def _context(pair: pki.Pair, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile() as both:
        both.write(pair.certificate + pair.key)
        both.flush()
        context.load_cert_chain(both.name)
    context.set_alpn_protocols(list(alpn))
    return context


def until(
    holds: Callable[[], object], log: Callable[[], str] = str, timeout: float = TIMEOUT
) -> None:
    """Wait for what comes by itself; fails with the log where it does not."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, log()[-6000:]
        time.sleep(0.05)
