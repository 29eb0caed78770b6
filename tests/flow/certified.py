"""A small network whose certificates are looked at: what is installed, what is served, what status
says of it, and what runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from cryptography import x509

from builder.lab.shape import Lab
from tests.flow.stage import Flow
from tests.integration import described
from tests.integration.handle import Handle, until

SITE = """\
site: phoenix
domain: phoenix.internal
dns: [198.18.255.53]
ca: {lifetime: LIFETIME, renew: RENEW}
services:
  chat:
    backends: [one, two]
    port: 8000
    profile: llm
    health: {path: /health, interval: 5s}
    expose: [chat.example.org]
    inside: true
    limits: {rate: 1000/s, burst: 1000}
"""
_GUESTS = """\
  one: {id: 111, address: NET.111GATEWAY}
  two: {id: 112, address: NET.112GATEWAY}
  web: {id: 113, address: NET.113GATEWAY}
"""
# Prints the leaf that is served, whoever signed it.
_SERVED = """
import socket, ssl, sys
address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl._create_unverified_context()
with socket.create_connection((address, port), 20) as link:
    with context.wrap_socket(link, server_hostname=name) as found:
        print(ssl.DER_cert_to_PEM_cert(found.getpeercert(True)))
"""
CHAT = "https://chat.example.org"
CALL = "https://chat.svc.phoenix.internal"


def site(lifetime: str = "7d", renew: str = "56h") -> str:
    """The description of the site, with certificates that live for so long."""
    return SITE.replace("LIFETIME", lifetime).replace("RENEW", renew)


def host(lab: Lab) -> str:
    """The description of a lab's host."""
    return described.host(lab, _GUESTS)


@dataclass(frozen=True, slots=True)
class Holder:
    """A guest that keeps a certificate, where that is served, and the guest that asks there."""

    guest: int
    name: str
    address: str
    port: int
    asker: int


GATEWAY = Holder(101, "chat.example.org", "10.0.0.101", 443, 113)
MESH = Holder(102, "mesh.phoenix.internal", "10.0.0.102", 443, 101)
ONE = Holder(111, "one.phoenix.internal", "10.0.0.111", 8000, 102)
TWO = Holder(112, "two.phoenix.internal", "10.0.0.112", 8000, 102)
HOLDERS = (GATEWAY, MESH, ONE, TWO)
CA = 103


def folder(flow: Flow, holder: Holder) -> Path:
    """Where a holder's pair is, as it is seen from here."""
    return flow.root(holder.guest) / "var/lib/phoenix/certificates" / holder.name


def installed(flow: Flow, holder: Holder) -> x509.Certificate | None:
    """The leaf that is installed; None where there is none."""
    try:
        data = (folder(flow, holder) / "certificate.pem").read_bytes()
    except FileNotFoundError:
        return None
    return x509.load_pem_x509_certificates(data)[0]


def served(host: Handle, holder: Holder) -> x509.Certificate:
    """The leaf that is served to who asks there."""
    where = (holder.address, str(holder.port), holder.name)
    text = host.guest(holder.asker, "python3", "-I", "-c", _SERVED, *where)
    return x509.load_pem_x509_certificate(text.encode())


def await_served(flow: Flow, holder: Holder) -> None:
    """Await that what is served is what is installed."""
    what = f"guest {holder.guest} serves what is installed"
    until(lambda: served(flow.host, holder) == installed(flow, holder), what, 60)


def faults(host: Handle, about: str) -> list[str]:
    """What status says of something."""
    return [each for each in host.status()["faults"] if about in each]


def await_fault(host: Handle, *words: str, limit: float = 180) -> str:
    """Await that status says something that has all of these words in it; what it says."""
    said: list[str] = []

    def found() -> bool:
        said[:] = [each for each in host.status()["faults"] if all(w in each for w in words)]
        return bool(said)

    until(found, f"status says: {' … '.join(words)}", limit, pause=1)
    return said[0]


def await_well(host: Handle, limit: float = 180) -> None:
    """Await that status has nothing to say."""
    until(lambda: host.status()["faults"] == [], "all is well again", limit, pause=1)


_PROCESSES = """
cd /sys/fs/cgroup/system.slice
for each in */phoenix-nginx@* */phoenix-traefik@*; do
    [ -d "$each" ] || continue
    echo "$(basename "$each")"
    for process in $(cat "$each/cgroup.procs"); do
        echo "$process $(cat /proc/$process/comm)"
    done
done
"""


def processes(host: Handle, guest: int) -> dict[str, list[int]]:
    """The processes of a guest's slotted daemon, by its units: one that reads its files anew by a
    reload or a switch has others."""
    found: dict[str, list[int]] = {}
    for line in host.guest(guest, "sh", "-c", _PROCESSES).splitlines():
        first, _, name = line.partition(" ")
        if not name:
            found[first] = []
        elif name in ("nginx", "traefik"):  # and not what sends it a signal
            found[list(found)[-1]].append(int(first))
    return found


class Watch:
    """Counts how often certificates were replaced."""

    def __init__(self, flow: Flow, holders: tuple[Holder, ...] = HOLDERS) -> None:
        self._flow = flow
        self.seen: dict[Holder, list[x509.Certificate]] = {each: [] for each in holders}
        self.look()

    def look(self) -> None:
        """Note what is installed now."""
        for holder, seen in self.seen.items():
            found = installed(self._flow, holder)
            if found is not None and found not in seen:
                seen.append(found)

    def renewed(self, holder: Holder) -> int:
        """How often another certificate came since the beginning."""
        return len(self.seen[holder]) - 1

    def await_renewed(self, times: int, *holders: Holder, limit: float = 240) -> None:
        """Await that each of these was renewed so often."""

        def done() -> bool:
            self.look()
            return all(self.renewed(each) >= times for each in holders)

        until(done, f"{[each.guest for each in holders]} renewed {times} times", limit)

    def tells(self) -> dict[int, int]:
        """How often each was renewed, by its guest."""
        return {each.guest: self.renewed(each) for each in self.seen}


def good(found: dict[str, Any]) -> None:
    """A load's counts, of which nothing may be lost."""
    print(json.dumps(found))
    assert (found["failed"], found["truncated"], found["retried"]) == (0, 0, 0), found
    assert found["answered"] == found["asked"] > 10, found


def loads(flow: Flow) -> Iterator[Any]:
    """Clients that go on: outside on new and on kept connections, GET and POST, and a guest that
    calls the service through the mesh."""
    calm = ("--pause", "200ms")
    start = partial(flow.started, "load")
    yield start("--url", CHAT, "--kind", "kept", "--method", "POST", *calm)
    yield start("--url", CHAT, "--kind", "new", *calm)
    yield start("--url", CALL, "--kind", "kept", *calm, inside="web")
    yield start("--url", CALL, "--kind", "new", "--method", "POST", *calm, inside="web")
