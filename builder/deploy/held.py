"""A release of dist/, read whole, that may be deployed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import manifest
from builder.dist import MANIFEST, SIGNATURE, Dist
from builder.manifest import GuestNode, Release
from builder.problems import UserError

from . import contents


@dataclass(frozen=True, slots=True)
class Ready:
    """A release of dist/ that may be deployed, read whole."""

    root: Path
    data: bytes
    signature: bytes
    release: Release
    nodes: tuple[GuestNode, ...]
    files: contents.Files
    network: Mapping[str, Any]

    @property
    def id(self) -> str:
        return manifest.identity(self.data)


def ready(root: Path, host: str) -> Ready:
    """The host's newest release; UserError for one that can't be deployed."""
    dist = Dist(root / "dist")
    folder = dist.newest(host)
    if folder is None:
        raise UserError(f"host '{host}' has no release in dist/", f"./invoke build --host {host}")
    data = (folder / MANIFEST).read_bytes()
    release = manifest.parse(data)
    if release.unready:
        raise UserError(f"{host} is not to be deployed: {'; '.join(release.unready)}")
    if not (folder / SIGNATURE).is_file():
        hint = f"./invoke key.init, if you have no key; then ./invoke build --host {host}"
        raise UserError(f"the release {folder.name} of {host} is unsigned", hint)
    return Ready(
        root=root,
        data=data,
        signature=(folder / SIGNATURE).read_bytes(),
        release=release,
        nodes=tuple(manifest.parse_guest(dist.read(ref.node)) for ref in release.guests),
        files=contents.files(dist, release),
        network=json.loads(dist.read(release.network)),
    )
