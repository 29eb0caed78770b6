"""The releases that a host keeps, by the number they got there.

Beside a release's manifest lies which bundle of secrets each of its guests uses.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from . import files, signed
from .paths import Paths
from .release import Release, canonical, digest, release
from .schema import RefusedError
from .state import Record
from .store import NODE, Store

_MANIFEST, _SIGNATURE, _BUNDLES = "manifest.json", "manifest.json.sig", "bundles.json"
_PINNED, _RAN = "pinned", "ran"
_DAY = 24 * 3600
"""How long a file that came in part waits for its rest, in seconds."""


class Kept(NamedTuple):
    """A kept generation: its number, and its release's manifest. What is asked of all of them is
    read without the schema, which they passed when they came."""

    number: int
    data: bytes

    @property
    def id(self) -> str:
        """Its release's id."""
        return digest(self.data)

    @property
    def release(self) -> Release:
        """Its release; raises RefusedError where it is none any more."""
        return release(self.data)

    @property
    def reach(self) -> dict[str, str]:
        """The address and the user by which its release is reached."""
        try:
            reach = json.loads(self.data)["reach"]
            return {key: str(reach[key]) for key in ("address", "user")}
        except (ValueError, LookupError, TypeError) as error:
            raise RefusedError(f"generation {self.number} was altered: {error!r}") from error


def all_kept(paths: Paths) -> list[Kept]:
    """Every kept generation, oldest first; one without a manifest is being deleted."""
    found = ((n, files.read(paths.generation(n) / _MANIFEST)) for n in numbers(paths))
    return [Kept(number, data) for number, data in found if data is not None]


def numbers(paths: Paths) -> list[int]:
    """Their numbers, ascending."""
    if not paths.generations.exists():
        return []
    return sorted(int(each.name) for each in paths.generations.iterdir() if each.name.isdigit())


def kept(paths: Paths, number: int) -> Kept:
    """One kept generation; raises RefusedError where it is not there."""
    data = files.read(paths.generation(number) / _MANIFEST)
    if data is None:
        raise RefusedError(f"there is no generation {number}")
    return Kept(number, data)


def written(paths: Paths, number: int) -> tuple[bytes, bytes]:
    """A generation's manifest and signature as they lie there; empty where there are none."""
    place = paths.generation(number)
    return files.read(place / _MANIFEST) or b"", files.read(place / _SIGNATURE) or b""


def trusted(paths: Paths, number: int) -> Kept:
    """One kept generation, its signature verified anew: a signer may have gone from the list."""
    found = kept(paths, number)
    signature = files.read(paths.generation(number) / _SIGNATURE)
    if signature is None:
        raise RefusedError(f"generation {number} has no signature")
    signed.verify(found.data, signature, paths.signers)
    return found


def same_host(paths: Paths, wanted: Release) -> None:
    """Raise RefusedError for the release of another host than the kept ones are for."""
    for each in all_kept(paths)[-1:]:
        ours, theirs = ((of.site, of.host) for of in (each.release, wanted))
        if ours != theirs:
            raise RefusedError(
                f"the release is for {theirs[1]} of {theirs[0]}, and this is {ours[1]} of {ours[0]}"
            )


def keep(
    paths: Paths, manifest: bytes, signature: bytes, bundles: Mapping[int, str] | None = None
) -> int:
    """Keep a verified release whose files are all in the store, and the names of its guests'
    bundles; its number, which is an old one where the same is kept already."""
    name, used = digest(manifest), dict(bundles or {})
    for each in reversed(all_kept(paths)):
        if each.id == name and bundles_of(paths, each.number) == used:
            return each.number
    number = max(numbers(paths), default=0) + 1
    files.folder(paths.generations)
    place, made = paths.generation(number), paths.generations / f".{number}"
    files.folder(made)
    files.write(made / _SIGNATURE, signature)
    files.write(made / _BUNDLES, canonical({str(guest): each for guest, each in used.items()}))
    files.write(made / _MANIFEST, manifest)
    made.rename(place)
    files.sync_folder(paths.generations)
    return number


