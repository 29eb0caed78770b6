"""One host's network → everything that its release consists of. Pure: values in, values out."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from builder import emit, manifest
from builder.describe import describe
from builder.kinds import KINDS
from builder.kinds.artifact import Artifact, GuestFiles, HostFile, KitFiles
from builder.kinds.lxc import creation
from builder.manifest import Layer, Object
from builder.network import Member, Network
from builder.tree import Tree, digest, pack

NO_CA = "the site has no certificate authority: run ./invoke ca.init"

_START = {"ca": 0, "mesh": 1, "gateway": 2, "service": 3}


@dataclass(frozen=True, slots=True)
class Program:
    """A pinned program's layer, which lies in the cache of inputs already."""

    name: str
    version: str
    kind: str
    layer: Layer


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact as the build's output lists it."""

    name: str
    kind: str
    digest: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A release: its canonical manifest, the objects that it names, and what to tell of it.

    `programs` are the layers that the store takes from the cache instead of from `objects`.
    """

    host: str
    manifest: bytes
    objects: tuple[tuple[Object, bytes], ...]
    programs: tuple[str, ...]
    artifacts: tuple[Made, ...]
    unready: tuple[str, ...]


class _Objects:
    """Collects objects by digest and name; the same content under the same name is one."""

    def __init__(self) -> None:
        self.found: dict[tuple[str, str], tuple[Object, bytes]] = {}

    def add(self, name: str, data: bytes) -> Object:
        made = Object(digest(data), name, len(data))
        self.found.setdefault((made.digest, made.name), (made, data))
        return made

    def layer(self, name: str, tree: Tree) -> Layer:
        tar, index = _packed(tree)
        return Layer(name, self.add(f"{name}.tar", tar), self.add(f"{name}.index.json", index))


# Guests are alike in much of what they get, also across hosts.
@lru_cache(maxsize=64)
def _packed(tree: Tree) -> tuple[bytes, bytes]:
    """The tar of a layer, and its index."""
    out = io.BytesIO()
    packed = pack(tree, out)
    return out.getvalue(), manifest.dump_index(manifest.LayerIndex(packed.index))


def plan(network: Network, programs: Mapping[str, Program], host_program: bytes) -> Plan:
    """The release of a host's network; `programs` holds a layer for each pinned program used, and
    `host_program` is what installs it."""
    objects = _Objects()
    every = [a for kind in KINDS.values() for a in kind.artifacts(network)]
    targets = tuple(sorted((_target(objects, a) for a in _host_files(every)), key=_path))
    overlays = {m.guest.name: _layers(objects, every, m) for m in network.members}
    ordered = sorted(network.members, key=lambda m: (_START[m.guest.role], m.guest.id))
    guests = tuple(_guest(objects, network, m, overlays, programs) for m in ordered)
    kits = tuple(
        objects.layer(a.name, a.tree)
        for a in sorted((a for a in every if isinstance(a, KitFiles)), key=lambda a: a.name)
    )
    used = tuple(sorted({p for m in network.members for p in m.programs}))
    unready = () if network.trust else (NO_CA,)
    release = manifest.Release(
        site=network.site.name,
        host=network.host.name,
        domain=network.site.domain,
        platform=manifest.Platform(network.host.platform.kind, network.host.platform.version),
        reach=manifest.Reach(network.host.reach, network.host.user),
        management=_management(network),
        targets=targets,
        guests=guests,
        kits=kits,
        inputs=tuple(_input(programs[name]) for name in used),
        secrets=tuple(
            manifest.Secret(s.guest, s.name, 0o400, s.reference) for s in network.secrets
        ),
        network=objects.add("network.json", emit.canonical(describe(network)) + b"\n"),
        unready=unready,
        program=objects.add("phoenix", host_program),
    )
    return Plan(
        host=network.host.name,
        manifest=manifest.dump(release),
        objects=tuple(objects.found.values()),
        programs=used,
        artifacts=tuple(_made(targets, overlays, kits)),
        unready=unready,
    )


def _host_files(artifacts: Iterable[Artifact]) -> Iterable[HostFile]:
    return (a for a in artifacts if isinstance(a, HostFile))


def _path(target: manifest.Target) -> str:
    return target.path


def _target(objects: _Objects, file: HostFile) -> manifest.Target:
    content = objects.add(file.path.rpartition("/")[2], file.data)
    return manifest.Target(file.path, file.kind, file.merge, file.mode, "root:root", content)


def _layers(objects: _Objects, artifacts: Iterable[Artifact], member: Member) -> tuple[Layer, ...]:
    """One layer a kind, in the registry's order; their paths are apart, which `Tree` asserts."""
    own = [a for a in artifacts if isinstance(a, GuestFiles) and a.guest == member.guest.name]
    Tree.of(entry for a in own for entry in a.tree)
    return tuple(objects.layer(a.kind, a.tree) for a in own)


def _guest(
    objects: _Objects,
    network: Network,
    member: Member,
    overlays: Mapping[str, tuple[Layer, ...]],
    programs: Mapping[str, Program],
) -> manifest.GuestRef:
    guest = member.guest
    daemons: tuple[manifest.Daemon, ...] = ()
    if member.daemon:
        ports = tuple(manifest.Listener(x.port, x.a, x.b) for x in member.listeners)
        daemons = (manifest.Daemon(member.daemon, ports),)
    node = manifest.GuestNode(
        name=guest.name,
        id=guest.id,
        role=guest.role,
        restart=guest.restart,
        layers=(*(programs[p].layer for p in member.programs), *overlays[guest.name]),
        daemons=daemons,
        creation=tuple(sorted(creation(network, guest).items())),
    )
    stored = objects.add(f"{guest.name}.json", manifest.dump_guest(node))
    return manifest.GuestRef(guest.name, guest.id, stored)


def _input(program: Program) -> manifest.Input:
    return manifest.Input(program.name, program.version, program.kind, program.layer.tar.digest)


def _management(network: Network) -> tuple[str, ...]:
    """The host's own static addresses, those of an uplink first."""
    uplinks = [b.uplink for b in network.host.bridges if b.uplink]
    found = [u.address for u in uplinks] + [b.address for b in network.host.bridges]
    return tuple(dict.fromkeys(str(a.ip) for a in found if a is not None))


def _made(
    targets: Iterable[manifest.Target],
    overlays: Mapping[str, tuple[Layer, ...]],
    kits: Iterable[Layer],
) -> Iterable[Made]:
    for target in targets:
        yield Made(target.path, target.kind, target.content.digest)
    for guest in sorted(overlays):
        for layer in overlays[guest]:
            yield Made(f"{guest}/{layer.name}", layer.name, layer.tar.digest)
    for kit in kits:
        yield Made(f"kit/{kit.name}", "join", kit.tar.digest)
