"""Nix doing the same: the files of our releases, from sources that lie there ready.

Nix gets what our build has to work out, and its store holds the programs beforehand. Each round
begins with a store of its own that holds nothing else. No sandbox, no substitutes, all cores.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Literal

from builder import manifest
from builder.dist import MANIFEST, Dist
from builder.manifest import Layer, Object, Release
from tests.bench.measure import Run, run

Formulation = Literal["linked", "whole"]

EXPRESSION = Path(__file__).with_name("default.nix")

_SETTINGS = """
build-users-group =
max-jobs = auto
sandbox = false
substitute = false
keep-build-log = false
"""


class Nix:
    """A folder with artifacts of releases in dist/, a store, and a fresh store to begin from."""

    def __init__(self, root: Path, dist: Path) -> None:
        self.root, self.tree = root, root / "tree"
        (root / "settings").mkdir(parents=True)
        (root / "settings" / "nix.conf").write_text(_SETTINGS)
        self.tree.mkdir()
        shutil.copy(EXPRESSION, self.tree)
        self.dist = Dist(dist)
        self.programs: dict[str, dict[str, dict[str, str]]] = {}
        self._added: dict[str, str] = {}
        self.take(p.name for p in dist.iterdir() if p.is_symlink())
        (root / "now").rename(root / "fresh")

    def take(self, hosts: Iterable[str]) -> None:
        """Lay out the artifacts of these hosts' newest releases."""
        for host in hosts:
            folder = self.tree / "artifacts" / host
            shutil.rmtree(folder, ignore_errors=True)
            newest = self.dist.newest(host)
            assert newest is not None, host
            self._take(manifest.parse((newest / MANIFEST).read_bytes()), folder)
        (self.tree / "programs.json").write_text(json.dumps(self.programs))

    def cold(self, formulation: Formulation) -> Run:
        """A build in a fresh store."""
        remove(self.root / "now")
        shutil.copytree(
            self.root / "fresh", self.root / "now", copy_function=_copied, symlinks=True
        )
        return self.build(formulation)

    def begun(self) -> bool:
        """Whether there is a store to build on."""
        return (self.root / "now").exists()

    def build(self, formulation: Formulation) -> Run:
        """A build of all hosts in the store as it is."""
        command = ["nix-build", "--no-out-link", "--quiet", "-A", formulation]
        return run(command, self.tree, self.environment())

    def remove(self) -> None:
        """Remove all of it."""
        remove(self.root)

    def environment(self) -> Mapping[str, str]:
        """What Nix's programs run in: this store, and no other."""
        now = self.root / "now"
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root),
            "NIX_CONF_DIR": str(self.root / "settings"),
            "NIX_STORE_DIR": str(now / "store"),
            "NIX_STATE_DIR": str(now / "state"),
            "NIX_LOG_DIR": str(now / "log"),
        }

    def _take(self, release: Release, folder: Path) -> None:
        programs = {each.digest: each.name for each in release.inputs}
        files = folder / "files"
        files.mkdir(parents=True)
        for target in release.targets:
            data = self.dist.read(target.content)
            (files / re.sub(r"[^A-Za-z0-9.]+", "-", target.path[1:])).write_bytes(data)
        for kit in release.kits:
            self._unpack(kit, files / f"kit-{kit.name}")
        for ref in release.guests:
            guest = manifest.parse_guest(self.dist.read(ref.node))
            place = folder / "guests" / guest.name
            place.mkdir(parents=True)
            of_guest = self.programs.setdefault(release.host, {}).setdefault(guest.name, {})
            for layer in guest.layers:
                if layer.tar.digest in programs:
                    of_guest[layer.name] = self._program(layer.tar)
                else:
                    self._unpack(layer, place / layer.name)

    def _unpack(self, layer: Layer, folder: Path) -> None:
        data = self.dist.read(layer.tar)
        folder.mkdir()
        for entry in manifest.parse_index(self.dist.read(layer.index)).entries:
            path = folder / entry.path
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry.target:
                path.symlink_to(entry.target)
            else:
                path.write_bytes(data[entry.offset : entry.offset + entry.size])
                path.chmod(entry.mode)

    def _program(self, tar: Object) -> str:
        if tar.digest not in self._added:
            command = ["nix-store", "--add", str(self.dist.path(tar))]
            done = subprocess.run(
                command, env=self.environment(), capture_output=True, text=True, check=True
            )
            self._added[tar.digest] = done.stdout.strip()
        return self._added[tar.digest]


def _copied(source: str, target: str) -> None:
    """Objects are linked, as ours are; Nix's database is written to, and copied."""
    if "/store/" in source:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def remove(folder: Path) -> None:
    """Remove a folder that holds stores, also where Nix took away the right to write."""
    for place in _folders(folder) if os.geteuid() else ():
        place.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _folders(folder: Path) -> Iterator[Path]:
    for place, folders, _ in os.walk(folder):
        yield from (Path(place, each) for each in folders)
