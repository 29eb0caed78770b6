"""A release as values ⇄ canonical JSON (`codec`).

A release is a tree: release → guest → layer → file index. Each node names those below it by
digest, size and name in the store, so a one-line change alters the few small nodes above it; what
travels to a host is single files. `schema/manifest.schema.json` states the same format for other
programs, and `tests/contract/` holds documents that every reader must take or refuse alike.

Lists that are sets are sorted. Three lists keep the order they are given in, since it means
something: a guest's layers, a release's guests, and its management addresses.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any, cast

from . import tree
from .codec import (
    Items,
    ManifestError,
    Mapping,
    Mode,
    Node,
    Number,
    Plain,
    SortedBy,
    Text,
    canonical,
    distinct,
    load,
    refuse,
)

SCHEMA = 1
PLATFORMS = ("proxmox", "lxc")
MERGES = ("replace", "interfaces", "lxc-conf", "firewall")
RESTARTS = ("allow", "refuse")

_SEGMENT = r"([A-Za-z0-9_@+~:-][A-Za-z0-9_.@+~:-]*|\.[A-Za-z0-9_@+~:-][A-Za-z0-9_.@+~:-]*)"


def _one(*legal: str) -> Text:
    return Text("one of " + ", ".join(legal), "|".join(legal))


Digest = Annotated[str, Text("a digest (64 lower-case hex digits)", r"[0-9a-f]{64}", 64)]
Name = Annotated[
    str, Text("a name (lower-case letters, digits, dashes)", r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", 63)
]
Word = Annotated[str, Text("a lower-case word", r"[a-z][a-z0-9_-]*", 63)]
Domain = Annotated[str, Text("a domain", r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?", 253)]
ObjectName = Annotated[str, Text("an object's name", r"[A-Za-z0-9_][A-Za-z0-9._@+~-]*", 120)]
FileName = Annotated[str, Text("a file name", _SEGMENT, 120)]
AbsolutePath = Annotated[str, Text("an absolute path without '.' or '..'", rf"(/{_SEGMENT})+")]
RelativePath = Annotated[str, Text("a relative path without '.', '..' or '\\'", tree.RELATIVE)]
LinkTarget = Annotated[str, Text("a link's target without '.', '//' or '\\'", tree.TARGET)]
# No dash in front: ssh would take it for an option.
Address = Annotated[str, Text("an address or host name", r"[A-Za-z0-9:][A-Za-z0-9.:%_-]*")]
Ip = Annotated[str, Text("an IP address", r"[0-9a-f.:]+", 45)]
User = Annotated[str, Text("a user's name", r"[a-z_][a-z0-9_-]*", 32)]
Version = Annotated[str, Text("a version", r"[A-Za-z0-9][A-Za-z0-9.+:~_-]*", 120)]
Reference = Annotated[
    str, Text("a file:, env: or command: reference", r"(file|env|command):.+", 4096)
]
Line = Annotated[str, Text("a line of text", r".+", 4096)]
Size = Annotated[int, Number()]
Port = Annotated[int, Number(1, 65535)]
GuestId = Annotated[int, Number(100, 999_999_999)]
FileMode = Annotated[int, Mode(tree.MODES)]
SecretMode = Annotated[int, Mode(frozenset({0o400, 0o440}))]
Creation = Annotated[
    tuple[tuple[str, Plain], ...],
    Mapping(Text("a lower-case word", r"[a-z][a-z0-9_-]*", 63), Text("a text", r".*", 4096)),
]


@dataclass(frozen=True, slots=True)
class Object:
    """A file of the store, `<digest>-<name>`; `size` in bytes."""

    digest: Digest
    name: ObjectName
    size: Size

    def stored(self) -> str:
        """Its file name in dist/store/."""
        return f"{self.digest}-{self.name}"


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer: its tar, and the node of its index."""

    name: Name
    tar: Object
    index: Object


