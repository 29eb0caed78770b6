"""The gateway with names, limits and hops of every sort, serving, and the mesh played by a stub."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass

from builder.network import Network
from tests.judges import pki
from tests.kinds.nginx import networks
from tests.kinds.nginx.networks import GATEWAY, MESH, MESH_NAME
from tests.kinds.nginx.serving import (
    Answer,
    Asked,
    Got,
    Running,
    Stub,
    ask,
    client,
    plainly,
    running,
    stub,
    tcp,
)

PLAIN, TLS, DB = 20000, 20001, 20002
CHAT, HOME, SMALL, RATED = (f"{x}.example.org" for x in ("chat", "home", "small", "rated"))
OPEN, DBASE, RPC, LATE = (f"{x}.example.org" for x in ("open", "db", "rpc", "late"))
NEAR, FAR, NEAR6 = "10.9.0.5", "10.8.0.5", "fd00:9::5"
DB_NAME = "db.svc.phoenix.internal"


def network() -> Network:
    one = {"backends": ["webui"], "port": 8000}
    reason = "a test of what goes plain"
    declared = networks.services(
        chat={**one, "profile": "llm", "expose": [CHAT, LATE]},
        webui={**one, "expose": [HOME], "limits": {"clients": ["10.9.0.0/16", "fd00:9::/32"]}},
        renders={**one, "expose": [{"name": HOME, "path": "/renders/", "strip": True}]},
        small={**one, "expose": [SMALL], "limits": {"body": "1KiB", "connections": 1}},
        rated={
            **one,
            "expose": [{"name": RATED, "path": "/v1"}],
            "limits": {"rate": "1/m", "burst": 1},
        },
        open={
            **one,
            "expose": [OPEN],
            "plain": [{"hop": hop, "reason": reason} for hop in ("outside", "mesh")],
        },
        shut={**one, "expose": [{"name": OPEN, "path": "/shut"}]},
        db={
            **one,
            "protocol": "tcp",
            "expose": [{"name": DBASE, "port": port} for port in (5432, 5433)],
            "limits": {"connections": 1},
        },
        rpc={**one, "protocol": "grpc", "expose": [RPC]},
    )
    host = networks.host()
    host["bridges"]["vmbr0"]["address6"] = "fd00::1/64"
    host["guests"]["nginx-gateway"]["address6"] = "fd00::101"
    return networks.network(declared, host)


@dataclass(slots=True)
class Gateway:
    """The gateway and the mesh behind it; the stub's answer can be changed by each test."""

    nginx: Running
    mesh: Stub
    answers: list[Answer]

    def client(self, name: str | None, **more: object) -> ssl.SSLSocket:
        return client(self.nginx.space, GATEWAY, TLS, name, **more)  # type: ignore[arg-type]

    def get(self, name: str, path: str = "/", *headers: str, **more: object) -> Got:
        with self.client(name, **more) as stream:
            return ask(stream, name, path, *headers)

    def plain(self) -> socket.socket:
        return tcp(self.nginx.space, GATEWAY, PLAIN)

    def last(self) -> Asked:
        return self.mesh.asked[-1]


@contextlib.contextmanager
def serving() -> Iterator[Gateway]:
    """The gateway with a certificate for each name but one, and the mesh's stub behind it."""
    net = network()
    names = [c.name for c in net.gateway.certificates if c.name != LATE]
    files = networks.guest(net, "nginx-gateway", certificates=names)
    with running(files) as nginx, contextlib.ExitStack() as stack:
        found = Gateway(nginx, Stub(), [])

        def answer(stream: socket.socket, asked: Asked) -> None:
            chosen = found.answers[-1] if found.answers else plainly
            chosen(stream, asked)

        pair = pki.authority().issue([MESH_NAME, DB_NAME])
        found.mesh = stack.enter_context(stub(nginx.space, MESH, 443, answer, pair=pair))
        stack.enter_context(stub(nginx.space, MESH, 8080, answer))
        yield found


@contextlib.contextmanager
def answering(gateway: Gateway, answer: Answer) -> Iterator[None]:
    gateway.answers.append(answer)
    try:
        yield
    finally:
        gateway.answers.pop()
