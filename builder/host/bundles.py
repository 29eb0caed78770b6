"""Secrets, delivered beside a release: per guest that needs any, a folder for its root alone.

A bundle's name follows from which secrets they are and which public certificate they belong to,
never from what is in them: a host that has the bundle is not sent it again. What was renewed
behind the same reference is sent on request, as the bundle's next *variant*: NAME-2, NAME-3, …
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping

from . import files
from .paths import Paths
from .platforms import Platform
from .release import Release, canonical, digest
from .schema import RefusedError
from .store import NODE, Store

_CERTIFICATE = "step-ca/intermediate.crt"


def needed(paths: Paths, store: Store, wanted: Release, anew: bool = False) -> dict[int, str]:
    """The bundle of each guest of a release that needs one: the newest variant that is here, or
    with `anew` the next one."""
    found = {}
    for ref in wanted.guests:
        listed = [
            [s.file, f"{s.mode:04o}", s.source] for s in wanted.secrets if s.guest == ref.name
        ]
        if listed:
            beside = store.entries(store.guest(ref.node.digest)).get(_CERTIFICATE)
            name = digest(canonical([listed, beside.content.digest if beside else ""]))[:NODE]
            found[ref.id] = _variant(paths, ref.id, name, anew)
    return found


def here(paths: Paths, guest: int, name: str) -> bool:
    """Whether a bundle is here, whole."""
    return (paths.secrets(guest) / name).is_dir()


def folder(paths: Paths, guest: int) -> None:
    """Have the folder of a guest's bundles, through which its root comes, and no further."""
    files.folder(paths.secrets(guest).parent, 0o711)
    files.folder(paths.secrets(guest), 0o711)


def deliver(
    paths: Paths,
    platform: Platform,
    guest: int,
    name: str,
    contents: Mapping[str, tuple[int, bytes]],
) -> None:
    """Keep a bundle: modes and bytes by file name; it is there whole or not at all."""
    folder(paths, guest)
    place, made = paths.secrets(guest) / name, paths.secrets(guest) / f".{name}"
    if place.exists():
        raise RefusedError(f"bundle {name} of guest {guest} is here already")
    if made.exists():
        shutil.rmtree(made)
    made.mkdir(0o700)
    root = platform.root(guest)
    for file, (mode, data) in contents.items():
        files.write(made / file, data, mode)
        os.chown(made / file, root, root)
    os.chown(made, root, root)
    files.sync_all(made)
    # Its name is kept with the store's, before a generation says it.
    made.rename(place)


def _variant(paths: Paths, guest: int, name: str, anew: bool) -> str:
    place = paths.secrets(guest)
    listed = os.listdir(place) if place.is_dir() else []
    # Any of those before the newest may have been collected.
    found = filter(None, (re.fullmatch(rf"{name}(?:-(\d+))?", each) for each in listed))
    newest = max((int(each[1] or 1) for each in found), default=0)
    number = max(1, newest + anew)
    return name if number == 1 else f"{name}-{number}"
