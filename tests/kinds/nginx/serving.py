"""nginx serving in a space, and the ends that it talks to, played by the test."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.judges import nginx, pki, programs
from tests.judges.guest import GENERATION, Guest
from tests.judges.namespace import Daemon, Entry, Space
from tests.judges.rootfs import USERS

OWNER = USERS["nginx"]
LOG = "/var/log/phoenix-nginx/access.json"
FOLDERS = ("/var/log/phoenix-nginx", "/run/phoenix-nginx-a", "/run/phoenix-nginx-b")
PATIENCE = 5.0
CLOSED = (EOFError, ConnectionResetError)
_AT = f"{GENERATION}/programs/nginx"


@dataclass(frozen=True, slots=True)
class Running:
    """A running nginx and the space that it runs in."""

    space: Space
    daemon: Daemon

    def lines(self, name: str, value: object, least: int = 1) -> list[dict[str, object]]:
        """The lines of the access log where `name` is `value`, each read as JSON; so many are
        awaited. Opened anew, nginx writes out what it holds."""
        self.space.signal(self.daemon, signal.SIGUSR1)
        found: list[dict[str, object]] = []

        def there() -> bool:
            whole, _, _ = (self.space.read(LOG) or b"").rpartition(b"\n")
            read = [json.loads(line) for line in whole.decode().splitlines()]
            found[:] = [line for line in read if line[name] == value]
            return len(found) >= least

        comes(there)
        return found

    def drain(self) -> None:
        self.space.write([Entry("/run/phoenix-nginx-a/drain", b"")])

    def put(self, files: dict[str, bytes]) -> None:
        """Certificates, as the ACME client leaves them."""
        self.space.write([Entry(path, data, 0o640, OWNER) for path, data in files.items()])


def comes(holds: Callable[[], bool], patience: float = PATIENCE) -> bool:
    """Whether it becomes true in time."""
    deadline = time.monotonic() + patience
    while not (found := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return found


@contextlib.contextmanager
def running(files: Guest, slot: str = "a") -> Iterator[Running]:
    """One slot of nginx, started as its unit does it."""
    files = nginx.guest(files)
    with Space(binds=files.binds()) as space:
        files.enter(space, nginx.USER)
        space.folders(FOLDERS, OWNER)
        space.own_all_addresses()
        prefix = f"/var/lib/phoenix/slots/nginx/{slot}"
        daemon = space.start(
            [f"{prefix}/programs/nginx/usr/sbin/nginx", "-p", f"{prefix}/",
             "-c", f"nginx/{slot}.conf", "-e", "stderr"],
            environment=programs.environment("nginx", _AT),
            user=OWNER,
        )  # fmt: skip
        loaded = files.text(f"nginx/{slot}.conf")
        ports = {
            int(word.removeprefix("[::]:"))
            for line in loaded.splitlines()
            if line.strip().startswith("listen ")
            for word in [line.split()[1].rstrip(";")]
        }
        space.await_ports(daemon, sorted(ports))
        yield Running(space, daemon)


@dataclass(slots=True)
class Asked:
    """A request that reached a stub; names of headers in lower case, each with all its values."""

    method: str
    target: str
    headers: dict[str, list[str]]
    body: bytes = b""

    def header(self, name: str) -> str | None:
        values = self.headers.get(name, [])
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None


Answer = Callable[[socket.socket, Asked], None]


@dataclass(slots=True)
class Stub:
    """A server of ours in a space: what it was asked, and the names of the handshakes."""

    asked: list[Asked] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    connections: int = 0


@contextlib.contextmanager
def stub(
    space: Space,
    address: str,
    port: int,
    answer: Answer,
    *,
    pair: pki.Pair | None = None,
    raw: Callable[[socket.socket], None] | None = None,
    alpn: tuple[str, ...] = ("http/1.1",),
) -> Iterator[Stub]:
    """A stub that serves HTTP/1.1 by `answer`, or whatever `raw` does with a connection."""
    found = Stub()
    context = None if pair is None else server_context(pair, found, alpn)
    listening = space.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((address, port))
    listening.listen(64)

    def one(stream: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError), stream:
            stream.settimeout(PATIENCE)
            if context is not None:
                stream = context.wrap_socket(stream, server_side=True)
            if raw is not None:
                raw(stream)
                return
            reader = Reader(stream)
            while (asked := reader.request(found)) is not None:
                answer(stream, asked)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                stream, _ = listening.accept()
                found.connections += 1
                threading.Thread(target=one, args=[stream], daemon=True).start()

    listening.settimeout(None)
    threading.Thread(target=accept, daemon=True).start()
    try:
        yield found
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()


def server_context(pair: pki.Pair, found: Stub, alpn: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(list(alpn))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.write_bytes(pair.key + pair.certificate)
        context.load_cert_chain(path)

    def seen(_: ssl.SSLObject | ssl.SSLSocket, name: str | None, __: ssl.SSLContext) -> None:
        found.names.append(name)

    context.sni_callback = seen
    return context


class Reader:
    """Reads HTTP/1.1 messages off a stream."""

    def __init__(self, stream: socket.socket) -> None:
        self.stream, self.rest = stream, b""

    def _more(self) -> None:
        data = self.stream.recv(65536)
        if not data:
            raise EOFError
        self.rest += data

    def until(self, mark: bytes) -> bytes:
        while mark not in self.rest:
            self._more()
        found, _, self.rest = self.rest.partition(mark)
        return found

    def exactly(self, size: int) -> bytes:
        while len(self.rest) < size:
            self._more()
        found, self.rest = self.rest[:size], self.rest[size:]
        return found

    def head(self) -> tuple[str, dict[str, list[str]]]:
        """The first line, and the headers."""
        first, *lines = self.until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        headers: dict[str, list[str]] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        return first, headers

    def body(self, headers: dict[str, list[str]]) -> bytes:
        if headers.get("transfer-encoding") == ["chunked"]:
            found = b""
            while size := int(self.until(b"\r\n"), 16):
                found += self.exactly(size)
                self.until(b"\r\n")
            self.until(b"\r\n")
            return found
        return self.exactly(int(headers.get("content-length", ["0"])[0]))

    def request(self, found: Stub) -> Asked | None:
        """The next request, noted in `found` as soon as its head is there; None at the end."""
        try:
            first, headers = self.head()
        except EOFError:
            return None
        method, target, _ = first.split(" ")
        asked = Asked(method, target, headers)
        found.asked.append(asked)
        asked.body = self.body(headers)
        return asked


def plainly(stream: socket.socket, asked: Asked) -> None:
    """An answer with what was asked."""
    body = asked.target.encode()
    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def shout(stream: socket.socket) -> None:
    """Whatever comes goes back in upper case: a tcp program."""
    while data := stream.recv(100):
        stream.sendall(data.upper())


def client(
    space: Space,
    address: str,
    port: int,
    name: str | None,
    *,
    alpn: tuple[str, ...] = ("http/1.1",),
    source: str = "",
) -> ssl.SSLSocket:
    """A TLS connection to `name` (None: no name in the handshake), verified by the root."""
    context = ssl.create_default_context(cadata=pki.authority().root.decode())
    context.set_alpn_protocols(list(alpn))
    if name is None:
        context.check_hostname = False
    plain = tcp(space, address, port, source)
    try:
        return context.wrap_socket(plain, server_hostname=name)
    except BaseException:
        plain.close()
        raise


def tcp(space: Space, address: str, port: int, source: str = "") -> socket.socket:
    """A TCP connection, from the address `source` where it is given."""
    made = space.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    made.settimeout(PATIENCE)
    if source:
        made.bind((source, 0))
    made.connect((address, port))
    return made


def send(
    stream: socket.socket,
    host: str,
    path: str = "/",
    *headers: str,
    method: str = "GET",
    body: bytes = b"",
) -> None:
    """One request."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    stream.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)


@dataclass(frozen=True, slots=True)
class Got:
    status: int
    headers: dict[str, list[str]]
    body: bytes


def receive(stream: socket.socket) -> Got:
    """One answer; EOFError where the connection ends instead."""
    reader = Reader(stream)
    first, headers = reader.head()
    return Got(int(first.split(" ")[1]), headers, reader.body(headers))


def ask(stream: socket.socket, *asked: str, method: str = "GET", body: bytes = b"") -> Got:
    """A request, as `send` takes it, and its answer."""
    send(stream, *asked, method=method, body=body)
    return receive(stream)
