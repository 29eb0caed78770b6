"""A capture on a host's bridge, and what of it goes in plain text without being listed."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from builder import build
from builder.flows import ANY
from builder.load import load
from builder.network import Network, PlainHop
from tests.integration.handle import Handle
from tests.lab import labs

_WIRE = Path(__file__).with_name("wire.py")
_PROOFS = "/.well-known/acme-challenge/"


@dataclass(frozen=True, slots=True)
class Connection:
    """One that passed; `asked` and `answered` are what was said otherwise than in TLS records."""

    source: str
    target: str
    port: int
    bytes: int
    tls: bool
    lost: bool
    asked: str
    answered: str

    @property
    def requests(self) -> list[str]:
        """The paths of HTTP requests."""
        return re.findall(r"^[A-Z]+ (\S+) HTTP/1\.[01]\r$", self.asked, re.MULTILINE)

    @property
    def redirects(self) -> bool:
        """Whether each answer leads to https, if there is one."""
        answers = re.split(r"^(?=HTTP/1\.[01] )", self.answered, flags=re.MULTILINE)
        to = re.compile(r"HTTP/1\.[01] 30[18] .*?^Location: https://", re.DOTALL | re.MULTILINE)
        return all(to.match(answer) for answer in answers if answer)


@dataclass
class Capture:
    """All connections of some time; they are there once it has ended."""

    connections: list[Connection] = field(default_factory=list)

    def between(
        self, sources: Collection[str], targets: Collection[str], port: int
    ) -> list[Connection]:
        """Those from one to another end, by their addresses, that carried something."""
        carried = (c for c in self.connections if c.bytes and c.port == port)
        return [c for c in carried if c.source in sources and c.target in targets]


@contextlib.contextmanager
def capture(host: Handle, interface: str = "vmbr0") -> Iterator[Capture]:
    """Everything that passes a bridge of the host meanwhile; nothing of it may be lost."""
    command = [*host.outside[:-1], host.lab.host, "python3", "-I", "-c", _WIRE.read_text()]
    made = Capture()
    with subprocess.Popen(
        [*command, interface], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "watching\n"
        try:
            yield made
        finally:
            process.stdin.close()
            said = process.stdout.read()
    found = json.loads(said)
    assert found["lost"] == 0, f"{found['lost']} frames were not captured"
    made.connections += [Connection(**each) for each in found["connections"]]


@dataclass(frozen=True, slots=True)
class Listed:
    """What the build lists as plain, for a network."""

    network: Network
    hops: tuple[PlainHop, ...]

    def lacks(self, connections: Iterable[Connection]) -> list[Connection]:
        """Those with something in plain text that is not on the list."""
        return [c for c in connections if not c.tls and not self._has(c)]

    def _has(self, connection: Connection) -> bool:
        kinds = {h.hop if not h.service else "asked for" for h in self._hops(connection)}
        asked = connection.requests
        if "asked for" in kinds:
            return True
        if "challenge" in kinds and asked and all(path.startswith(_PROOFS) for path in asked):
            return True
        return "redirect" in kinds and bool(asked) and connection.redirects

    def _hops(self, c: Connection) -> Iterator[PlainHop]:
        for hop in self.hops:
            there = self._at(hop.destination, c.target) and hop.port == c.port
            if there and (hop.source == ANY or self._at(hop.source, c.source)):
                yield hop

    def _at(self, name: str, address: str) -> bool:
        return address in map(str, self.network.addresses(name))


def listed(host: Handle) -> Listed:
    """What a build of what is declared lists."""
    root, name = host.up.state.project, host.lab.name
    (built,) = build.build(root, [name], None, labs.say)
    (network,) = build.derived(load(root, [name]))
    return Listed(network, built.plain)
