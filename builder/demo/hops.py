"""The way of a request, hop by hop: each asked by who makes it, verified as that one verifies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from builder.network import CA_PORT, Exposed, Network, Routed

from .stage import ROOT, Stage

_TLS = 443
# Who connects verifies the chain to the site's root, and the name.
_ASK = """
import json, socket, ssl, sys, time
address, port, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(cafile="/opt/phoenix/current/trust/root.crt")
try:
    with socket.create_connection((address, port), 5) as link:
        with context.wrap_socket(link, server_hostname=name) as found:
            left = ssl.cert_time_to_seconds(found.getpeercert()["notAfter"]) - time.time()
            print(json.dumps({"tls": found.version(), "left": left}))
except OSError as error:
    print(json.dumps({"why": str(error)}))
"""


@dataclass(frozen=True, slots=True)
class Hop:
    """One hop as it was found: who connects to whom, by which certificate's name; `why` is empty
    where chain and name were verified."""

    source: str
    target: str
    name: str
    tls: str
    left: float
    why: str

    def __str__(self) -> str:
        mark = "✗" if self.why else "✓"
        good = f"{self.tls}, {self.name}, certificate good for {self.left / 3600:.0f} h more"
        return f"  {mark} {self.source} → {self.target}: {self.why or good}"


def way(stage: Stage, network: Network, exposed: Exposed) -> Iterator[Hop]:
    """The hops of a request for an exposed name, the client's first."""
    yield _outside(stage, network, exposed.name)
    routed = next(r for r in network.services if r.service.name == exposed.service.name)
    yield from _inside(stage, network, routed)


def authority(stage: Stage, network: Network) -> Iterator[Hop]:
    """The hop of each guest to the certificate authority."""
    ca = network.ca.guest
    address = str(network.addresses(ca.name)[0])
    for member in network.members:
        if member.guest.name != ca.name:
            source = f"{member.guest.id} {member.guest.name}"
            yield _asked(stage, member.guest.id, source, f"{ca.id} {ca.name}", address, CA_PORT,
                         network.fqdn(ca.name))  # fmt: skip


def _inside(stage: Stage, network: Network, routed: Routed) -> Iterator[Hop]:
    gateway, mesh = network.gateway.guest, network.mesh.guest
    yield _asked(stage, gateway.id, f"{gateway.id} {gateway.name}", f"{mesh.id} {mesh.name}",
                 str(network.addresses(mesh.name)[0]), _TLS, network.fqdn(mesh.name))  # fmt: skip
    for backend in routed.backends:
        if backend.server_name and any(m.guest.name == backend.name for m in network.members):
            yield _asked(stage, mesh.id, f"{mesh.id} {mesh.name}", backend.name,
                         str(backend.address), backend.port, backend.server_name)  # fmt: skip


def _asked(
    stage: Stage, number: int, source: str, target: str, address: str, port: int, name: str
) -> Hop:
    said = stage.inside(number, "python3", "-I", "-c", _ASK, address, str(port), name)
    return _found(source, target, name, *said)


def _outside(stage: Stage, network: Network, name: str) -> Hop:
    gateway = network.gateway.guest
    address = str(stage.up.lab.address)
    script = _ASK.replace("/opt/phoenix/current/trust/root.crt", ROOT)
    said = stage.client("python3", "-I", "-c", script, address, str(_TLS), name)
    return _found("client", f"{gateway.id} {gateway.name}", name, *said)


def _found(source: str, target: str, name: str, code: int, out: str, err: str) -> Hop:
    """The hop, by how _ASK ended and what it said."""
    found = json.loads(out) if code == 0 else {"why": (err or out).strip() or f"exit {code}"}
    tls, left = str(found.get("tls", "")), float(found.get("left", 0))
    return Hop(source, target, name, tls, left, str(found.get("why", "")))