def bundles_of(paths: Paths, number: int) -> dict[int, str]:
    """The bundle of each guest of a kept generation that has one."""
    plain: dict[str, str] = json.loads(files.read(paths.generation(number) / _BUNDLES) or b"{}")
    return {int(guest): name for guest, name in plain.items()}


def pin(paths: Paths, number: int, pinned: bool) -> None:
    """Have a kept generation stay whatever is collected, or no longer; raises RefusedError."""
    mark = paths.generation(kept(paths, number).number) / _PINNED
    if pinned:
        files.write(mark, b"")
    else:
        files.remove(mark)


def mark(paths: Paths, number: int) -> None:
    """Note that a generation ran, and stayed."""
    if number and not ran(paths, number):
        files.write(paths.generation(number) / _RAN, b"")


def ran(paths: Paths, number: int) -> bool:
    """Whether a generation ran once, and stayed; 0 did."""
    return number == 0 or (paths.generation(number) / _RAN).exists()


def is_pinned(paths: Paths, number: int) -> bool:
    """Whether a generation stays whatever is collected."""
    return (paths.generation(number) / _PINNED).exists()


def garbage(
    paths: Paths,
    store: Store,
    record: Record,
    keep_newest: int,
    used: Mapping[int, Collection[str] | None],
) -> Iterator[Path]:
    """What nothing refers to any more: old generations first, then what only they held.

    `used` are the folders that a guest's daemons run from; None where that can't be known, as of a
    guest that is stopped: then all of them stay.
    """
    yield from (path for path in _below(paths.generations) if path.name.startswith("."))
    every = all_kept(paths)
    staying = {each.number for each in every[-keep_newest:]} | {record.generation}
    staying |= {each.number for each in every if is_pinned(paths, each.number)}
    needed: set[str] = {held.content for held in record.targets.values()}
    # The command need not be the program of any that stays: it gives way to no older one.
    needed.add(_stem(Path(files.leads(paths.command) or "")))
    folders: dict[int, set[str]] = {}
    secrets: dict[int, set[str]] = {}
    for each in every:
        if each.number not in staying:
            yield paths.generation(each.number)
            continue
        wanted = each.release
        needed |= {one.digest for one in store.needed(wanted)}
        for ref in wanted.guests:
            folders.setdefault(ref.id, set()).add(ref.node.digest[:NODE])
        for guest, name in bundles_of(paths, each.number).items():
            secrets.setdefault(guest, set()).add(name)
    for number, held in record.guests.items():
        folders.setdefault(number, set()).add(held.node[:NODE])
        secrets.setdefault(number, set()).add(held.bundle)
    for place in _below(paths.home / "guests"):
        runs = used.get(int(place.name), ())
        if runs is not None:
            yield from _others(place, folders.get(int(place.name), set()) | set(runs))
    for place in _below(paths.home / "secrets"):
        yield from _others(place, secrets.get(int(place.name), set()))
    yield from (path for path in _below(paths.store) if _stem(path) not in needed)
    # One that is about to move to the store has the store's own time already.
    yield from (
        path for path in _below(paths.incoming) if path.stat().st_ctime < time.time() - _DAY
    )


def discard(path: Path) -> None:
    """Delete what is garbage. A folder is taken for whole by whoever finds its name: so that goes
    first, and what is left of one half deleted is garbage of the next time."""
    if not path.is_dir():
        path.unlink()
        return
    gone = path.with_name(f".{path.name.lstrip('.')}")
    os.replace(path, gone)
    shutil.rmtree(gone)


def _below(place: Path) -> list[Path]:
    return sorted(place.iterdir()) if place.exists() else []


def _stem(path: Path) -> str:
    """The digest by which a file of the store is named."""
    return path.name.partition(".")[0]


def _others(place: Path, known: Collection[str]) -> Iterator[Path]:
    for path in _below(place):
        if path.is_dir() and not path.is_symlink() and path.name not in known:
            yield path
