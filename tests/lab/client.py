"""A client in a lab's LAN, as a container of its own, by testcontainers."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from builder.lab import image
from builder.lab.engine import LABEL, Engine
from builder.lab.up import Up
from tests.lab.inside import Inside

# Its reaper is an image from a registry; the label lets lab.down take the client away instead.
os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"

from testcontainers.core.container import DockerContainer

_ECHO = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5) as link:
    for word in sys.argv[3:]:
        link.sendall(word.encode())
        print(link.recv(len(word), socket.MSG_WAITALL).decode())
"""


class Client:
    """Programs that run in the LAN."""

    def __init__(self, container: DockerContainer, engine: Engine) -> None:
        self._container = container
        self.inside = Inside(engine, self.id)

    @property
    def id(self) -> str:
        """The container's, for whoever runs a program there that goes on."""
        found: str = self._container.get_wrapped_container().id
        return found

    def run(self, *command: str) -> tuple[int, str]:
        """A command's exit code, and what it printed."""
        code, out, _ = self.inside.run(*command, merged=True)
        return code, out

    def echoed(self, address: object, port: int, *words: str) -> list[str]:
        """What comes back for each word, over one connection."""
        code, out = self.run("python3", "-c", _ECHO, str(address), str(port), *words)
        assert code == 0, out
        return out.split()


@contextlib.contextmanager
def client(up: Up) -> Iterator[Client]:
    """A client that has the LAN's router as its own."""
    where = {"environment": up.engine.environment}
    lab = up.lab
    made = DockerContainer(image.name(), docker_client_kw=where).with_command("sleep infinity")
    made.with_kwargs(
        network=lab.docker_network, labels={LABEL: lab.name}, cap_add=["NET_ADMIN"], init=True
    )
    with made as container:
        found = Client(container, up.engine)
        code, out = found.run("ip", "route", "replace", "default", "via", str(lab.router))
        assert code == 0, out
        try:
            yield found
        finally:
            found.inside.close()
