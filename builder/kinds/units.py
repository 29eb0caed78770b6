"""systemd units of every guest: hardened, ordered, and wanted where they say so themselves.

systemd finds them through a second bind of the guest's folder, and never enables anything: the
links that `systemctl enable` would make from a unit's [Install] section are made here. Of a unit
for slots, both are wanted, and phoenix-slots says by a mark in /run which of them shall run.

Each daemon has a user of its own, with the same number in every guest. systemd (tried: 252, 257)
runs nothing under a number without an entry in /etc/passwd, so phoenix-users makes entries.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds.artifact import Artifact, GuestFiles
from builder.network import Certificate, Member, Network
from builder.tree import Entry, File, Link, Tree

KIND = "units"


@dataclass(frozen=True, slots=True)
class Account:
    """A user with a group of the same name, or a group alone."""

    name: str
    number: int


CERTIFICATES = Account("phoenix-certs", 6100)
"""The group that reads certificates' keys."""

NGINX = Account("phoenix-nginx", 6101)
TRAEFIK = Account("phoenix-traefik", 6102)
STEP_CA = Account("phoenix-step-ca", 6103)
LEGO = Account("phoenix-lego", 6104)

SLOTS = ("a", "b")
_REREAD = "phoenix-traefik-certificate.service"
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
        GuestFiles(KIND, member.guest.name, Tree.of(_files(network, member)))
        for member in network.members
    )


def view(network: Network, member: Member) -> tuple[Unit, ...]:
    """The units that a guest gets: what all have, its daemon's, the ACME client's."""
    found = _names()
    if member.programs:
        found.append(_users())
    if member.daemon:
        found.append(Unit("common", "phoenix-slots.service", {"daemon": member.daemon}))
    if member.daemon == "nginx":
        found.append(Unit("common", "phoenix-nginx@.service", _nginx(network, member)))
        found.append(Unit("common", "phoenix-nginx-logs.service", {"user": NGINX.name}))
        found.append(Unit("common", "phoenix-nginx-logs.timer", {}))
    if member.daemon == "traefik":
        found += _traefik()
    if member.guest.role == "ca":
        found.append(Unit("ca", "phoenix-step-ca.service", {"user": STEP_CA.name}))
        found += [Unit("ca", f"phoenix-step-ca-clock.{kind}", {}) for kind in ("service", "timer")]
    ordered = tuple(c for c in member.certificates if c.files is None)
    if ordered:
        found += _acme_units(network, ordered, member.daemon)
        # What is to be ordered may have changed with the generation.
        found.append(Unit("acme", "phoenix-acme.path", {}))
    return tuple(found)


def _names() -> list[Unit]:
    return [Unit("common", f"phoenix-names.{kind}", {}) for kind in ("service", "path", "timer")]


def _users() -> Unit:
    return Unit("common", "phoenix-users.service", {})


def users() -> File:
    """What phoenix-users makes; all, since a guest's part may change."""
    values = {"group": CERTIFICATES, "users": (NGINX, TRAEFIK, STEP_CA, LEGO)}
    return File("users/sysusers.conf", emit.template("common/users/sysusers.conf.j2")(**values))


def _nginx(network: Network, member: Member) -> Mapping[str, object]:
    delivered = {c.name for c in member.certificates if c.files}
    names = [f"{name}.{part}" for name in sorted(delivered) for part in ("crt", "key")]
    held = {s.name for s in network.secrets if s.guest == member.guest.name}
    assert held.issuperset(names), names
    return {"user": NGINX.name, "certificates": CERTIFICATES.name, "credentials": names}


def _traefik() -> Iterable[Unit]:
    values = {"user": TRAEFIK.name, "certificates": CERTIFICATES.name}
    yield Unit("mesh", "phoenix-traefik@.service", values)
    yield Unit("mesh", _REREAD, {})


def _acme_units(
    network: Network, certificates: tuple[Certificate, ...], daemon: str = ""
) -> Iterable[Unit]:
    """The ACME client's units beside this slotted daemon."""
    tokens = {
        f"{c.directory.name}.{variable}"
        for c in certificates
        if c.directory
        for variable, _ in c.directory.environment
    }
    values = {
        "user": LEGO.name,
        "certificates": CERTIFICATES.name,
        "credentials": sorted(tokens),
        "standalone": any(c.challenge == "standalone" for c in certificates),
        # nginx reads a certificate at each handshake, Traefik when it is told to.
        "after": _REREAD if daemon == "traefik" else "",
        "nginx": daemon == "nginx",
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

    No flips come there, so its client has no path unit: it is the operator who installs a new kit.
    """
    yield users()
    for unit in (*_names(), _users(), *_acme_units(network, (certificate,))):
        yield File(f"units/{unit.name}", _rendered(unit))


def _rendered(unit: Unit) -> bytes:
    return emit.template(f"{unit.role}/units/{unit.name}.j2")(**unit.values)


def _files(network: Network, member: Member) -> Iterable[Entry]:
    if member.programs:
        yield users()
    if member.daemon == "nginx":
        yield File("bin/phoenix-logs", fixed("common/bin/phoenix-logs"), 0o755)
    for unit in view(network, member):
        data = _rendered(unit)
        yield File(f"units/{unit.name}", data)
        for target in _WANTED_BY.findall(data.decode()):
            for name in _instances(unit.name):
                yield Link(f"units/{target}.wants/{name}", f"../{unit.name}")


def _instances(name: str) -> Iterable[str]:
    return [name.replace("@.", f"@{slot}.") for slot in SLOTS] if "@." in name else [name]