@dataclass(frozen=True, slots=True)
class Listener:
    """A public port of a guest, and the port behind it in slot a and in slot b."""

    port: Port
    a: Port
    b: Port


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that runs in one of two slots."""

    name: Name
    listeners: Annotated[tuple[Listener, ...], SortedBy("port")]


@dataclass(frozen=True, slots=True)
class GuestNode:
    """All of one guest. `layers` from bottom to top; `creation` is what a missing guest is made
    from, pairs sorted by key; `restart` says whether a deploy may restart the guest."""

    name: Name
    id: GuestId
    role: Word
    restart: Annotated[str, _one(*RESTARTS)]
    layers: tuple[Layer, ...]
    daemons: Annotated[tuple[Daemon, ...], SortedBy("name")]
    creation: Creation


@dataclass(frozen=True, slots=True)
class LayerIndex:
    """What lies in a layer's tar, and where; sorted by path."""

    entries: tuple[tree.Indexed, ...]


@dataclass(frozen=True, slots=True)
class Platform:
    """What the host runs; `version` is Proxmox VE's major version, 0 on plain LXC."""

    kind: Annotated[str, _one(*PLATFORMS)]
    version: Annotated[int, Number(0, 99)]


@dataclass(frozen=True, slots=True)
class Reach:
    """Where ssh finds the host once the release runs; a port is ssh's own configuration's."""

    address: Address
    user: User


@dataclass(frozen=True, slots=True)
class Target:
    """A file at an absolute path on the host. `merge` says what becomes of foreign content there:
    "replace" drops it, the others keep it in the way of that file's format."""

    path: AbsolutePath
    kind: Word
    merge: Annotated[str, _one(*MERGES)]
    mode: FileMode
    owner: Annotated[str, _one("root:root")]
    content: Object


@dataclass(frozen=True, slots=True)
class GuestRef:
    """A guest of a release and its node."""

    name: Name
    id: GuestId
    node: Object


@dataclass(frozen=True, slots=True)
class Input:
    """A pinned program that the release contains; `kind` is where it comes from."""

    name: Name
    version: Version
    kind: Word
    digest: Digest


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret that a guest needs at /opt/phoenix-secrets/current/FILE. `source` is the reference
    that the deployer resolves, never the value."""

    guest: Name
    file: FileName
    mode: SecretMode
    source: Reference


@dataclass(frozen=True, slots=True)
class Release:
    """One host's complete set.

    `guests` in the order in which they start and are changed; `kits` are the layers of what
    machines get, named by machine, and are not sent to the host; `management` the host's own
    addresses, the one to reach it by first; `network` describes what was derived, for differences
    by meaning; `unready` says why the release cannot be deployed, and is empty when it can.
    """

    site: Name
    host: Name
    domain: Domain
    platform: Platform
    reach: Reach
    management: tuple[Ip, ...]
    targets: Annotated[tuple[Target, ...], SortedBy("path")]
    guests: tuple[GuestRef, ...]
    kits: Annotated[tuple[Layer, ...], SortedBy("name")]
    inputs: Annotated[tuple[Input, ...], SortedBy("name")]
    secrets: Annotated[tuple[Secret, ...], SortedBy("guest", "file")]
    network: Object
    unready: Annotated[tuple[Line, ...], SortedBy()]
    program: Object | None = None


def dump(release: Release) -> bytes:
    """The release's canonical bytes; a value that `parse` would refuse is a broken invariant."""
    plain = cast("dict[str, object]", Node(Release).write(release)) | {"schema": SCHEMA}
    return _written(plain, lambda data: _release(data) == release)


def dump_guest(guest: GuestNode) -> bytes:
    """The guest node's canonical bytes; likewise."""
    return _written(Node(GuestNode).write(guest), lambda data: _guest(data) == guest)


def dump_index(index: LayerIndex) -> bytes:
    """The index's canonical bytes. Not read back: `tree.Tree` holds the same rules already."""
    return canonical({"entries": [entry.as_json() for entry in index.entries]})


def parse(data: bytes) -> Release:
    """The release of canonical bytes; ManifestError for any others, or another schema version."""
    return _release(load(data))


