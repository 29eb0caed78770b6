"""A signing key for this run's tests, and releases signed with it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from builder import keys
from builder.host import files
from builder.host.paths import Paths


@functools.cache
def _key() -> tuple[tempfile.TemporaryDirectory[str], keys.Key]:
    folder = tempfile.TemporaryDirectory()
    return folder, keys.init(Path(folder.name, "key"), passphrase=False)


def signed(paths: Paths, manifest: bytes) -> bytes:
    """The signature of a manifest; the host takes its signer from now on."""
    files.write(paths.signers, _key()[1].allowed("tests").encode())
    return sign(manifest)


@functools.lru_cache(maxsize=64)
def sign(manifest: bytes) -> bytes:
    """The signature of a manifest."""
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, "manifest.json")
        path.write_bytes(manifest)
        _key()[1].sign([path])
        return path.with_name("manifest.json.sig").read_bytes()
