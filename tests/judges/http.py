"""Requests from within a space's network, by the standard library's own client."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Mapping
from dataclasses import dataclass

from tests.judges.namespace import Space


@dataclass(frozen=True, slots=True)
class Response:
    """Status, headers (names in lower case, the last of several) and body."""

    status: int
    headers: dict[str, str]
    body: bytes


def request(
    space: Space,
    address: str,
    port: int,
    path: str = "/",
    *,
    method: str = "GET",
    host: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    trust: bytes | None = None,
) -> Response:
    """Ask `address`:`port`; over TLS verified by the root certificate `trust` where it is given.

    `host` is the name asked for, also in the handshake. Raises what http.client and ssl raise.
    """
    name = host or address
    connection = http.client.HTTPConnection(name, port)
    stream = space.connect(address, port)
    try:
        if trust is not None:
            context = ssl.create_default_context(cadata=trust.decode())
            stream = context.wrap_socket(stream, server_hostname=name)
        connection.sock = stream
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        found = {key.lower(): value for key, value in answer.getheaders()}
        return Response(answer.status, found, answer.read())
    finally:
        connection.close()
        stream.close()
