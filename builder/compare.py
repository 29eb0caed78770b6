"""`invoke diff A B`: find two releases in dist/, read them, and show how they differ."""

from __future__ import annotations

import difflib
import json as json_module
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from builder import cli, disk, manifest
from builder.differ import differences
from builder.dist import MANIFEST, Dist
from builder.manifest import Layer, Object, Release
from builder.problems import UserError, known
from builder.tree import Indexed


@dataclass(frozen=True, slots=True)
class Found:
    """A release in dist/ with the name that it was asked by."""

    asked: str
    id: str
    release: Release


def show(root: Path, a: str, b: str, *, text: bool, json: bool) -> None:
    """Print the differences from release `a` to release `b`.

    Each is named by a host (its newest), "HOST~N" (N releases before), the first digits of an id,
    or a path. Raises UserError for one that is not there, or is damaged.
    """
    store = Dist(root / "dist")
    old, new = find(store, a), find(store, b)
    found = differences(_description(store, old), _description(store, new))
    changed = list(_changed_files(store, old, new))
    if json:
        cli.emit(
            {
                "from": old.id,
                "to": new.id,
                "differences": [asdict(d) for d in found],
                "files": [{"path": path} for path, _, _ in changed],
            }
        )
        return
    if not found and not changed:
        print(f"no difference between {old.id[:12]} and {new.id[:12]}")
    for difference in found:
        print(difference.render())
    for path, was, now in changed:
        if text:
            lines = _lines(path, _content(store, was), _content(store, now))
            print("".join(lines), end="")
        else:
            print(f"  file {path}{' new' if was is None else ' gone' if now is None else ''}")


def find(store: Dist, asked: str) -> Found:
    """The release that `asked` means; UserError where there is none, or several."""
    host, _, back = asked.partition("~")
    history = store.history(host) if host and "/" not in host else ()
    if history and (not back or back.isdecimal()):
        newest = store.newest(host)
        folders = [folder for _, folder in history if folder != newest]
        folders += [newest] if newest else []
        if int(back or 0) >= len(folders):
            raise UserError(f"host '{host}' has only {len(folders)} releases in dist/")
        return _read(asked, folders[-1 - int(back or 0)])
    if (Path(asked) / MANIFEST).is_file():
        return _read(asked, Path(asked))
    matching = [
        folder
        for folder in store.releases.glob("*/*")
        if len(asked) >= 4 and folder.name.partition("-")[2].startswith(asked[:12])
    ]
    matching = [
        f for f in matching if manifest.identity(disk.content(f / MANIFEST)).startswith(asked)
    ]
    if len(matching) == 1:
        return _read(asked, matching[0])
    if matching:
        raise UserError(f"several releases have an id that begins with '{asked}'")
    hosts = [folder.name for folder in store.releases.glob("*")]
    raise UserError(f"no release is called '{asked}'; {known(asked, hosts)}", "./invoke build")


def _read(asked: str, folder: Path) -> Found:
    data = disk.content(folder / MANIFEST)
    if not data:
        raise UserError(f"{folder / MANIFEST} is missing", "./invoke build")
    return Found(asked, manifest.identity(data), manifest.parse(data))


def _description(store: Dist, found: Found) -> Mapping[str, Any]:
    described: dict[str, Any] = json_module.loads(store.read(found.release.network))
    described["programs"] = {i.name: i.version for i in found.release.inputs}
    return described


_File = tuple[Object | Layer, Indexed | None]


def _changed_files(
    store: Dist, old: Found, new: Found
) -> Iterator[tuple[str, _File | None, _File | None]]:
    was, now = _files(store, old.release), _files(store, new.release)
    for path in sorted({*was, *now}):
        before, after = was.get(path), now.get(path)
        if _digest(before) != _digest(after):
            yield path, before, after


def _files(store: Dist, release: Release) -> dict[str, _File]:
    """Every file of a release by a path that tells where it belongs."""
    found: dict[str, _File] = {t.path: (t.content, None) for t in release.targets}
    layers = [(f"kit/{layer.name}", layer) for layer in release.kits]
    for guest in release.guests:
        node = manifest.parse_guest(store.read(guest.node))
        layers += [(f"{guest.name}:", layer) for layer in node.layers]
    for place, layer in layers:
        for entry in manifest.parse_index(store.read(layer.index)).entries:
            found[f"{place}/{entry.path}"] = (layer, entry)
    return found


def _digest(file: _File | None) -> str:
    if file is None:
        return ""
    held, entry = file
    if entry is None:
        assert isinstance(held, Object)
        return held.digest
    return entry.digest or entry.target


def _content(store: Dist, file: _File | None) -> bytes | None:
    if file is None:
        return None
    held, entry = file
    if isinstance(held, Object):
        return store.read(held)
    assert entry is not None
    if entry.target:
        return f"link to {entry.target}\n".encode()
    with disk.telling(store.objects), store.path(held.tar).open("rb") as tar:
        tar.seek(entry.offset)
        return tar.read(entry.size)


def _lines(path: str, was: bytes | None, now: bytes | None) -> Iterator[str]:
    try:
        old = (was or b"").decode().splitlines(keepends=True)
        new = (now or b"").decode().splitlines(keepends=True)
    except UnicodeDecodeError:
        yield f"binary file {path} differs\n"
        return
    names = ("/dev/null" if was is None else path, "/dev/null" if now is None else path)
    for line in difflib.unified_diff(old, new, *names):
        yield line if line.endswith("\n") else f"{line}\n"
