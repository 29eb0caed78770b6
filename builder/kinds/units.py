"""systemd units of every guest: hardened, ordered, and wanted where they say so themselves.

systemd finds them through a second bind of the guest's folder, and never enables anything: the
links that `systemctl enable` would make from a unit's [Install] section are made here. Of a unit
for slots, both are wanted, and phoenix-slots says by a mark in /run which of them shall run.

Users and groups are numbers, since nothing is written into a guest's /etc/passwd; systemd takes
them as they are (tried: 252, 257).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from builder import emit
from builder.kinds.artifact import Artifact, GuestFiles
from builder.network import Certificate, Member, Network
from builder.tree import Entry, File, Link, Tree

KIND = "units"

CERTIFICATES = 6100
"""Group that reads certificates' keys."""

NGINX, TRAEFIK, STEP_CA, LEGO = 6101, 6102, 6103, 6104
"""Users."""

SLOTS = ("a", "b")
# Seconds: how long one order may take (twice the limit of bin/phoenix-acme, which may try twice),
# and the bounds of the time between two looks.
_ORDER = {"webroot": 130, "standalone": 130, "dns-01": 610}
_SOONEST, _LATEST = 10, 1800

_WANTED_BY = re.compile(r"^WantedBy=(\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit with the names that its template `overlays/ROLE/units/NAME.j2` reads."""

    role: str
    name: str
    values: Mapping[str, object]


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """The units of each guest."""
    return tuple(
        GuestFiles(KIND, member.guest.name, Tree.of(_files(view(network, member))))
        for member in network.members
    )


def view(network: Network, member: Member) -> tuple[Unit, ...]:
    """The units that a guest gets: what all have, its daemon's, the ACME client's."""
    found = [Unit("common", f"phoenix-names.{kind}", {}) for kind in ("service", "path")]
    if member.daemon:
        found.append(Unit("common", "phoenix-slots.service", {"daemon": member.daemon}))
    if member.daemon == "nginx":
        found.append(Unit("common", "phoenix-nginx@.service", _nginx(network, member)))
    if member.daemon == "traefik":
        found += _traefik(member)
    if member.guest.role == "ca":
        found.append(Unit("ca", "phoenix-step-ca.service", {"user": STEP_CA}))
    ordered = tuple(c for c in member.certificates if c.files is None)
    if ordered:
        found += _acme_units(network, ordered)
        # What is to be ordered may have changed with the generation.
        found.append(Unit("acme", "phoenix-acme.path", {}))
    return tuple(found)


def _nginx(network: Network, member: Member) -> Mapping[str, object]:
    delivered = {c.name for c in member.certificates if c.files}
    names = [f"{name}.{part}" for name in sorted(delivered) for part in ("crt", "key")]
    held = {s.name for s in network.secrets if s.guest == member.guest.name}
    assert held.issuperset(names), names
    return {"user": NGINX, "certificates": CERTIFICATES, "credentials": names}


def _traefik(member: Member) -> Iterable[Unit]:
    values = {"user": TRAEFIK, "certificates": CERTIFICATES}
    yield Unit("mesh", "phoenix-traefik@.service", values)
    yield Unit("mesh", "phoenix-traefik-certificate.service", {})
    watched = {"certificate": member.certificates[0].name}
    yield Unit("mesh", "phoenix-traefik-certificate.path", watched)


def _acme_units(network: Network, certificates: tuple[Certificate, ...]) -> Iterable[Unit]:
    tokens = {
        f"{c.directory.name}.{variable}"
        for c in certificates
        if c.directory
        for variable, _ in c.directory.environment
    }
    values = {
        "user": LEGO,
        "certificates": CERTIFICATES,
        "credentials": sorted(tokens),
        "standalone": any(c.challenge == "standalone" for c in certificates),
        "limit": 60 + sum(_ORDER[c.challenge] for c in certificates),
    }
    yield Unit("acme", "phoenix-acme.service", values)
    # Eight looks within the time that is left to renew, so that seven may fail; a look costs
    # nothing, and one that a public directory refused is not to wait for hours.
    interval = min(max(_SOONEST, network.site.ca.renew // 8), _LATEST)
    timer = {"interval": interval, "spread": interval // 4}
    yield Unit("acme", "phoenix-acme.timer", timer)


def for_machine(network: Network, certificate: Certificate) -> Iterable[File]:
    """The units that a machine of the operator's own runs, without links: it enables them.

    No flips come there: it is the operator who installs a new kit.
    """
    found = [Unit("common", "phoenix-names.service", {})]
    found += _acme_units(network, (certificate,))
    for unit in found:
        yield File(f"units/{unit.name}", _rendered(unit))


def _rendered(unit: Unit) -> bytes:
    return emit.template(f"{unit.role}/units/{unit.name}.j2")(**unit.values)


def _files(units: Iterable[Unit]) -> Iterable[Entry]:
    for unit in units:
        data = _rendered(unit)
        yield File(f"units/{unit.name}", data)
        for target in _WANTED_BY.findall(data.decode()):
            for name in _instances(unit.name):
                yield Link(f"units/{target}.wants/{name}", f"../{unit.name}")


def _instances(name: str) -> Iterable[str]:
    return [name.replace("@.", f"@{slot}.") for slot in SLOTS] if "@." in name else [name]
