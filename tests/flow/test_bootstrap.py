"""From nothing to a network in which every hop has its certificate, in one deploy, and what becomes
of it where certificates are missing, or of another time."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from builder import authority
from builder.authority import Issuer
from tests.flow import certified
from tests.flow.certified import CA, HOLDERS, MESH, ONE, TWO, Holder
from tests.flow.stage import Flow, flow
from tests.integration.handle import Handle, until
from tests.integration.walk import files, running

pytestmark = [
    pytest.mark.long(4),
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen", "index"),
]

_LOOKS = Path(__file__).with_name("plain_text.py").read_text(encoding="utf-8")
_GUESTS = ("101", "102", "103", "111", "112", "113")
_LEGO, _CERTIFICATES = 6104, 6100
_MAPPED = 100000
_AHEAD = 75
"""For how many seconds the certificate of another clock is not valid yet: longer than a guest takes
to start."""


def test_from_nothing() -> None:
    with flow(certified.site(), certified.host, deployed=False, alone=False) as made:
        _without_a_ca(made.host)
        _in_one_deploy(made)
        _before_the_ca(made)
        _before_its_time(made)
        _when_the_clock_is_set(made.host)


def _without_a_ca(host: Handle) -> None:
    """The CA does not come up, since its key does not open: the first deploy is taken back, says
    why, and leaves the host as it was."""
    before = files(host), running(host)
    password = host.up.state.folder / "ca/phoenix" / host.lab.name / "intermediate.password"
    right = password.read_bytes()
    password.write_bytes(b"another\n")
    done = host.invoke("deploy", affects=(901, 902, 903))
    assert (done.code, done.found["result"]) == (4, "undone"), done
    assert "103" in done.found["why"], done
    assert (files(host), running(host)) == before
    assert [each for each in (101, 102, 103, 111) if _exists(host, each)] == []
    password.write_bytes(right)


def _exists(host: Handle, guest: int) -> bool:
    return (host.up.state.volume("lxc") / str(guest)).exists()


@contextlib.contextmanager
def _looking(host: Handle) -> Iterator[dict[str, Any]]:
    """Look for what answers in plain text meanwhile; what was found is told at the end."""
    command = [*host.outside[:-1], host.lab.host, "python3", "-I", "-c", _LOOKS, *_GUESTS]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = {}
    try:
        yield found
        found |= json.loads(process.communicate("\n", timeout=120)[0])
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def _in_one_deploy(made: Flow) -> None:
    """Every certificate comes at the first try, since who gives it and who answers for it were
    there before; nothing but the way to HTTPS and challenges ever answers in plain text."""
    host = made.host
    with _looking(host) as found:
        host.deploy(anew=True)
        for each in HOLDERS:
            until(partial(certified.installed, made, each), f"{each.name} has one")
    print(found)
    assert found["plain"] == []
    assert min(found["looks"].values()) > 3, found
    assert {20000, 20001} == set(found["ports"]["101"]), found
    assert 9000 in found["ports"]["103"], found
    for each in HOLDERS:
        said = host.guest(each.guest, "journalctl", "--output=cat", "--unit=phoenix-acme")
        told = [line for line in said.splitlines() if line.startswith("phoenix-acme: ")]
        assert told == [f"phoenix-acme: {each.name}: certificate installed (run)"], said
    made.furnish()
    made.answers()
    certified.await_well(host)
    _plain_is_seen(made)


def _plain_is_seen(made: Flow) -> None:
    """What looks for plain text does find it."""
    where = ("serve", "--name", "plain", "--listen", "0.0.0.0:8090")
    made.equip(ONE.guest)
    unit = ("systemd-run", "--quiet", "--unit=plain", "/usr/local/bin/try", *where)
    made.host.guest(ONE.guest, *unit)
    listens = "exec 3<>/dev/tcp/127.0.0.1/8090"
    until(lambda: _inside(made.host, ONE.guest, "bash", "-c", listens), "it listens")
    with _looking(made.host) as found:
        pass
    made.host.guest(ONE.guest, "systemctl", "stop", "plain")
    assert {(each[0], each[1]) for each in found["plain"]} == {("111", 8090)}, found


def _inside(host: Handle, guest: int, *command: str) -> bool:
    attach = ("lxc-attach", "--name", str(guest), "--clear-env", "--", *command)
    return host.inside.run(*attach)[0] == 0


def _before_the_ca(made: Flow) -> None:
    """A guest that starts without a certificate and before the CA is there: it answers nobody,
    status says for what it waits, and it comes by itself."""
    host = made.host
    host.run("lxc-stop", "--name", str(CA))
    with _stopped(host, ONE, TWO):
        for each in (ONE, TWO):
            shutil.rmtree(certified.folder(made, each))
    said = certified.await_fault(host, "guest 111 (one) waits", ONE.name, ": ")
    assert "ca.phoenix.internal:9000" in said, said
    assert _asked(made) in (500, 502, 503, 504), _asked(made)
    host.run("lxc-start", "--name", str(CA))
    made.answers()
    certified.await_well(host)


def _before_its_time(made: Flow) -> None:
    """Certificates of a clock that is ahead of ours: mesh and fronts have them as they start. Until
    our clock comes there nobody gets an answer, and then everybody does, by itself."""
    with _stopped(made.host, MESH, ONE, TWO):
        begins = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=_AHEAD)
        for each in (MESH, ONE, TWO):
            _install(made, each, begins)
    said = certified.await_fault(made.host, "guest 111 (one)", "is not valid until")
    assert f"{begins:%Y-%m-%d %H:%M} UTC" in said, said
    early = 0
    until(lambda: _asked(made) > 0, "the gateway answers")
    while (code := _asked(made)) != 200:
        assert code in (500, 502, 503, 504), code
        early += 1
        assert time.time() < begins.timestamp() + 120, code
        time.sleep(0.5)
    assert time.time() > begins.timestamp() - 1
    assert early > 0
    certified.await_well(made.host)


def _when_the_clock_is_set(host: Handle) -> None:
    """The client looks, and the CA, whose own certificate may be of another day, makes a new one.
    No clock is this lab's own: that it starts both is as far as it can be seen here."""
    for guest, timer in ((ONE.guest, "phoenix-acme.timer"), (CA, "phoenix-step-ca-clock.timer")):
        asked = ("systemctl", "show", "--property=ActiveState,OnClockChange", timer)
        said = host.guest(guest, *asked).split()
        assert sorted(said) == ["ActiveState=active", "OnClockChange=yes"], said
    own = Holder(CA, "ca.phoenix.internal", "10.0.0.103", 9000, ONE.guest)
    before = certified.served(host, own)
    host.guest(CA, "systemctl", "start", "phoenix-step-ca-clock.service")
    until(lambda: certified.served(host, own) != before, "the CA has another certificate")


