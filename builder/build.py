"""configs/ → dist/: load, derive, plan and store each host's release, as one transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import inputs, manifest
from builder.derive import derive
from builder.load import Config, load
from builder.manifest import Layer, LayerIndex, Object
from builder.network import PlainHop
from builder.plan import Made, Plan, Program, plan
from builder.store import Signer, Store, Transaction
from builder.tree import Indexed, digest

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
    plain: tuple[PlainHop, ...]
    unready: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cached:
    """A program's layer with the file in the cache of inputs that holds its tar."""

    program: Program
    tar: Path
    index: bytes


def build(
    root: Path, only: Sequence[str], signer: Signer | None, progress: Progress
) -> tuple[Built, ...]:
    """Build the hosts in `only` (all where empty) from `root`/configs into `root`/dist.

    Nothing is in dist/ unless all of it is. Raises ConfigError and UserError.
    """
    progress("reading configs/")
    config = load(root, only)
    programs = fetch(root, needed(config), progress)
    store, results = Store(root / "dist"), list[tuple[Plan, tuple[PlainHop, ...]]]()
    with store.transaction(signer) as transaction:
        for cached in programs.values():
            transaction.put_file(cached.program.layer.tar, cached.tar)
            transaction.put(cached.program.layer.index, cached.index)
        for host in config.hosts:
            progress(f"building {host.name}")
            network = derive(config.site, host, config.trust[host.name])
            planned = plan(network, {name: c.program for name, c in programs.items()})
            _add(transaction, planned)
            results.append((_slim(planned), network.plain))
    progress("")
    return tuple(_built(transaction, *result) for result in results)


def needed(config: Config) -> tuple[str, ...]:
    """The names of all pinned programs that the hosts' guests run, sorted."""
    found: set[str] = set()
    for host in config.hosts:
        network = derive(config.site, host)
        found.update(p for member in network.members for p in member.programs)
    return tuple(sorted(found))


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
    program = Program(layer.name, layer.version, kind, Layer(layer.name, tar, node))
    return Cached(program, layer.tar_path, index)


def _indexed(entry: Mapping[str, str | int]) -> Indexed:
    path = str(entry["path"])
    if "target" in entry:
        return Indexed(path, 0o777, 0, "", 0, str(entry["target"]))
    mode, size, offset = int(str(entry["mode"]), 8), int(entry["size"]), int(entry["offset"])
    return Indexed(path, mode, size, str(entry["digest"]), offset)


def _add(transaction: Transaction, planned: Plan) -> None:
    for item, data in planned.objects:
        transaction.put(item, data)
    transaction.release(planned.host, planned.manifest)


def _slim(planned: Plan) -> Plan:
    """The plan without its objects' bytes, so that many hosts take no more memory than one."""
    return Plan(planned.host, b"", (), planned.programs, planned.artifacts, planned.unready)


def _built(transaction: Transaction, planned: Plan, plain: tuple[PlainHop, ...]) -> Built:
    kept = transaction.kept[planned.host]
    new = {name.partition("-")[0] for name in transaction.made}
    return Built(
        planned.host,
        kept.id,
        kept.folder,
        kept.signed,
        sum(made.digest in new for made in planned.artifacts),
        planned.artifacts,
        plain,
        planned.unready,
    )
