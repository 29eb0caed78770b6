"""What the deployer sees of exposed names itself, and what it does where that is worse."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from builder.deploy import deploy, entering
from builder.deploy.entering import Entering, Entrance, entrances, fault
from builder.deploy.memory import Memory
from tests.deploy.making import Project, Wire, deployed
from tests.host.making import SYSCTL

ONE, TWO = (Entrance("198.18.0.10", 443, name, "pem") for name in ("a.org", "b.org"))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long here."""
    monkeypatch.setattr(entering.time, "sleep", lambda _: None)


def _certificate(folder: Path, name: str) -> tuple[str, ssl.SSLContext]:
    """A certificate that is its own root, as PEM, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "both.pem").write_bytes(pem + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    return pem.decode(), context


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Entrance]:
    """A server that shows a certificate for a.org."""
    pem, context = _certificate(tmp_path, "a.org")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    stream, _ = listening.accept()
                except OSError:
                    return
                try:
                    context.wrap_socket(stream, server_side=True).close()
                except OSError:
                    stream.close()

        threading.Thread(target=serve, daemon=True).start()
        yield Entrance("127.0.0.1", listening.getsockname()[1], "a.org", pem)
        listening.shutdown(socket.SHUT_RDWR)


def test_a_handshake_is_judged_by_name_and_root(served: Entrance, tmp_path: Path):
    at = (served.address, served.port)
    assert fault(served, 5) == ""
    assert "Hostname mismatch" in fault(Entrance(*at, "b.org", served.root), 5)
    other, _ = _certificate(tmp_path, "a.org")
    assert "certificate verify failed" in fault(Entrance(*at, "a.org", other), 5)
    # Of one that is not the site's there is nothing to judge it by.
    assert fault(Entrance(*at, "a.org", ""), 5) == ""


def test_nobody_there():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    assert "refused" in fault(Entrance("127.0.0.1", port, "a.org", ""), 5)


def test_the_entrances_of_a_release():
    def ask(source: str, address: str, server: str, **more: object) -> dict[str, object]:
        return {"source": source, "address": address, "port": 443, "server": server, **more}

    asks = [
        ask("uplink", "198.18.0.10", "a.org"),
        ask("uplink", "0.0.0.0", "b.org", held="/b.pem"),
        ask("host", "198.18.0.10", "a.org"),
        ask("101", "10.0.0.102", "mesh"),
        {"source": "uplink", "address": "198.18.0.10", "port": 80},
    ]
    routed = {"uplink": "eth0", "root": "pem", "asks": asks}
    assert [*entrances(routed, "198.18.0.9")] == [
        Entrance("198.18.0.10", 443, "a.org", "pem"),
        Entrance("198.18.0.9", 443, "b.org", ""),
    ]
    assert [*entrances(routed | {"uplink": ""}, "-")] == [ONE]


def _changing(before: dict[str, str], *after: dict[str, str]) -> Callable[[Entrance, float], str]:
    """What is seen, look by look."""
    looks = [before, *after]
    count = dict.fromkeys(("a.org", "b.org"), 0)

    def look(entrance: Entrance, _: float) -> str:
        turn = min(count[entrance.name], len(looks) - 1)
        count[entrance.name] += 1
        return looks[turn].get(entrance.name, "")

    return look


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({}, [{}], ""),
        ({}, [{"b.org": "gone"}], "from here, b.org at 198.18.0.10 port 443: gone"),
        ({}, [{"b.org": "gone"}, {}], ""),
        ({"b.org": "gone"}, [{"b.org": "gone"}], ""),
        ({"a.org": "-", "b.org": "-"}, [{"a.org": "-", "b.org": "-"}], ""),
    ],
)
def test_only_what_is_worse_counts(
    before: dict[str, str], after: list[dict[str, str]], said: str,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    made = Entering((ONE, TWO), _changing(before, *after))
    made.begin()
    assert made.before
    made.before.result()
    assert made.fault() == said
    assert ("not compared" in capsys.readouterr().err) == (len(before) == 2)


def test_what_is_worse_is_not_confirmed(
    made: Project, wire: Wire, memory: Memory, monkeypatch: pytest.MonkeyPatch
):
    made.release()
    assert deployed(made, wire, memory).verdict.result == "done"

    def look(_: Entrance, limit: float) -> str:
        """All is well before the change, whenever that is looked at, and until the host waits for
        the word."""
        waits = wire.stage.paths.journal.exists()
        return "gone" if waits and limit != entering._BEFORE else ""

    seen = Entering((ONE,), look)
    monkeypatch.setattr(deploy.Entering, "of", lambda _: seen)
    made.release(sysctl="b = 1\n")
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("undone", 4)
    assert outcome.verdict.why == "from here, a.org at 198.18.0.10 port 443: gone"
    assert wire.stage.files()[SYSCTL[1:]] == b"a = 1\n"
    assert not wire.stage.paths.journal.exists(), "it was not left to the guard"
    assert deployed(made, wire, memory).verdict.result == "undone"
