"""The pinned programs, unpacked once beside the judges' root, for judging with just these.

A program's folder is cached by its layer's digest, so that what judges is what is delivered.
"""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from builder.inputs import ProgramLayer, default_cache, layer, load_lock
from tests.judges import rootfs

_LOCK = Path(__file__).parents[2] / "configs" / "inputs.lock"
# What judges and is not delivered.
_OWN = Path(__file__).with_name("inputs.lock")
_JUDGES = frozenset({"prometheus"})
_LIBRARIES = "usr/lib/x86_64-linux-gnu"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@functools.cache
def folder(name: str) -> Path:
    """The folder of the pinned program `name`: what a guest has at programs/NAME, or a judge.

    Fetched, or built, at first need; raises UserError as `builder.inputs.layer` does.
    """
    packed = layer(load_lock(_OWN if name in _JUDGES else _LOCK), name, default_cache(), _say)
    final = rootfs.cache() / "programs" / packed.digest
    if not final.is_dir():
        _unpack(packed, final)
    return final / "programs" / name


def _unpack(packed: ProgramLayer, final: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    with rootfs.locked(final.parent / "lock"):
        if final.is_dir():
            return
        for left in final.parent.glob("making-*"):  # by one who was killed
            shutil.rmtree(left)
        with tempfile.TemporaryDirectory(prefix="making-", dir=final.parent) as making:
            made = Path(making) / "layer"
            made.mkdir(mode=0o755)
            command = ["tar", "--extract", "--file", str(packed.tar_path), "--directory", str(made)]
            subprocess.run(command, check=True, timeout=300)
            made.rename(final)


def environment(name: str, at: str) -> dict[str, str]:
    """What the program `name`, seen in a guest at `at`, needs to find libraries of its own."""
    if (folder(name) / _LIBRARIES).is_dir():
        return {"LD_LIBRARY_PATH": f"{at}/{_LIBRARIES}"}
    return {}


def binds(names: Iterable[str], below: str) -> dict[str, Path]:
    """Binds for a space that shows each of the programs at BELOW/programs/NAME."""
    return {f"{below}/programs/{name}": folder(name) for name in names}
