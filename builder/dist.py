"""dist/ as it lies: where things are, what is there, and whether it is whole. Reads only.

    dist/store/<digest>-<name>              objects, read-only
    dist/releases/<host>/<serial>-<id>/     manifest.json, manifest.json.sig where it is signed, and
                                            what tells of its origin (`origin`)
    dist/<host>                             link to the release that was built last

The id in a folder's name is the first twelve digits. What is none of this is not looked at.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from . import disk, manifest, tree
from .manifest import Object
from .problems import UserError

MANIFEST = "manifest.json"
SIGNATURE = "manifest.json.sig"
RESERVED = frozenset({"store", "releases"})
SHORT = 12

_RELEASE = re.compile(r"(\d{4,})-([0-9a-f]{12})")
_OBJECT = re.compile(r"([0-9a-f]{64})-.+")


class Dist:
    """The folder dist/; it need not exist."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.objects = self.root / "store"
        self._objects = str(self.objects)  # asked for thousands of times; a Path is slow to join
        self.releases = self.root / "releases"

    def path(self, item: Object) -> Path:
        """Where the object lies, or would."""
        return self.objects / item.stored()

    def has(self, item: Object) -> bool:
        """Whether a file of the object's name and size is there; its bytes are not read."""
        return disk.size(f"{self._objects}/{item.stored()}") == item.size

    def names(self) -> frozenset[str]:
        """The names of all objects in the store, `<digest>-<name>`."""
        return frozenset(disk.names(self.objects))

    def read(self, item: Object) -> bytes:
        """The object's bytes, verified; UserError where they are missing or wrong."""
        data = disk.content(self.path(item))
        if tree.digest(data) != item.digest:
            what = "is damaged" if self.path(item).exists() else "is missing"
            raise UserError(f"{self.path(item)} {what}", "remove it, and build again")
        return data

    def newest(self, host: str) -> Path | None:
        """The folder of the host's release that was built last; None where there is none."""
        link = self.root / host
        return self.root / os.readlink(link) if link.is_symlink() and link.is_dir() else None

    def history(self, host: str) -> tuple[tuple[int, Path], ...]:
        """The host's releases as (serial, folder), oldest first."""
        folder = self.releases / host
        found = ((_RELEASE.fullmatch(name), name) for name in disk.names(folder))
        return tuple(sorted((int(match[1]), folder / name) for match, name in found if match))

    def find(self, host: str, data: bytes) -> tuple[Path | None, bool]:
        """The folder of the release with this manifest, and whether its manifest is whole."""
        short = manifest.identity(data)[:SHORT]
        for _, folder in self.history(host):
            if folder.name.endswith(f"-{short}"):
                held = disk.content(folder / MANIFEST)
                if held == data:
                    return folder, True
                # Another release may share the short id; only a damaged one is this one's.
                if not tree.digest(held).startswith(short):
                    return folder, False
        return None, False

    def faults(self) -> tuple[str, ...]:
        """Read every byte; what is damaged or missing, sorted, one line each."""
        return tuple(sorted({*self._damaged_objects(), *self._damaged_releases()}))

    def _damaged_objects(self) -> Iterator[str]:
        for name in disk.names(self.objects):
            match, path = _OBJECT.fullmatch(name), self.objects / name
            if match and _digest(path) != match[1]:
                yield f"{path}: its bytes are not those of its name"

    def _damaged_releases(self) -> Iterator[str]:
        for host in disk.names(self.releases):
            for _, folder in self.history(host):
                data = disk.content(folder / MANIFEST)
                if not folder.name.endswith(manifest.identity(data)[:SHORT]):
                    yield f"{folder / MANIFEST}: its bytes are not those of its folder's name"
                    continue
                yield from self._damaged(folder / MANIFEST, data)
            link = self.root / host
            if link.is_symlink() and not link.is_dir():
                yield f"{link}: its release is gone"

    def _damaged(self, path: Path, data: bytes) -> Iterator[str]:
        """Objects that a release names, at any depth, and that are not there."""
        try:
            release = manifest.parse(data)
            rest = [target.content for target in release.targets]
            rest += [release.network, *([release.program] if release.program else [])]
            layers = list(release.kits)
            for guest in release.guests:
                layers += manifest.parse_guest(self.read(guest.node)).layers
            for layer in layers:
                manifest.parse_index(self.read(layer.index))
                rest.append(layer.tar)
        except UserError as error:
            yield f"{path}: {error.message}"
            return
        for item in rest:
            if not self.has(item):
                yield f"{path}: {self.path(item)} is missing"


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""
