"""What hosts were built from the last time: one whose sources are the same is not planned again.

A host's key is a digest of everything that its release is made from: the values that were read and
checked, the programs' layers, and the builder itself. What was made stays in dist/; where an object
of it is gone, the host is planned again. Best effort: a memo that cannot be read is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from builder.fresh import replace
from builder.model import Host, Site
from builder.network import PlainHop, Trust
from builder.plan import Made, Plan, Program

_FORMAT = 1
_CODE = ("builder", "overlays", "schema")


@dataclass(frozen=True, slots=True)
class Known:
    """What is remembered of a host: its plan without the objects' bytes, and their names."""

    key: str
    planned: Plan
    objects: tuple[str, ...]
    plain: tuple[PlainHop, ...]


def code(root: Path) -> str:
    """A digest of what builds: each file's path and content, Python, and the packages it has."""
    found = hashlib.sha256(sys.version.encode())
    for place in (path for path in sys.path if path.endswith("-packages") and os.path.isdir(path)):
        found.update("\0".join(n for n in sorted(os.listdir(place)) if "-info" in n).encode())
    for path in sorted(each for folder in _CODE for each in _files(str(root), folder)):
        with open(os.path.join(root, path), "rb") as stream:
            data = stream.read()
        found.update(f"\0{path}\0{len(data)}\0".encode())
        found.update(data)
    return found.hexdigest()


def _files(root: str, folder: str) -> Iterator[str]:
    # Walked by hand: Path.rglob takes three times as long, of what every build pays.
    for entry in os.scandir(os.path.join(root, folder)):
        if entry.is_dir():
            yield from _files(root, f"{folder}/{entry.name}")
        # Editors leave links to nowhere behind.
        elif entry.is_file() and not entry.name.endswith(".pyc"):
            yield f"{folder}/{entry.name}"


def key(
    built_by: str, site: Site, host: Host, trust: Trust | None, programs: Iterable[Program]
) -> str:
    """The digest of what a host's release is made from; `built_by` is `code`."""
    # A frozen value's repr tells all of it, and nothing of this process.
    parts = (built_by, repr(site), repr(host), repr(trust), repr(tuple(programs)))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def read(file: Path) -> dict[str, Known]:
    """What is remembered, by host."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        data = json.loads(file.read_bytes())
        if data["format"] == _FORMAT:
            return {host: _known(host, each) for host, each in data["hosts"].items()}
    return {}


def write(file: Path, known: Mapping[str, Known]) -> None:
    """Remember `known` in place of what was."""
    hosts = {host: _plain(each) for host, each in known.items()}
    with contextlib.suppress(OSError):
        replace(str(file), json.dumps({"format": _FORMAT, "hosts": hosts}).encode())


def _plain(known: Known) -> dict[str, object]:
    return {
        "key": known.key,
        "manifest": known.planned.manifest.decode(),
        "programs": known.planned.programs,
        "artifacts": [[a.name, a.kind, a.digest] for a in known.planned.artifacts],
        "unready": known.planned.unready,
        "objects": known.objects,
        "plain": [asdict(hop) for hop in known.plain],
    }


def _known(host: str, data: Mapping[str, object]) -> Known:
    def listed(name: str) -> list[str]:
        value = data[name]
        if not isinstance(value, list):
            raise TypeError(f"{name} is no list")
        return value

    planned = Plan(
        host=host,
        manifest=str(data["manifest"]).encode(),
        objects=(),
        programs=tuple(listed("programs")),
        artifacts=tuple(Made(*each) for each in listed("artifacts")),
        unready=tuple(listed("unready")),
    )
    hops: list[Mapping[str, object]] = listed("plain")  # type: ignore[assignment]
    plain = tuple(PlainHop(**hop) for hop in hops)  # type: ignore[arg-type]
    return Known(str(data["key"]), planned, tuple(listed("objects")), plain)
