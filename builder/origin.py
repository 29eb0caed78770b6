"""Where a release comes from, for other programs: two documents that lie beside its manifest.

    provenance.json     an in-toto statement, SLSA provenance v1: this manifest was made from this
                        description (`network.json`, in the store) and these packages
    sbom.cdx.json       a CycloneDX bill of materials: the pinned programs with their versions and
                        hashes, named as scanners look them up (package URLs)

Both follow from the manifest and the lock, and from nothing else; so they are the same bytes on any
machine. The release's id does not cover them, and nothing that installs a release reads them. Of a
licence nothing is said, since the lock knows none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache, partial

from builder import manifest
from builder.codec import canonical
from builder.inputs.lock import Debian, Go, Input, Pin, Pypi
from builder.manifest import Release

PROVENANCE = "provenance.json"
SBOM = "sbom.cdx.json"

Plain = dict[str, object]
Entries = Mapping[str, Sequence[Input]]
"""By program, the lock's entries that it is made from, its own first."""

# Scanners know a suite of Debian by its number.
_NUMBERS = {"bullseye": "11", "bookworm": "12", "trixie": "13"}


def beside(data: bytes, entries: Entries) -> Mapping[str, Callable[[], bytes]]:
    """By file name, what makes the documents that lie beside the manifest `data`."""
    return {PROVENANCE: partial(provenance, data, entries), SBOM: partial(sbom, data, entries)}


def provenance(data: bytes, entries: Entries) -> bytes:
    """The in-toto statement about the manifest `data`."""
    release = _parsed(data)
    description: Plain = {"name": "network.json", "digest": {"sha256": release.network.digest}}
    behind = {each.name: each for program in release.inputs for each in entries[program.name]}
    materials = [_material(each, pin) for _, each in sorted(behind.items()) for pin in each.pins]
    return canonical(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "manifest.json", "digest": {"sha256": manifest.identity(data)}}],
            "predicateType": "https://slsa.dev/provenance/v1",
            "predicate": {
                "buildDefinition": {
                    "buildType": f"urn:phoenix:release:{manifest.SCHEMA}",
                    "externalParameters": {"site": release.site, "host": release.host},
                    "resolvedDependencies": [description, *materials],
                },
                "runDetails": {"builder": {"id": "urn:phoenix:builder"}},
            },
        }
    )


def sbom(data: bytes, entries: Entries) -> bytes:
    """The bill of materials of the release with the manifest `data`."""
    release = _parsed(data)
    about = {"type": "application", "name": f"{release.site} {release.host}"}
    return canonical(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {"component": about | {"version": manifest.identity(data)}},
            "components": list(_components(release, entries)),
        }
    )


# Both documents are made of one manifest after another.
_parsed = lru_cache(maxsize=1)(manifest.parse)


def _material(entry: Input, pin: Pin) -> Plain:
    named: Plain = {"name": entry.name, "uri": package_url(entry, pin)}
    # The hash of a Go program is of what is built from the module, not of what is fetched.
    if isinstance(entry, Go):
        return named | {"annotations": {"sum": entry.sum}}
    return named | {"digest": {"sha256": pin.sha256}}


def _components(release: Release, entries: Entries) -> Iterator[Plain]:
    programs = [(entries[each.name][0], each.digest) for each in release.inputs]
    suites = {entry.suite for entry, _ in programs if isinstance(entry, Debian)}
    for suite in sorted(suites & _NUMBERS.keys()):
        # Without it, scanners do not know whose packages these are.
        yield {"type": "operating-system", "name": "debian", "version": _NUMBERS[suite]}
    for entry, layer in programs:
        for pin in entry.pins:
            url = package_url(entry, pin)
            yield {
                "type": "application",
                "bom-ref": f"{entry.name} {url}",
                "name": _name(entry, pin),
                "version": pin.version,
                "purl": url,
                "hashes": [{"alg": "SHA-256", "content": pin.sha256}],
                "properties": [
                    {"name": "phoenix:input", "value": entry.name},
                    {"name": "phoenix:layer", "value": layer},
                ],
            }


def _name(entry: Input, pin: Pin) -> str:
    if isinstance(entry, Go):
        return entry.module
    return pin.package if isinstance(entry, Debian | Pypi) else entry.name


def package_url(entry: Input, pin: Pin) -> str:
    """The package URL (purl specification) of one thing that `entry` pins."""
    name, version = _quoted(_name(entry, pin)), _quoted(pin.version)
    if isinstance(entry, Pypi):
        return f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    if isinstance(entry, Go):
        below = pin.package.removeprefix(entry.module).strip("/")
        return f"pkg:golang/{name.lower()}@{version}" + (f"#{_quoted(below)}" if below else "")
    if isinstance(entry, Debian):
        number = _NUMBERS.get(entry.suite)
        distro = f"debian-{number}" if number else entry.suite
        return f"pkg:deb/debian/{name}@{version}?arch={entry.arch}&distro={distro}"
    # Qualifiers are sorted by key.
    place = _quoted(pin.package).replace("/", "%2F")
    return f"pkg:generic/{name}@{version}?checksum=sha256:{pin.sha256}&download_url={place}"


def _quoted(text: str) -> str:
    from urllib.parse import quote

    return quote(text, safe=":/")
