"""A configuration rendered without inputs or a store: what the kinds' tests and goldens look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from builder.derive import derive
from builder.kinds import KINDS
from builder.kinds.artifact import Artifact, GuestFiles, HostFile
from builder.load import load
from builder.manifest import Layer, LayerIndex, Object, dump_index
from builder.network import Network
from builder.plan import Program
from builder.tree import Link, Tree, digest

INDEX = dump_index(LayerIndex(()))
"""The index of each program in `PROGRAMS`: they have no files."""


def _program(name: str) -> Program:
    tar = Object("0" * 64, f"{name}.tar", 1)
    index = Object(digest(INDEX), f"{name}.index.json", len(INDEX))
    return Program(name, "1.0", "url", Layer(f"program-{name}", tar, index))


PROGRAMS: Mapping[str, Program] = {
    name: _program(name) for name in ("lego", "nftables", "nginx", "step-ca", "traefik")
}


def networks(root: Path) -> dict[str, Network]:
    """The network of each host in `root`/configs."""
    config = load(root)
    return {h.name: derive(config.site, h, config.trust[h.name]) for h in config.hosts}


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """Everything that the kinds make of a network."""
    return tuple(a for kind in KINDS.values() for a in kind.artifacts(network))


def files(network: Network) -> dict[str, tuple[bytes, int]]:
    """Every file by where it belongs: host/PATH, guest/NAME/PATH, kit/NAME/PATH → bytes, mode.

    A link's bytes are "→ TARGET", its mode 0.
    """
    found: dict[str, tuple[bytes, int]] = {}
    for artifact in artifacts(network):
        if isinstance(artifact, HostFile):
            found[f"host{artifact.path}"] = (artifact.data, artifact.mode)
        elif isinstance(artifact, GuestFiles):
            _spread(found, f"guest/{artifact.guest}", artifact.tree)
        else:
            _spread(found, f"kit/{artifact.name}", artifact.tree)
    return found


def _spread(found: dict[str, tuple[bytes, int]], place: str, tree: Tree) -> None:
    for entry in tree:
        at = f"{place}/{entry.path}"
        assert at not in found, at
        if isinstance(entry, Link):
            found[at] = (f"→ {entry.target}\n".encode(), 0)
        else:
            found[at] = (entry.data, entry.mode)
