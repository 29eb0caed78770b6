"""Projects for tests to build: the reference with programs of a few bytes, offline and in a second.

A project is a copy of what a build reads; `invoke` runs a command in it as a person would. Its
inputs' cache holds a made-up layer for each pinned program.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from builder import fresh, inputs, tree
from builder.dist import Dist
from builder.inputs.lock import Lock, has_layer, load_lock

ROOT = Path(__file__).resolve().parent.parent


def project(root: Path) -> Path:
    """Copy the project to `root`/project, and make its inputs' cache beside it."""
    place = root / "project"
    left_out = shutil.ignore_patterns("__pycache__")
    for part in fresh.READ:
        shutil.copytree(ROOT / part, place / part, symlinks=True, ignore=left_out)
    shutil.copy(ROOT / "tasks.py", place)
    fill(load_lock(place / "configs" / "inputs.lock"), root / "cache" / "phoenix" / "inputs")
    return place


def fill(lock: Lock, cache: Path) -> None:
    """Put a layer with one small file into the cache for each program that is pinned."""
    for name in json.loads((ROOT / "configs" / "inputs.lock").read_text())["inputs"]:
        entry = lock.entry(name)
        if not has_layer(entry):
            continue
        folder, out = cache / inputs._key(entry), io.BytesIO()
        file = tree.File(f"programs/{name}/{name}", f"{name}\n".encode(), 0o755)
        packed = tree.pack(tree.Tree.of([file]), out)
        head = {"digest": packed.digest, "size": packed.size}
        index = {**head, "index": [each.as_json() for each in packed.index]}
        folder.mkdir(parents=True)
        (folder / "layer.tar").write_bytes(out.getvalue())
        (folder / "index.json").write_text(json.dumps(index))
        (folder / "meta.json").write_text(json.dumps({"name": name, "version": "1.0", **head}))


def environment(root: Path, **more: str) -> dict[str, str]:
    """What commands in the project `root` run in: its own cache, and no key of the caller's."""
    beside = root.parent
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    places = {"HOME": str(beside), "XDG_CACHE_HOME": str(beside / "cache")}
    return {**kept, **places, "XDG_CONFIG_HOME": str(beside / "config"), **more}


def command(*words: str) -> list[str]:
    """The command line of `invoke` with these words."""
    return [sys.executable, "-m", "invoke", *words]


def invoke(root: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `invoke` in the project; `more` is added to its environment."""
    return subprocess.run(
        command(*words), cwd=root, env=environment(root, **more), capture_output=True, text=True
    )


def built(root: Path, *words: str, **more: str) -> dict[str, Any]:
    """What `invoke build --json` says of each host; an AssertionError where it fails."""
    done = invoke(root, "build", "--json", *words, **more)
    assert done.returncode == 0, done.stdout + done.stderr
    hosts: dict[str, Any] = json.loads(done.stdout)["hosts"]
    return hosts


def edit(root: Path, name: str, old: str, new: str) -> None:
    """Change the first `old` in a file below configs/ to `new`; a build meanwhile sees either."""
    path = root / "configs" / name
    text = path.read_text()
    assert old in text, f"{name} has no {old!r}"
    edited = path.with_name(f"{path.name}~")
    edited.write_text(text.replace(old, new, 1))
    edited.replace(path)


def assert_valid(root: Path) -> None:
    """dist/ holds whole objects and releases only, and nothing that a build left half-done."""
    dist = root / "dist"
    assert not Dist(dist).faults()
    left = [name for name in os.listdir(dist) if name.startswith((".staging", ".stamp.", ".memo."))]
    assert not left
