"""Asks a guest's daemon from inside of its network: the slots' own ports are closed to others.

What it takes to ask is dear to load, and most transactions ask nobody.
"""

from __future__ import annotations

import os
from collections.abc import Callable

_NEWNET = 0x40000000
_LIMIT = 5.0
Enter = Callable[[], None]
"""Has the calling process be in a network; raises OSError."""


def closed(process: int, ports: tuple[int, ...]) -> str | None:
    """Why one of these ports takes no connection in the network that `process` is in, or None."""
    return _inside(process, lambda: _connect(ports))


def silent(process: int, port: str, path: str) -> str | None:
    """Why a daemon in the network that `process` is in does not answer this with 200, or None."""
    return _inside(process, lambda: _get(int(port), path))


def _get(port: int, path: str) -> str | None:
    import http.client

    asked = http.client.HTTPConnection("127.0.0.1", port, timeout=_LIMIT)
    try:
        asked.request("GET", path)
        status = asked.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"port {port}: {error}"
    finally:
        asked.close()
    return None if status == 200 else f"port {port} answers {path} with {status}"


def _connect(ports: tuple[int, ...]) -> str | None:
    import socket

    for port in ports:
        try:
            with socket.create_connection(("127.0.0.1", port), _LIMIT):
                pass
        except OSError as error:
            return f"port {port}: {error.strerror or error}"
    return None


def _inside(process: int, ask: Callable[[], str | None]) -> str | None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            in_network_of(process)()
            os.write(write, (ask() or "").encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read().decode()
    _, result = os.waitpid(child, 0)
    return (said or None) if result == 0 else "its network can't be entered"


def in_network_of(process: int) -> Enter:
    """The network that a process is in."""

    def enter() -> None:
        import ctypes

        handle = os.open(f"/proc/{process}/ns/net", os.O_RDONLY)
        # os.setns is there only from Python 3.12 on.
        if ctypes.CDLL(None).setns(handle, _NEWNET) != 0:
            raise OSError("setns")

    return enter
