"""A release as the builder wrote it: read strictly, or refused.

The documents are canonical JSON that `manifest.schema.json` describes; what a schema can't say
(order, names that must differ, links that stay inside) is here. `tests/contract/` holds documents
that this program and the builder must take or refuse alike.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from itertools import pairwise
from pkgutil import get_data
from typing import Any, NamedTuple

from .schema import RefusedError, Schema, check

LONGEST = 16 << 20
"""What a document has at most, in bytes."""
_BLOCK = 512


class Object(NamedTuple):
    """A file by its content; `size` in bytes."""

    digest: str
    size: int


class Target(NamedTuple):
    """A file at an absolute path on the host, and how it is merged with what stands there."""

    path: str
    kind: str
    merge: str
    mode: int
    content: Object


class Secret(NamedTuple):
    """A secret's file in a guest's bundle."""

    guest: str
    file: str
    mode: int
    source: str


class GuestRef(NamedTuple):
    """A guest of a release and its node."""

    name: str
    id: int
    node: Object


class Release(NamedTuple):
    """One host's complete set; `guests` in the order in which they start and are changed."""

    site: str
    host: str
    domain: str
    platform: str
    address: str
    user: str
    management: tuple[str, ...]
    targets: tuple[Target, ...]
    guests: tuple[GuestRef, ...]
    secrets: tuple[Secret, ...]
    network: Object
    unready: tuple[str, ...]
    program: Object | None


class Listener(NamedTuple):
    """A public port, and the port behind it in slot a and in slot b."""

    port: int
    a: int
    b: int


class Guest(NamedTuple):
    """A guest's node: `indexes` of its layers from bottom to top, its slotted daemon's name and
    listeners, what it is made from where it is missing."""

    name: str
    id: int
    role: str
    restart: bool
    indexes: tuple[Object, ...]
    daemons: tuple[tuple[str, tuple[Listener, ...]], ...]
    creation: dict[str, Any]


class Entry(NamedTuple):
    """A file of a layer by its content, or a link, which has a `target`."""

    path: str
    mode: int
    content: Object
    target: str


def digest(data: bytes) -> str:
    """SHA-256 of `data`, 64 lower-case hex digits; of a manifest, the release's id."""
    return hashlib.sha256(data).hexdigest()


def canonical(plain: object) -> bytes:
    """The one way to write plain data."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def release(data: bytes) -> Release:
    """The release of a manifest's bytes; raises RefusedError."""
    plain = _load(data)
    version = plain.get("schema") if isinstance(plain, dict) else None
    if type(version) is int and version > _known():
        raise RefusedError(f"the release has schema {version}, and this program knows {_known()}")
    plain = _checked("release", plain)
    _sorted("targets", plain["targets"], "path")
    _sorted("kits", plain["kits"], "name")
    _sorted("inputs", plain["inputs"], "name")
    _sorted("secrets", plain["secrets"], "guest", "file")
    _ascending("unready", plain["unready"])
    _apart("targets", [target["path"] for target in plain["targets"]])
    _distinct("guests", (guest["name"] for guest in plain["guests"]))
    _distinct("guests", (guest["id"] for guest in plain["guests"]))
    names = {guest["name"] for guest in plain["guests"]}
    for secret in plain["secrets"]:
        if secret["guest"] not in names:
            raise RefusedError(f"secrets: {secret['guest']!r} is none of the guests")
    return _release(plain)


def guest(data: bytes) -> Guest:
    """The guest of a node's bytes; raises RefusedError."""
    plain = _checked("guest", _load(data))
    _sorted("daemons", plain["daemons"], "name")
    _distinct("layers", (layer["name"] for layer in plain["layers"]))
    for daemon in plain["daemons"]:
        _sorted("listeners", daemon["listeners"], "port")
    listeners = [each for daemon in plain["daemons"] for each in daemon["listeners"]]
    _distinct("daemons", (one[key] for one in listeners for key in ("port", "a", "b")))
    daemons = tuple(
        (daemon["name"], tuple(Listener(**each) for each in daemon["listeners"]))
        for daemon in plain["daemons"]
    )
    indexes = tuple(_object(layer["index"]) for layer in plain["layers"])
    may = plain["restart"] == "allow"
    return Guest(
        plain["name"], plain["id"], plain["role"], may, indexes, daemons, plain["creation"]
    )


