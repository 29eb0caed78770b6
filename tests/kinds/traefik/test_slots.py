"""Two slots beside each other, draining, and the API on loopback."""

from __future__ import annotations

import ssl

import pytest

from builder.kinds import traefik
from tests.kinds.traefik.backends import HEAD_ENDS, INSIDE, WEBUI, backend, one, read_until, said
from tests.kinds.traefik.running import Mesh, until

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]


def test_slot_b_runs_beside_slot_a(reference: Mesh) -> None:
    other = Mesh(reference.space, reference.guest, reference.net)
    other.start("b")
    assert set(other.api("rawdata")["routers"]) == set(reference.api("rawdata")["routers"])
    said(other.outside("chat.example.org", port=21000))
    said(reference.outside("chat.example.org"))


def test_draining_lets_clients_go_and_loses_nothing() -> None:
    with one() as mesh:
        backend(mesh, "vllm-1", 8000)
        with mesh.tls(WEBUI, INSIDE) as stream:
            assert b"Connection: close" not in again(stream)
            assert b"Connection: close" not in again(stream)
            target = f"/opt/phoenix/1/{traefik.DRAINING}"
            link = "/var/lib/phoenix/slots/traefik/a"
            mesh.space.must(["ln", "-sfn", target, link])
            mesh.reread()
            until(
                lambda: (
                    "customResponseHeaders"
                    in mesh.api("rawdata")["middlewares"]["slot@file"]["headers"]
                ),
                mesh.log,
            )
            assert b"Connection: close" in again(stream)
            assert stream.recv(1) == b""
        said(mesh.ask(WEBUI, INSIDE))


def again(stream: ssl.SSLSocket) -> bytes:
    """One more request on a kept connection; the answer's head."""
    stream.sendall(f"GET / HTTP/1.1\r\nHost: {INSIDE}\r\n\r\n".encode())
    got = read_until(stream, HEAD_ENDS)
    length = int(got.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
    while length:
        more = len(stream.recv(length))
        assert more
        length -= more
    assert got.startswith(b"HTTP/1.1 200 ")
    return got


def test_api_ping_and_metrics_on_loopback_alone(reference: Mesh) -> None:
    for path in ("/ping", "/metrics", "/api/rawdata"):
        done = reference.space.run(
            ["python3", "-c", "import sys, urllib.request as u; u.urlopen(sys.argv[1])",
             f"http://127.0.0.1:20900{path}"]
        )  # fmt: skip
        assert done.code == 0, done.err
    with pytest.raises(ConnectionRefusedError):
        reference.space.connect(str(reference.net.mesh.guest.address), 20900)
