"""What the cache keeps and what it lets go; whose folders it takes away."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from builder.inputs.cache import KEPT, Cache
from tests.inputs.helpers import address, digest, get, left, lock

OLD = time.time() - KEPT - 3600


def silent(line: str) -> None:
    """No progress."""


def age(cache: Path) -> None:
    """Let all that the cache holds be of long ago."""
    for path in [*cache.iterdir(), *cache.rglob("*")]:
        os.utime(path, (OLD, OLD))


def source(folder: Path, name: str) -> dict[str, object]:
    """An input that is a file with its own name in it, whose times are long ago as well."""
    path = folder / name
    path.write_bytes(name.encode())
    os.utime(path, (OLD, OLD))
    return address(path.as_uri(), name.encode())


def test_what_no_build_has_used_for_long_goes_once_something_is_fetched(tmp_path: Path) -> None:
    cache, before = tmp_path / "cache", {"kept": source(tmp_path, "kept")}
    gone = get(lock(tmp_path, gone=source(tmp_path, "gone")), "gone", cache)[0]
    kept = get(lock(tmp_path, **before), "kept", cache)[0]
    (cache / "tmp" / "killed.1").mkdir()
    (cache / "tmp" / "killed.1" / "half").touch()
    (cache / "notes").write_text("mine")
    age(cache)
    # That one layer is found sweeps nothing; it is in use from now on, and its file with it.
    locked = lock(tmp_path, **before)
    assert get(locked, "kept", cache) == (kept, [])
    assert gone.tar_path.exists()
    # Neither goes what the same lock names, though nobody has asked for it yet.
    other = lock(tmp_path, **before, new=source(tmp_path, "new"))
    age(cache)
    new = get(other, "new", cache)[0]
    layers = sorted(str(path.parent.relative_to(cache)) for path in (kept.tar_path, new.tar_path))
    assert sorted({path.partition("/")[0] for path in left(cache)}) == [*layers, "files", "notes"]
    assert sorted(os.listdir(cache / "files")) == sorted([digest(b"kept"), digest(b"new")])
    assert os.listdir(cache / "tmp") == []


@pytest.mark.parametrize("way", ["found", "made"])
def test_what_was_used_lately_stays(way: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    locked = lock(tmp_path, tool=source(tmp_path, "tool"))
    tool = get(locked, "tool", cache)[0]
    if way == "found":
        age(cache)
        get(locked, "tool", cache)
    get(lock(tmp_path, other=source(tmp_path, "other")), "other", cache)
    assert tool.tar_path.exists()
    assert (cache / "files" / digest(b"tool")).exists()


def test_a_sweep_leaves_what_is_noted_as_used_and_what_has_just_been_made(tmp_path: Path) -> None:
    cache = Cache(tmp_path, silent)
    for name in "012":
        cache.once(name * 64, name, _file)
    age(tmp_path)
    cache.used(["0" * 64, "f" * 64])
    cache.once("3" * 64, "3", _file)
    cache.sweep()
    assert sorted(os.listdir(tmp_path)) == ["0" * 64, "3" * 64, "locks", "tmp"]


def _file(folder: Path) -> Path:
    """A file as a client leaves it, with the times that the server gave it."""
    (folder / "made").write_text("made")
    os.utime(folder / "made", (OLD, OLD))
    return folder / "made"


def test_a_scratch_folder_of_a_longer_name_is_another_ones(tmp_path: Path) -> None:
    cache = Cache(tmp_path, silent)
    with cache.scratch("go.old") as other, cache.scratch("go") as mine:
        assert other.is_dir()
        assert mine.is_dir()