def parse_guest(data: bytes) -> GuestNode:
    """The guest of a guest node's canonical bytes, else ManifestError."""
    return _guest(load(data))


def parse_index(data: bytes) -> LayerIndex:
    """The index of canonical bytes, else ManifestError."""
    plain = load(data)
    if not isinstance(plain, dict) or plain.keys() != {"entries"}:
        refuse("", "is not an object with just the key 'entries'")
    index = LayerIndex(Items(_Entry(), attrgetter("path")).read(plain["entries"], "entries"))
    _contained(index)
    return index


def identity(data: bytes) -> str:
    """A release's id: the SHA-256 of its canonical bytes, 64 hex digits."""
    return tree.digest(data)


def _written(plain: object, same: Any) -> bytes:
    try:
        assert same(plain), "what is written reads back otherwise"
    except ManifestError as error:
        raise AssertionError(f"a node breaks its own format: {error}") from error
    return canonical(plain)


def _release(plain: object) -> Release:
    if not isinstance(plain, dict) or type(version := plain.get("schema")) is not int:
        refuse("", "is no release: it lacks the integer 'schema'")
    if version != SCHEMA:
        raise ManifestError(
            f"the release has schema {version}, and this program knows only {SCHEMA}",
            "use the program that made the release" if version > SCHEMA else "build it anew",
        )
    fields = {key: value for key, value in plain.items() if key != "schema"}
    release = cast(Release, Node(Release).read(fields, ""))
    distinct("guests", (guest.name for guest in release.guests))
    distinct("guests", (guest.id for guest in release.guests))
    names = {guest.name for guest in release.guests}
    for i, secret in enumerate(release.secrets):
        if secret.guest not in names:
            refuse(f"secrets[{i}].guest", f"{secret.guest!r} is none of the guests")
    _apart("targets", [target.path for target in release.targets])
    return release


def _guest(plain: object) -> GuestNode:
    guest = cast(GuestNode, Node(GuestNode).read(plain, ""))
    distinct("layers", (layer.name for layer in guest.layers))
    listeners = [listener for daemon in guest.daemons for listener in daemon.listeners]
    distinct("daemons", (port for one in listeners for port in (one.port, one.a, one.b)))
    return guest


@dataclass(frozen=True, slots=True)
class _File:
    path: RelativePath
    mode: FileMode
    size: Size
    digest: Digest
    offset: Size


@dataclass(frozen=True, slots=True)
class _Link:
    path: RelativePath
    target: LinkTarget


class _Entry:
    """Reads an entry of an index: a link has a target, a file has the rest."""

    def read(self, data: object, where: str) -> tree.Indexed:
        if isinstance(data, dict) and "target" in data:
            link = cast(_Link, Node(_Link).read(data, where))
            if not tree.contained(link.path, link.target):
                refuse(f"{where}.target", f"{link.target!r} leads out of the layer")
            return tree.Indexed(link.path, tree.LINK_MODE, 0, "", 0, link.target)
        file = cast(_File, Node(_File).read(data, where))
        return tree.Indexed(file.path, file.mode, file.size, file.digest, file.offset)

    def write(self, value: tree.Indexed) -> object:
        return value.as_json()


def _apart(where: str, paths: list[str]) -> None:
    """Refuse a path that lies below another, which would have to be a file and a folder."""
    below = tree.below(paths)
    if below is not None:
        refuse(where, f"{below!r} lies below another entry")


def _contained(index: LayerIndex) -> None:
    _apart("entries", [entry.path for entry in index.entries])
    free = tree.BLOCK
    for entry in index.entries:
        if entry.target:
            continue
        if entry.offset % tree.BLOCK or entry.offset < free:
            refuse("entries", f"{entry.path!r} begins at {entry.offset}, inside of another")
        # The next file's bytes follow this one's, padded to a block, and a header.
        free = entry.offset + -(-entry.size // tree.BLOCK) * tree.BLOCK + tree.BLOCK
