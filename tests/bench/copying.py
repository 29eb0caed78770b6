"""Nix's copy of what it built to a host that has what came before: nix-copy-closure, counted."""

from __future__ import annotations

import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

from tests.bench.nix import Nix

_SSH = """\
#!/bin/sh
export NIX_REMOTE='local?root={store}'
tee -a {folder}/to | nix-store --serve --write | tee -a {folder}/from
"""


@dataclass(frozen=True, slots=True)
class Copied:
    """Bytes that went each way, as gzip packs them, which is what ssh's compression does."""

    to: int
    back: int


def copied(nix: Nix, folder: Path) -> Copied:
    """Build, and copy all of it to the host beside, which keeps what it has for the next time."""
    folder.mkdir()
    (folder / "ssh").write_text(_SSH.format(store=nix.root / "host", folder=folder))
    (folder / "ssh").chmod(0o755)
    environment = dict(nix.environment())
    environment["PATH"] = f"{folder}:{environment['PATH']}"
    build = ["nix-build", "--no-out-link", "--quiet", "-A", "linked"]
    made = subprocess.run(
        build, cwd=nix.tree, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, check=True,
    )  # fmt: skip
    copy = ["nix-copy-closure", "--to", "host", *made.stdout.split()]
    subprocess.run(copy, env=environment, capture_output=True, check=True)
    return Copied(*(_packed(folder / name) for name in ("to", "from")))


def _packed(file: Path) -> int:
    engine, size = zlib.compressobj(6, wbits=31), 0
    with file.open("rb") as stream:
        while chunk := stream.read(1 << 20):
            size += len(engine.compress(chunk))
    return size + len(engine.flush())
