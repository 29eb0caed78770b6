"""What status says of slots and certificates inside of guests."""

from __future__ import annotations

import datetime
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from builder.host import report, seen
from builder.host.platforms import Platform
from builder.host.release import Release
from builder.host.seen import Certificate, Daemon
from builder.host.transaction import Limits, activate
from tests.host.making import SYSCTL, Stage, released

NOW = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=30)
DAY = 24 * 3600


def _pem(begins: int, ends: int) -> str:
    """A certificate that is good from `begins` to `ends`, in days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.internal")])
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    first, last = (NOW + datetime.timedelta(days=each) for each in (begins, ends))
    signed = made.not_valid_before(first).not_valid_after(last).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


@dataclass
class Guest:
    """Says what a guest's shell would."""

    said: str

    def all(self) -> dict[int, bool]:
        return {101: True, 102: False}

    def inside(self, _guest: int, *_command: str, limit: float = 60) -> tuple[int, str]:
        return 0, self.said


def _look(said: str) -> tuple[tuple[Daemon, ...], tuple[Certificate, ...]]:
    place: Platform = Guest(said)  # type: ignore[assignment]
    return seen.look(place, 101)[:2]


@pytest.mark.parametrize(
    ("changed", "current"),
    [("", True), ("names/hosts", True), ("units/phoenix-names.service", True),
     ("traefik/b.yaml", False), ("programs/traefik/traefik", False), ("slots/b.nft", False),
     ("units/phoenix-traefik@.service", False)],
)  # fmt: skip
def test_slots(changed: str, current: bool, tmp_path: Path):
    """A daemon is as its guest's folder says where what it reads is the same in both."""
    files = (
        "names/hosts", "traefik/b.yaml", "programs/traefik/traefik", "slots/b.nft",
        "units/phoenix-names.service", "units/phoenix-traefik@.service",
    )  # fmt: skip
    for folder in ("ab", "cd"):
        for name in files:
            path = tmp_path / "phoenix" / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("other" if (folder, name) == ("cd", changed) else "same")
    (tmp_path / "phoenix/current").symlink_to("cd")
    slots = tmp_path / "slots/traefik"
    slots.mkdir(parents=True)
    (tmp_path / "slots/live").write_text("b\n")
    (slots / "b").symlink_to(tmp_path / "phoenix/ab")
    script = seen.SCRIPT.replace("/var/lib/phoenix/slots", str(tmp_path / "slots"))
    script = script.replace("/opt/phoenix", str(tmp_path / "phoenix"))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    daemons, _ = _look(done.stdout)
    assert daemons == (Daemon(101, "traefik", "b", current),)
    assert [*seen.faults("g", daemons, ())] == (
        [] if current else ["guest 101 (g): traefik runs from a folder of before"]
    )


ORDER = "order a.internal RENEW ca.internal:9000 "


@pytest.mark.parametrize(
    ("begins", "ends", "order", "said"),
    [
        (-10, 90, "30", ""),
        (-60, 40, "30", ""),
        (-76, 24, "30", ""),
        (-80, 20, "30", "ends at DATE, and was not renewed"),
        # Due when little is left, as it is declared.
        (-80, 20, "5", ""),
        (-97, 3, "5", "ends at DATE, and was not renewed"),
        # Of a public directory, a third.
        (-74, 26, "0", ""),
        (-76, 24, "0", "ends at DATE, and was not renewed"),
        # Delivered.
        (-80, 20, "", ""),
        (-90, 10, "", "ends at DATE, and was not renewed"),
        (-80, -1, "30", "ended at DATE"),
        (1, 90, "30", "is not valid until DATE"),
    ],
)
def test_certificates(begins: int, ends: int, order: str, said: str):
    lines = ORDER.replace("RENEW", str(int(order) * DAY)) + "\n" if order else ""
    _, (held,) = _look(f"{lines}certificate a.internal\n{_pem(begins, ends)}{_pem(0, 900)}")
    assert (held.name, held.life) == ("a.internal", (ends - begins) * DAY)
    # The whole run of the tests may take hours.
    assert abs(held.left - ends * DAY) < DAY / 2
    told = [*seen.faults("g", (), (held,))]
    when = NOW + datetime.timedelta(days=begins if begins > 0 else ends)
    said = said.replace("DATE", f"{when:%Y-%m-%d %H:%M} UTC")
    has = f"guest 101 (g) has a certificate of a.internal that {said}"
    assert told == ([has] if said else [])


