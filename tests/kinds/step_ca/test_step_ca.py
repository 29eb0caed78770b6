"""step-ca on what the kind writes: it signs the declared names, for as long as declared, no more.

step-ca ignores what it does not know. So each key that is written is misspelt once, and what the
CA does must then differ: a key that makes no difference has no business in the file.
"""

from __future__ import annotations

import copy
import ssl
import tempfile
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import pytest
from cryptography import x509

from builder import emit
from builder.kinds import step_ca
from builder.network import CA_PORT, Network
from tests.judges import pki
from tests.judges.guest import GENERATION
from tests.judges.refusal import Refused
from tests.judges.rootfs import USERS
from tests.kinds.step_ca.running import AS_LEGO, Site, site, tree
from tests.kinds.traefik.running import documents, network

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]


def living(lifetime: str, renew: str) -> Network:
    """The reference, with certificates that live for so long."""
    reference, _ = documents()
    return network({**reference, "ca": {"lifetime": lifetime, "renew": renew}})


def lego(running: Site, name: str) -> str:
    """Order one name by lego, without the script; the end of what it says where it fails."""
    done = running.space.run(
        [
            *AS_LEGO, f"{GENERATION}/programs/lego/usr/bin/lego", "--accept-tos",
            "--path", "/var/lib/phoenix/lego-test", "--email", "a@example.org", "--domains", name,
            "--server", f"https://{running.net.ca.fqdn}:{CA_PORT}/acme/acme/directory",
            "--http", "--http.port", ":80", "run",
        ],
        environment={"LEGO_CA_CERTIFICATES": f"{GENERATION}/trust/root.crt"},
        timeout=20,
    )  # fmt: skip
    return "" if done.code == 0 else (done.out + done.err)[-400:]


def issued(running: Site, name: str) -> tuple[bytes, bytes]:
    folder = "/var/lib/phoenix/lego-test/certificates"
    return (
        running.space.read(f"{folder}/{name}.crt") or b"",
        running.space.read(f"{folder}/{name}.key") or b"",
    )


def renewal(running: Site, pair: tuple[bytes, bytes]) -> int:
    """The answer to a renewal by the old certificate instead of a new order."""
    context = ssl.create_default_context(cadata=pki.authority().root.decode())
    with tempfile.NamedTemporaryFile() as both:
        both.write(pair[0] + pair[1])
        both.flush()
        context.load_cert_chain(both.name)
    stream = context.wrap_socket(
        running.space.connect(str(running.net.ca.guest.address), CA_PORT),
        server_hostname=running.net.ca.fqdn,
    )
    connection = HTTPConnection("ca")
    connection.sock = stream
    connection.request("POST", "/renew")
    return connection.getresponse().status


def observed(running: Site) -> dict[str, Any]:
    """What the CA does; it is to be the same for two files only if they say the same."""
    running.space.folders(["/var/lib/phoenix/lego-test"], 6104)
    context = ssl.create_default_context(cadata=pki.authority().root.decode())
    address = str(running.net.ca.guest.address)
    seen: dict[str, Any] = {}
    for name in (running.net.ca.fqdn, address):
        with context.wrap_socket(
            running.space.connect(address, CA_PORT), server_hostname=name
        ) as stream:
            found = stream.getpeercert()
            assert found
            seen[f"own certificate, asked as {name}"] = found["subject"]
    seen["provisioners"] = running.ask("/provisioners")
    seen["directory"] = running.ask("/acme/acme/directory")[0]
    good, foreign = running.net.mesh.fqdn, "foreign.phoenix.internal"
    running.space.run(["sh", "-c", f"echo 127.0.0.1 {foreign} >>/etc/hosts"])
    seen["declared name"] = lego(running, good)
    if not seen["declared name"]:
        pair = issued(running, good)
        leaf = x509.load_pem_x509_certificate(pair[0])
        life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        seen["lifetime"] = int(life.total_seconds())
        seen["renewal"] = renewal(running, pair)
    seen["foreign name"] = "not allowed" if "rejectedIdentifier" in lego(running, foreign) else ""
    seen["log is JSON"] = (
        all(line.startswith("{") for line in running.log().splitlines() if '"method"' in line)
        and '"method"' in running.log()
    )
    seen["database"] = running.space.read("/var/lib/phoenix/step-ca/bolt.db") is not None
    return seen