def index(data: bytes) -> tuple[Entry, ...]:
    """The entries of a layer's index, sorted by path; raises RefusedError."""
    entries = _checked("index", _load(data))["entries"]
    _sorted("entries", entries, "path")
    _apart("entries", [entry["path"] for entry in entries])
    free = _BLOCK
    for entry in entries:
        if "target" in entry:
            if not _contained(entry["path"], entry["target"]):
                raise RefusedError(f"entries: {entry['target']!r} leads out of the layer")
            continue
        if entry["offset"] < free:
            raise RefusedError(f"entries: {entry['path']!r} begins inside of another")
        free = entry["offset"] + -(-entry["size"] // _BLOCK) * _BLOCK + _BLOCK
    return tuple(_entry(entry) for entry in entries)


@functools.cache
def _schema() -> Schema:
    data = get_data(__package__, "manifest.schema.json")
    assert data is not None
    schema: Schema = json.loads(data)
    return schema


def _known() -> int:
    number: int = _schema()["$defs"]["release"]["properties"]["schema"]["const"]
    return number


def _load(data: bytes) -> Any:
    if len(data) > LONGEST:
        raise RefusedError(f"the document is over {LONGEST >> 20} MiB long")
    try:
        plain = json.loads(data.decode(), parse_float=_no_number, parse_constant=_no_number)
        same = canonical(plain) == data
    except (ValueError, RecursionError) as error:
        raise RefusedError(f"the document is not canonical JSON: {error}") from error
    if not same:
        raise RefusedError("the document is not canonical JSON")
    return plain


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not an integer")


def _checked(kind: str, plain: Any) -> Any:
    schema = _schema()
    check(schema["$defs"][kind], plain, schema)
    return plain


def _object(plain: Any) -> Object:
    return Object(plain["digest"], plain["size"])


def _release(plain: Any) -> Release:
    return Release(
        site=plain["site"],
        host=plain["host"],
        domain=plain["domain"],
        platform=plain["platform"]["kind"],
        address=plain["reach"]["address"],
        user=plain["reach"]["user"],
        management=tuple(plain["management"]),
        targets=tuple(_target(each) for each in plain["targets"]),
        guests=tuple(GuestRef(g["name"], g["id"], _object(g["node"])) for g in plain["guests"]),
        secrets=tuple(_secret(each) for each in plain["secrets"]),
        network=_object(plain["network"]),
        unready=tuple(plain["unready"]),
        program=_object(plain["program"]) if "program" in plain else None,
    )


def _target(plain: Any) -> Target:
    mode = int(plain["mode"], 8)
    return Target(plain["path"], plain["kind"], plain["merge"], mode, _object(plain["content"]))


def _secret(plain: Any) -> Secret:
    return Secret(plain["guest"], plain["file"], int(plain["mode"], 8), plain["source"])


def _entry(plain: Any) -> Entry:
    if "target" in plain:
        return Entry(plain["path"], 0o777, Object("", 0), plain["target"])
    return Entry(plain["path"], int(plain["mode"], 8), _object(plain), "")


def _sorted(where: str, items: list[Any], *keys: str) -> None:
    _ascending(where, [tuple(item[key] for key in keys) for item in items])


def _ascending(where: str, keys: list[Any]) -> None:
    for before, after in pairwise(keys):
        if before >= after:
            raise RefusedError(f"{where}: {after!r} stands after {before!r}")


def _distinct(where: str, keys: Iterable[object]) -> None:
    seen = set()
    for key in keys:
        if key in seen:
            raise RefusedError(f"{where}: holds {key!r} twice")
        seen.add(key)


def _apart(where: str, paths: list[str]) -> None:
    known = set(paths)
    for path in paths:
        parent = path.rpartition("/")[0]
        while parent:
            if parent in known:
                raise RefusedError(f"{where}: {path!r} lies below another entry")
            parent = parent.rpartition("/")[0]


def _contained(path: str, target: str) -> bool:
    """Whether the link at `path` stays in the folder that `path` begins from, at every step."""
    depth = 0 if target.startswith("/") else path.count("/")
    for step in target.strip("/").split("/"):
        depth += -1 if step == ".." else 1
        if depth < 0:
            return False
    return True


DOCUMENTS: dict[str, Callable[[bytes], object]] = {
    "release": release,
    "guest": guest,
    "index": index,
}
"""What reads a document of each kind."""
