"""configs/ → dist/: load, derive, plan and store each host's release, as one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from builder import inputs, manifest, memo, origin
from builder.derive import derive
from builder.flows import plain
from builder.load import Config, load
from builder.manifest import Layer, LayerIndex, Object
from builder.network import Network, PlainHop
from builder.plan import Made, Plan, Program, plan
from builder.program import host_program
from builder.store import Signer, Store, Transaction
from builder.tree import LINK_MODE, Indexed, digest

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did for one host; `made` counts the artifacts that were not in dist/ before."""

    host: str
    release: str
    folder: Path
    signed: bool
    made: int
    artifacts: tuple[Made, ...]
    programs: tuple[str, ...]
    plain: tuple[PlainHop, ...]
    unready: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cached:
    """A program's layer, the file in the cache of inputs that holds its tar, and its origin."""

    program: Program
    tar: Path
    index: bytes
    entries: tuple[inputs.Input, ...]


def build(
    root: Path, only: Sequence[str], signer: Signer | None, progress: Progress
) -> tuple[Built, ...]:
    """Build the hosts in `only` (all where empty) from `root`/configs into `root`/dist.

    Nothing is in dist/ unless all of it is. Raises ConfigError and UserError.
    """
    progress("reading configs/")
    networks = derived(load(root, only))
    cached = fetch(root, needed(networks), progress)
    store, remembered = Store(root / "dist"), root / "dist" / ".memo"
    programs = {name: each.program for name, each in cached.items()}
    entries = {name: each.entries for name, each in cached.items()}
    planner = _Planner(programs, memo.code(root), memo.read(remembered))
    with store.transaction(signer) as transaction:
        for program in cached.values():
            transaction.put_file(program.program.layer.tar, program.tar)
            transaction.put(program.program.layer.index, program.index)
        there = store.names()
        for network in networks:
            planned = planner.planned(network, there, progress)
            for item, data in planned.objects:
                transaction.put(item, data)
            beside = origin.beside(planned.manifest, entries)
            transaction.release(planned.host, planned.manifest, beside)
    known = {network.host.name: planner.known[network.host.name] for network in networks}
    # A build of all hosts forgets those that are gone.
    memo.write(remembered, planner.known if only else known)
    progress("")
    new = {name.partition("-")[0] for name in transaction.made}
    return tuple(_built(transaction, each, new) for each in known.values())


class _Planner:
    """Plans hosts, each only where it is not known already from the very same sources.

    `known` keeps of each plan all but the objects' bytes, so that many hosts take no more memory
    than one.
    """

    def __init__(
        self, programs: Mapping[str, Program], built_by: str, known: Mapping[str, memo.Known]
    ) -> None:
        self.programs, self.built_by, self.known = programs, built_by, dict(known)
        self.host_program = host_program()

    def planned(self, network: Network, there: Container[str], progress: Progress) -> Plan:
        """The plan of a host; without objects where all of them are `there` already."""
        host = network.host
        programs = self.programs.values()
        key = memo.key(self.built_by, network.site, host, network.trust, programs)
        known = self.known.get(host.name)
        if known and known.key == key and all(name in there for name in known.objects):
            return known.planned
        progress(f"building {host.name}")
        planned = plan(network, self.programs, self.host_program)
        objects = tuple(item.stored() for item, _ in planned.objects)
        slim = replace(planned, objects=())
        self.known[host.name] = memo.Known(key, slim, objects, plain(network))
        return planned


def derived(config: Config) -> tuple[Network, ...]:
    """The network of each host, sorted by name; some 15 KiB each."""
    return tuple(derive(config.site, host, config.trust[host.name]) for host in config.hosts)


def needed(networks: Iterable[Network]) -> tuple[str, ...]:
    """The names of all pinned programs that the hosts' guests run, sorted."""
    programs = (p for network in networks for member in network.members for p in member.programs)
    return tuple(sorted(set(programs)))


def fetch(root: Path, names: Iterable[str], progress: Progress) -> dict[str, Cached]:
    """The layers of pinned programs, from the cache or fetched into it; UserError where not."""
    lock = inputs.load_lock(root / "configs" / "inputs.lock")
    return {
        name: _cached(
            inputs.layer(lock, name, inputs.default_cache(), progress),
            str(lock.entry(name).as_json()["kind"]),
        )
        for name in names
    }


def _cached(layer: inputs.ProgramLayer, kind: str) -> Cached:
    data: Mapping[str, list[Mapping[str, str | int]]] = json.loads(layer.index_path.read_bytes())
    index = manifest.dump_index(LayerIndex(tuple(_indexed(e) for e in data["index"])))
    tar = Object(layer.digest, f"{layer.name}.tar", layer.size)
    node = Object(digest(index), f"{layer.name}.index.json", len(index))
    program = Program(layer.name, layer.version, kind, Layer(f"program-{layer.name}", tar, node))
    return Cached(program, layer.tar_path, index, layer.entries)


def _indexed(entry: Mapping[str, str | int]) -> Indexed:
    path = str(entry["path"])
    if "target" in entry:
        return Indexed(path, LINK_MODE, 0, "", 0, str(entry["target"]))
    mode, size, offset = int(str(entry["mode"]), 8), int(entry["size"]), int(entry["offset"])
    return Indexed(path, mode, size, str(entry["digest"]), offset)


def _built(transaction: Transaction, known: memo.Known, new: Container[str]) -> Built:
    kept, planned = transaction.kept[known.planned.host], known.planned
    return Built(
        host=planned.host,
        release=kept.id,
        folder=kept.folder,
        signed=kept.signed,
        made=sum(made.digest in new for made in planned.artifacts),
        artifacts=planned.artifacts,
        programs=planned.programs,
        plain=known.plain,
        unready=planned.unready,
    )