def paths(data: Any, below: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every key of nested data."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield (*below, key)
            yield from paths(value, (*below, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from paths(value, (*below, index))


# The longest lifetime binds only clients that ask for one, which lego can't: see below.
MAX = "maxTLSCertDuration"
KEYS = [".".join(map(str, p)) for p in paths(step_ca.configuration(network())) if p[-1] != MAX]


@pytest.fixture(scope="module")
def truth() -> dict[str, Any]:
    with site(network()) as running:
        return observed(running)


def test_signs_the_declared_names_and_no_other(truth: dict[str, Any]) -> None:
    net = network()
    subject = ((("commonName", net.ca.fqdn),),)
    assert truth == {
        f"own certificate, asked as {net.ca.fqdn}": subject,
        f"own certificate, asked as {net.ca.guest.address}": subject,
        "provisioners": (
            200,
            {
                "provisioners": [{"type": "ACME", "name": "acme", "challenges": ["http-01"]}],
                "nextCursor": "",
            },
        ),
        "directory": 200,
        "declared name": "",
        # It backdates by a minute.
        "lifetime": 7 * 86400 + 60,
        "renewal": 401,
        "foreign name": "not allowed",
        "log is JSON": True,
        "database": True,
    }


@pytest.mark.parametrize("path", KEYS)
def test_every_key_is_known(path: str, truth: dict[str, Any]) -> None:
    net = network()
    wrong = copy.deepcopy(step_ca.configuration(net))
    *above, last = path.split(".")
    at: Any = wrong
    for step in above:
        at = at[int(step) if step.isdigit() else step]
    at[f"{last}x"] = at.pop(last)
    try:
        with site(net, configuration=emit.json_text(wrong)) as running:
            assert observed(running) != truth
    except (Refused, OSError, ValueError):
        return  # It did not start, not on its port, or without its directory: noticed.


def test_longest_lifetime_is_known() -> None:
    """A longest below the default ends the start, unless it is misspelt."""
    net = network()
    wrong = step_ca.configuration(net)
    claims = wrong["authority"]["claims"]
    claims[MAX] = "3600s"
    with (
        pytest.raises(Refused, match="MaxCertDuration cannot be less than"),
        site(net, configuration=emit.json_text(wrong)),
    ):
        pass
    claims[f"{MAX}x"] = claims.pop(MAX)
    with site(net, configuration=emit.json_text(wrong)):
        pass


def test_allows_exactly_the_names_of_its_orders() -> None:
    """From the description alone: its guests, its inside names, its names outside, its machines."""
    reference, hosts = documents()
    domain = reference["domain"]
    services = reference["services"]
    behind = {
        backend if isinstance(backend, str) else backend["name"]
        for service in services.values()
        for backend in service["backends"]
    }
    expected = {f"{name}.{domain}" for name in behind | {"traefik-mesh"}}
    expected |= {f"{name}.{domain}" for name in hosts["pve1"]["machines"]}
    expected |= {f"{name}.svc.{domain}" for name, s in services.items() if s.get("inside")}
    expected.add("ai.home.example.org")  # chat.example.org has its certificate from elsewhere
    assert set(step_ca.allowed(network())) == expected


def test_a_release_without_a_ca_lacks_its_certificate_only() -> None:
    import dataclasses

    net = network()
    assert net.trust
    files = tree(step_ca, net, net.ca.guest.name)
    assert files.file("step-ca/intermediate.crt").data == net.trust.intermediate
    bare = tree(step_ca, dataclasses.replace(net, trust=None), net.ca.guest.name)
    assert [entry.path for entry in bare] == ["step-ca/ca.json"]


def test_reference_starts() -> None:
    with site(network()) as running:
        assert running.ask("/health") == (200, {"status": "ok"})
        assert running.ask("/acme/acme/directory")[0] == 200


def test_starts_after_half_a_record() -> None:
    """A full disk leaves one, and a power cut may."""
    with site(network()) as running:
        running.space.folders(["/var/lib/phoenix/lego-test"], USERS["lego"])
        assert lego(running, running.net.mesh.fqdn) == ""
        running.stop()
        torn = ["-exec", "sh", "-c", 'echo torn >>"$0"', "{}", ";"]
        running.space.must(["find", "/var/lib/phoenix/step-ca", "-type", "f", *torn])
        running.start()
        assert lego(running, running.net.mesh.fqdn) == ""


@pytest.mark.parametrize(
    ("lifetime", "seconds"), [("60s", 60), ("1h", 3600), ("24h", 86400), ("400d", 400 * 86400)]
)
def test_lifetimes(lifetime: str, seconds: int) -> None:
    with site(living(lifetime, "20s")) as running:
        seen = observed(running)
    assert (seen["declared name"], seen["lifetime"]) == ("", seconds + 60)
