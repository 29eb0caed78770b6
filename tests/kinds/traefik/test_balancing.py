"""Weights, sticky sessions, health checks, and backends that die."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable

import pytest

from tests.kinds.traefik.backends import INSIDE, WEBUI, backend, one, said, served
from tests.kinds.traefik.running import Mesh, until

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]


def test_weights(reference: Mesh) -> None:
    counted = Counter(
        said(reference.ask(WEBUI, "embeddings.svc.phoenix.internal"))["server"] for _ in range(40)
    )
    assert counted == {"vllm-1": 30, "vllm-2": 10}


def test_sticky() -> None:
    with one(backends=["vllm-1", "vllm-2"], sticky={"cookie": "pin"}) as mesh:
        servers = {name: backend(mesh, name, 8000) for name in ("vllm-1", "vllm-2")}
        first = mesh.ask(WEBUI, INSIDE)
        cookie, _, attributes = first.headers["set-cookie"].partition(";")
        assert cookie.startswith("pin=")
        assert {"HttpOnly", "Secure", "SameSite=Lax"} <= set(attributes.replace(" ", "").split(";"))
        held = {
            said(mesh.ask(WEBUI, INSIDE, headers={"Cookie": cookie}))["server"] for _ in "123456"
        }
        assert held == {said(first)["server"]}
        free = {said(mesh.ask(WEBUI, INSIDE))["server"] for _ in range(6)}
        assert free == set(servers)


def test_health_takes_a_backend_out_and_back() -> None:
    health = {"path": "/up", "interval": "1s", "timeout": "1s"}
    with one(backends=["vllm-1", "vllm-2"], health=health) as mesh:
        first, second = backend(mesh, "vllm-1", 8000), backend(mesh, "vllm-2", 8000)

        def up() -> list[str]:
            services = mesh.api("rawdata")["services"]
            names = [f"s.{name}.8000@file" for name in ("vllm-1", "vllm-2")]
            return [next(iter(services[name]["serverStatus"].values())) for name in names]

        until(lambda: len(first.heads) and len(second.heads), mesh.log)
        assert first.heads[0].startswith("GET /up ")
        assert "Host: vllm-1.phoenix.internal" in first.heads[0]
        first.healthy = False
        until(lambda: up() == ["DOWN", "UP"], mesh.log)
        # A busy machine's late answer takes the other one out for a moment, too.
        until(lambda: served(mesh) == {"vllm-2"}, mesh.log)
        first.healthy = True
        until(lambda: up() == ["UP", "UP"], mesh.log)
        until(lambda: served(mesh) == {"vllm-1", "vllm-2"}, mesh.log)


def test_grpc_over_tls_is_healthy_while_it_answers() -> None:
    """Asked as a gRPC client asks, since Traefik's own gRPC check knows no TLS."""
    health = {"interval": "1s", "timeout": "1s"}
    with one(protocol="grpc", health=health) as mesh:
        server = backend(mesh, "vllm-1", 8000)

        def state() -> str:
            found = mesh.api("rawdata")["services"]["s.vllm-1.8000@file"]["serverStatus"]
            return str(next(iter(found.values())))

        until(lambda: server.heads, mesh.log)
        head = server.heads[0].lower()
        assert head.startswith("post /grpc.health.v1.health/check ")
        assert "\r\ncontent-type: application/grpc\r\n" in head
        server.healthy = False
        until(lambda: state() == "DOWN", mesh.log)
        server.healthy = True
        until(lambda: state() == "UP", mesh.log)


@pytest.mark.parametrize("protocol", ["grpc", "h2c"])
def test_plain_http2_is_checked_in_http2(protocol: str) -> None:
    plain = [{"hop": "backend", "reason": "it knows no TLS"}]
    health = {"interval": "1s", "timeout": "1s"}
    with one(protocol=protocol, plain=plain, health=health) as mesh:
        server = backend(mesh, "vllm-1", 8000, pair=None)
        until(lambda: server.heads, mesh.log)
        assert server.heads[0].startswith("PRI * HTTP/2.0")


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_dead_backend_costs_no_request(method: str) -> None:
    """Before a health check tells: what was not sent yet goes to the other one."""
    with one(backends=["vllm-1", "vllm-2"]) as mesh:
        first, _ = backend(mesh, "vllm-1", 8000), backend(mesh, "vllm-2", 8000)
        body = b"x" * 3_000_000 if method == "POST" else None
        first.stop()
        for _ in range(8):
            seen = said(mesh.ask(WEBUI, INSIDE, method=method, body=body))
            assert (seen["server"], seen["body"]) == ("vllm-2", len(body or b""))


def test_a_request_that_was_sent_is_not_sent_twice() -> None:
    """A backend that takes a request and goes: the client is told, nobody gets it again."""

    def go(_: str, stream: socket.socket) -> None:
        stream.shutdown(socket.SHUT_RDWR)

    with one(backends=["vllm-1", "vllm-2"]) as mesh:
        servers = [backend(mesh, name, 8000, script=go) for name in ("vllm-1", "vllm-2")]
        assert mesh.ask(WEBUI, INSIDE, method="POST", body=b"x").status == 502
        assert sum(len(s.heads) for s in servers) == 1


def _says(status: int) -> Callable[[str, socket.socket], None]:
    def script(head: str, stream: socket.socket) -> None:
        length = re.search(r"(?im)^content-length: (\d+)", head)
        left = int(length[1]) if length else 0
        while left:
            left -= len(stream.recv(left))
        answer = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        stream.sendall(answer.encode())

    return script


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_front_without_its_program_costs_no_request(method: str) -> None:
    """It answers 521: nobody has seen anything of the request."""
    with one(backends=["vllm-1", "vllm-2"]) as mesh:
        first = backend(mesh, "vllm-1", 8000, script=_says(521))
        backend(mesh, "vllm-2", 8000)
        body = b"x" * 3000 if method == "POST" else None
        for _ in range(8):
            seen = said(mesh.ask(WEBUI, INSIDE, method=method, body=body))
            assert (seen["server"], seen["body"]) == ("vllm-2", len(body or b""))
        assert first.heads


@pytest.mark.parametrize(("status", "profile", "size"), [(502, "web", 1), (521, "upload", 1)])
def test_what_is_not_asked_again(status: int, profile: str, size: int) -> None:
    """What a program may have done; what has a body that nobody holds."""
    with one(backends=["vllm-1", "vllm-2"], profile=profile) as mesh:
        servers = [backend(mesh, n, 8000, script=_says(status)) for n in ("vllm-1", "vllm-2")]
        assert mesh.ask(WEBUI, INSIDE, method="POST", body=b"x" * size).status == status
        assert sum(len(server.heads) for server in servers) == 1


def test_tcp_health_takes_a_backend_out_and_back() -> None:
    health = {"interval": "1s", "timeout": "1s"}
    with one(backends=["vllm-1", "vllm-2"], protocol="tcp", health=health) as mesh:

        def state(guest: str) -> str:
            found = mesh.api("rawdata")["tcpServices"][f"s.{guest}.8000@file"]["serverStatus"]
            return str(next(iter(found.values())))

        backend(mesh, "vllm-2", 8000)
        until(lambda: (state("vllm-1"), state("vllm-2")) == ("DOWN", "UP"), mesh.log)
        assert {said(mesh.ask(WEBUI, INSIDE))["server"] for _ in range(4)} == {"vllm-2"}
        backend(mesh, "vllm-1", 8000)
        until(lambda: state("vllm-1") == "UP", mesh.log)
        assert len({said(mesh.ask(WEBUI, INSIDE))["server"] for _ in range(4)}) == 2
