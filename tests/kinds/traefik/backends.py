"""The reference's guests as callers and as backends with TLS of their own."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from tests.judges import pki
from tests.judges.http import Response
from tests.kinds.traefik.running import Mesh, Server, network, running, site

GATEWAY, VLLM1, VLLM2, QDRANT, WEBUI, WORKSTATION = (
    f"10.0.0.{number}" for number in (101, 111, 112, 113, 114, 201)
)
GUESTS = {"vllm-1": VLLM1, "vllm-2": VLLM2, "qdrant": QDRANT, "webui": WEBUI}
Data = dict[str, Any]
PATIENCE = 20.0
"""Seconds for what comes at once where the machine is not busy."""


def own(guest: str) -> pki.Pair:
    """The certificate that a guest has by its own name."""
    return pki.authority().issue([f"{guest}.phoenix.internal"])


def backend(mesh: Mesh, guest: str, port: int, **more: Any) -> Server:
    address = {**GUESTS, "workstation": WORKSTATION}[guest]
    return Server(mesh.space, address, port, more.pop("pair", own(guest)), name=guest, **more)


def said(response: Response) -> Data:
    assert response.status == 200, response
    found = json.loads(response.body)
    assert isinstance(found, dict)
    return found


@contextlib.contextmanager
def one(**service: Any) -> Iterator[Mesh]:
    """A mesh with a service `s`, for all guests unless it says otherwise."""
    whole = {"backends": ["vllm-1"], "port": 8000, "inside": True, **service}
    with running(network(site(s=whole))) as mesh:
        yield mesh


INSIDE = "s.svc.phoenix.internal"


def served(mesh: Mesh) -> set[str]:
    """Who answers, of six requests; "" for one that nobody does."""
    answers = [mesh.ask(WEBUI, INSIDE) for _ in range(6)]
    return {said(each)["server"] if each.status == 200 else "" for each in answers}


def read_until(stream: socket.socket, end: bytes) -> bytes:
    """What comes, up to and with `end`, byte by byte; fails where it ends before."""
    stream.settimeout(PATIENCE)
    got = b""
    while end not in got:
        more = stream.recv(1)
        assert more, got
        got += more
    return got


HEAD_ENDS = b"\r\n\r\n"
