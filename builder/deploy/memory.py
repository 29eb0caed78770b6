"""What this machine remembers of a host: where it was reached, and by which ssh key it is known.

    ~/.local/state/phoenix/SITE/HOST.json       the address of the release that was deployed last,
                                                and where the host was found before the first
    ~/.local/state/phoenix/SITE/known_hosts     keys, each under the name phoenix-SITE-HOST

A key is kept under a name of ours from the first connection on, so that a changed address is the
same host still, and another host at the old address is not.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from builder import disk, keys
from builder.manifest import Release
from builder.problems import UserError


@dataclass(frozen=True, slots=True)
class Place:
    """Where ssh finds a host: an address, or a name of the user's ssh configuration. A port is
    that configuration's matter."""

    address: str
    user: str

    def __str__(self) -> str:
        return f"{self.user}@{self.address}"


def place(text: str, user: str) -> Place:
    """The place of `[USER@]ADDRESS`, where nothing is said of `user`; UserError for what ssh would
    take for an option."""
    named, _, address = text.rpartition("@")
    if not address or address.startswith("-") or named.startswith("-"):
        raise UserError(f"'{text}' is no address", "write --at ADDRESS or --at USER@ADDRESS")
    return Place(address.strip("[]"), named or user)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of one host, in a folder of its site."""

    folder: Path
    site: str
    host: str

    @property
    def alias(self) -> str:
        """The name that the host's key is kept under."""
        return f"phoenix-{self.site}-{self.host}"

    @property
    def known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def pinned(self) -> bool:
        """Whether the host's key is known from an earlier connection."""
        lines = disk.content(self.known_hosts).decode("utf-8", "replace").splitlines()
        return any(line.startswith(f"{self.alias} ") for line in lines)

    def pin(self, found: Iterable[str]) -> None:
        """Keep keys ("ssh-ed25519 AAAA…") that ssh has just accepted for this host."""
        lines = "".join(f"{self.alias} {key}\n" for key in found)
        if lines and not self.pinned():
            self._folder()
            with disk.telling(self.folder), self.known_hosts.open("a", encoding="utf-8") as out:
                out.write(lines)

    def last(self) -> Place | None:
        """Where the release that was deployed last is reached; None before the first."""
        return self._place()

    def found(self) -> Place | None:
        """Where the host was reached before the first release; None where that is not known."""
        return self._place("found")

    def keep(self, reached: Place, found: Place | None = None) -> None:
        """Remember where the release that now runs is reached, and where the host was `found`."""
        found = found or self.found()
        if (self.last(), self.found()) == (reached, found):
            return
        self._folder()
        plain = {**asdict(reached), **({"found": asdict(found)} if found else {})}
        text = json.dumps(plain) + "\n"
        new = self._file().with_suffix(".new")
        with disk.telling(self.folder):
            new.write_text(text, encoding="utf-8")
            new.replace(self._file())

    def forget(self) -> None:
        """Remember no address any more; the key stays known."""
        self._file().unlink(missing_ok=True)

    def _place(self, *within: str) -> Place | None:
        try:
            plain = json.loads(disk.content(self._file()) or b"null")
            for name in within:
                plain = plain[name]
            return Place(str(plain["address"]), str(plain["user"])) if plain else None
        except (ValueError, LookupError, TypeError):
            return None

    def _file(self) -> Path:
        return self.folder / f"{self.host}.json"

    def _folder(self) -> None:
        with disk.telling(self.folder):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def of(site: str, host: str) -> Memory:
    """The memory of a site's host, in the user's folder for state (XDG_STATE_HOME)."""
    return Memory(keys.folder(os.environ, "XDG_STATE_HOME", ".local/state") / site, site, host)


def reached(memory: Memory, at: str, release: Release | None) -> Place:
    """Where a host is to be found now: as told, else where it was last, else as declared."""
    declared = Place(release.reach.address, release.reach.user) if release else None
    last = memory.last()
    if at:
        known = last or declared
        return place(at, known.user if known else "root")
    found = last or declared
    if found is None:
        raise UserError(f"where {memory.host} is, is not known", "add --at USER@ADDRESS")
    return found
