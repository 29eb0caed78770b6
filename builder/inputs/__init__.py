"""Inputs: the pinned programs from outside, each as a layer in a cache that is written once.

`load_lock` reads configs/inputs.lock (its format: `builder.inputs.lock`); `layer` gives a program's
layer, fetched at first need by the machine's own clients and by hash; `update` moves a pin. Nothing
here prints: what goes on is told to a `progress` callback, a line at a time.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from builder.inputs.cache import Cache, Progress
from builder.inputs.lock import Input, Lock, has_layer, load_lock

__all__ = [
    "Input",
    "Lock",
    "ProgramLayer",
    "Progress",
    "default_cache",
    "layer",
    "load_lock",
    "update",
]

_ROOT = Path(__file__).parent
_RECIPE = (_ROOT / "recipe.py", _ROOT.parent / "tree.py")


@dataclass(frozen=True, slots=True)
class ProgramLayer:
    """A program's layer in the cache: digest and size in bytes of the tar, and where it lies.

    `index_path` is JSON: {"digest", "size", "index": [as `builder.tree.Indexed.as_json`]}.
    `entries` are the lock's entries that it is made from: its own, and of a Go program the
    toolchain's.
    """

    name: str
    version: str
    digest: str
    size: int
    index_path: Path
    tar_path: Path
    entries: tuple[Input, ...]


def default_cache() -> Path:
    """$XDG_CACHE_HOME/phoenix/inputs, below ~/.cache where that is not set."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".cache"
    return base / "phoenix" / "inputs"


def layer(lock: Lock, name: str, cache: Path, progress: Progress) -> ProgramLayer:
    """The layer of the program `name`, from the cache or fetched into it.

    Of a layer in the cache the size is compared, its bytes are not read. Raises UserError for an
    unknown name, where no source gives the locked bytes, a client is missing, or the cache can't be
    written.
    """
    entry = lock.entry(name)
    assert has_layer(entry), f"{name} is a build tool"
    store, made = Cache(cache, progress), list[Path]()

    def make(folder: Path) -> Path:
        from builder.inputs import fetch

        made.append(fetch.make_layer(lock, entry, store, folder))
        return made[0]

    store.used(_places(entry))
    place = store.once(_key(entry), name, make, _whole)
    if made:
        store.used(place for each in lock.entries for place in _places(each))
        store.sweep()
    meta = json.loads((place / "meta.json").read_bytes())
    return ProgramLayer(
        meta["name"],
        meta["version"],
        meta["digest"],
        meta["size"],
        place / "index.json",
        place / "layer.tar",
        (entry, *lock.tools(entry)),
    )


def _places(entry: Input) -> list[str]:
    """What an entry of the lock stands for in the cache."""
    return [_key(entry), *(f"files/{pin.sha256}" for pin in entry.pins)]


def _whole(place: Path) -> bool:
    try:
        size = json.loads((place / "meta.json").read_bytes())["size"]
        return (place / "layer.tar").stat().st_size == size and (place / "index.json").is_file()
    except (OSError, ValueError, LookupError, TypeError):
        return False


def update(
    lock_path: Path, name: str | None, progress: Progress, cache: Path | None = None
) -> list[str]:
    """Move the pin of the input `name`, or of all, to the newest version its client offers.

    Rewrites the lock and returns what changed, a line each; none where nothing is newer. Raises
    UserError, with the lock unchanged, for an unknown name or where a client gives no answer.
    """
    from builder.inputs import move

    return move.update(lock_path, name, Cache(cache or default_cache(), progress))


def _key(entry: Input) -> str:
    """What a layer's bytes follow from: the lock's entry, and the code that makes it a layer."""
    said = json.dumps([entry.name, entry.as_json()], sort_keys=True).encode()
    code = [path.read_bytes() for path in _RECIPE]
    return hashlib.sha256(b"\0".join([said, *code])).hexdigest()