def _asked(made: Flow) -> int:
    """The status that a client outside gets; 0 for none."""
    return int(made.outside("ask", "get", "--url", certified.CHAT)["status"])


@contextlib.contextmanager
def _stopped(host: Handle, *holders: Holder) -> Iterator[None]:
    """Have guests be off meanwhile."""
    for each in holders:
        host.run("lxc-stop", "--name", str(each.guest))
    yield
    for each in holders:
        host.run("lxc-start", "--name", str(each.guest))


def _install(made: Flow, holder: Holder, begins: datetime.datetime) -> None:
    """Give a guest a certificate that is valid from then on."""
    place = certified.folder(made, holder)
    for name, data in _issued(made.host, holder.name, begins).items():
        new = place / f".{name}"
        new.write_bytes(data)
        new.chmod(0o640)
        os.chown(new, _MAPPED + _LEGO, _MAPPED + _CERTIFICATES)
        new.rename(place / name)


def _issued(host: Handle, name: str, begins: datetime.datetime) -> dict[str, bytes]:
    """A pair as the CA gives it out, for a week from then on."""
    folder = host.up.state.folder / "ca/phoenix" / host.lab.name
    intermediate = host.up.state.project / f"configs/ca/{host.lab.name}.crt"
    issuer = Issuer(intermediate.read_bytes(), (folder / "intermediate.key").read_bytes())
    password = (folder / "intermediate.password").read_bytes().strip()
    certificate, signer = authority.opened(issuer, password)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    names = [name]
    if name == MESH.name:
        names.append("chat.svc.phoenix.internal")
    wanted = (
        x509.CertificateBuilder(certificate.subject, subject, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + datetime.timedelta(days=7))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), False)
        .sign(signer, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return {
        "key.pem": key.private_bytes(pem, *plain),
        "certificate.pem": wanted.public_bytes(pem) + issuer.certificate,
    }
