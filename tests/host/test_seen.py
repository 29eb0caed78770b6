"""What status says of slots and certificates inside of guests."""

from __future__ import annotations

import datetime
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from builder.host import report, seen
from builder.host.platforms import Platform
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

    def inside(self, _guest: int, *_command: str, limit: float = 60) -> tuple[int, str]:
        return 0, self.said


def _look(said: str) -> tuple[tuple[Daemon, ...], tuple[Certificate, ...]]:
    place: Platform = Guest(said)  # type: ignore[assignment]
    return seen.look(place, 101)


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


@pytest.mark.parametrize(
    ("begins", "ends", "said"),
    [(-10, 90, ""), (-60, 40, ""), (-80, 20, "ends in 20 days, and was not renewed"),
     (-80, -1, "is over")],
)  # fmt: skip
def test_certificates(begins: int, ends: int, said: str):
    place = "certificate /var/x/a.internal/certificate.pem"
    _, (held,) = _look(f"{place}\n{_pem(begins, ends)}{_pem(0, 900)}")
    assert (held.name, held.life) == ("a.internal", (ends - begins) * DAY)
    assert abs(held.left - ends * DAY) < 3600
    told = [*seen.faults("g", (), (held,))]
    assert told == ([f"guest 101 (g): the certificate of a.internal {said}"] if said else [])


def test_what_is_no_certificate_is_passed_over():
    assert _look("certificate /x/a/certificate.pem\ngarbage\n") == ((), ())
    assert _look("") == ((), ())


def test_a_mode_is_drift_too(tmp_path: Path):
    stage = Stage(tmp_path)
    activate(stage.host(), stage.keep(released(stage.store)), "test", Limits())
    stage.paths.at(SYSCTL).chmod(0o600)
    assert report.look(stage.host())["drift"] == [SYSCTL]