def test_what_a_guest_waits_for():
    """That there is no certificate yet, and why; also of one that is not renewed."""
    order = ORDER.replace("RENEW", str(30 * DAY))
    _, (none,) = _look(f"{order}connection refused\ncertificate a.internal\n")
    waits = "guest 101 (g) waits for the certificate of a.internal from ca.internal:9000"
    assert [*seen.faults("g", (), (none,))] == [f"{waits}: connection refused"]
    _, (unasked,) = _look(f"{order}\ncertificate a.internal\n")
    assert [*seen.faults("g", (), (unasked,))] == [waits]
    _, (late,) = _look(f"{order}no: of course\ncertificate a.internal\n{_pem(-80, 20)}")
    (said,) = seen.faults("g", (), (late,))
    assert said.endswith(", and was not renewed: no: of course")


def test_what_is_worn():
    """Of guests that run; a certificate that is awaited still is no worn one."""
    order = ORDER.replace("RENEW", str(30 * DAY))
    late = f"{order}no\ncertificate a.internal\n{_pem(-80, 20)}"
    wanted: Release = SimpleNamespace(  # type: ignore[assignment]
        guests=[SimpleNamespace(id=101, name="g"), SimpleNamespace(id=102, name="stopped")]
    )
    for said, count in ((late, 1), (f"{order}no\ncertificate a.internal\n", 0)):
        place: Platform = Guest(said)  # type: ignore[assignment]
        assert len([*seen.worn(place, wanted)]) == count
    assert [*seen.worn(place, None)] == []


def test_the_script_shows_what_is_ordered_and_what_was_delivered(tmp_path: Path):
    """A certificate that nobody wants any more is not looked at."""
    places = {
        "/opt/phoenix/current": tmp_path / "current", "/opt/phoenix-secrets": tmp_path / "secrets",
        "/var/lib/phoenix": tmp_path / "state",
    }  # fmt: skip
    for path, text in {
        "current/acme/certificates": "# NAME\n"
        "a webroot site 60 https://ca:9000/acme/directory e - - - a\n"
        "b standalone public/own 0 https://198.18.0.1/d e - - - b\n",
        "state/acme/failed/b": "not there\n",
        "state/certificates/a/certificate.pem": _pem(-1, 9),
        "state/certificates/old/certificate.pem": _pem(-9, -1),
        "secrets/current/c.crt": _pem(-1, 9),
        "secrets/current/c.key": "a key\n",
    }.items():
        place = tmp_path / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    script = seen.SCRIPT
    for path, place in places.items():
        script = script.replace(path, str(place))
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "a key" not in done.stdout
    _, found = _look(done.stdout)
    assert [(each.name, each.life, each.renewed, each.source, each.why) for each in found] == [
        ("a", 10 * DAY, 60, "ca:9000", ""),
        ("b", 0, 0, "198.18.0.1", "not there"),
        ("c", 10 * DAY, 0, "", ""),
    ]


def test_what_is_no_certificate_is_passed_over():
    assert _look("certificate a\ngarbage\n") == ((), ())
    assert _look("") == ((), ())


def test_a_mode_is_drift_too(tmp_path: Path):
    stage = Stage(tmp_path)
    activate(stage.host(), stage.keep(released(stage.store)), "test", Limits())
    stage.paths.at(SYSCTL).chmod(0o600)
    assert report.look(stage.host())["drift"] == [SYSCTL]
