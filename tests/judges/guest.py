"""A guest as docs/architecture.md lays it out, set up in a space.

The generation's folder is /opt/phoenix/1, `current` leads to it, every slot runs from it, the
pinned programs lie bound below it, and the guest's state folders are there and empty.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path

from builder.tree import Link, Tree
from tests.judges import programs
from tests.judges.namespace import Entry, Space
from tests.judges.rootfs import USERS

GENERATION = "/opt/phoenix/1"
CURRENT = "/opt/phoenix/current"
STATE = "/var/lib/phoenix"
SECRETS = "/opt/phoenix-secrets/current"
_SLOTTED = ("nginx", "traefik")


class Guest:
    """Files of a generation's folder by the paths at which programs see them.

    `tree` has paths relative to that folder; of its `programs/`, nothing is taken, since the
    pinned programs are bound there. `state` are further files by absolute path (certificates,
    secrets); they stand in place of a file of `tree` at the same path.
    """

    def __init__(
        self,
        tree: Tree,
        *,
        state: Mapping[str, bytes] | None = None,
        programs: Iterable[str] = (),
    ) -> None:
        self.tree = tree
        self.state = {_generation(path): data for path, data in (state or {}).items()}
        self.programs = tuple(sorted(programs))
        self._files = {
            posixpath.join(GENERATION, entry.path): entry
            for entry in tree
            if not entry.path.startswith("programs/")
        }

    def has(self, path: str) -> bool:
        """Whether a program in the guest finds a file at the absolute `path`."""
        seen = _generation(path)
        if seen.startswith(f"{GENERATION}/programs/"):
            name, _, rest = seen.removeprefix(f"{GENERATION}/programs/").partition("/")
            return name in self.programs and (programs.folder(name) / rest).exists()
        return seen in self.state or seen in self._files

    def state_at(self, path: str) -> bytes:
        """The bytes of the state at the absolute `path`; KeyError where there is none."""
        return self.state[_generation(path)]

    def text(self, path: str) -> str:
        """The text of a file of the generation's folder; KeyError where it has none."""
        return b"".join(self.tree.file(path).chunks()).decode()

    def below(self, place: str) -> tuple[str, ...]:
        """Paths, as in the tree, of its files at or below the absolute path `place`."""
        seen = _generation(place).rstrip("/")
        found = [path for path in self._files if path == seen or path.startswith(f"{seen}/")]
        return tuple(path.removeprefix(f"{GENERATION}/") for path in found)

    def binds(self) -> dict[str, Path]:
        """The binds that a space for this guest needs."""
        return programs.binds(self.programs, GENERATION)

    def enter(self, space: Space, user: str) -> None:
        """Set the guest up in `space`, its state owned by the daemon's `user`."""
        owner = USERS[user]
        folders = [f"{STATE}/{name}" for name in ("acme", "certificates", "step-ca", "lego")]
        space.folders(folders, owner)
        space.folders([f"{STATE}/slots/{daemon}" for daemon in _SLOTTED] + [SECRETS])
        entries = [Entry(CURRENT, "1")]
        for daemon in _SLOTTED:
            entries += [Entry(f"{STATE}/slots/{daemon}/{slot}", GENERATION) for slot in "ab"]
        for path, entry in self._files.items():
            if isinstance(entry, Link):
                entries.append(Entry(path, entry.target))
            elif path not in self.state:
                entries.append(Entry(path, b"".join(entry.chunks()), entry.mode))
        space.write(entries)
        space.write([Entry(path, data, 0o640, owner) for path, data in self.state.items()])


def _generation(path: str) -> str:
    """`path` as it is once the guest's links to the generation's folder are followed."""
    path = posixpath.normpath(path)
    links = [CURRENT, *(f"{STATE}/slots/{daemon}/{slot}" for daemon in _SLOTTED for slot in "ab")]
    for link in links:
        if path.startswith(f"{link}/"):
            return GENERATION + path.removeprefix(link)
    return path
