"""Where things lie on the host."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Paths(NamedTuple):
    """All below `root`, which is "/" but in tests."""

    root: Path = Path("/")

    def at(self, absolute: str) -> Path:
        """An absolute path of the host."""
        return self.root / absolute.lstrip("/")

    @property
    def home(self) -> Path:
        return self.at("/var/lib/phoenix")

    @property
    def store(self) -> Path:
        return self.home / "store"

    @property
    def incoming(self) -> Path:
        return self.home / "incoming"

    @property
    def generations(self) -> Path:
        return self.home / "generations"

    @property
    def record(self) -> Path:
        return self.home / "record"

    @property
    def journal(self) -> Path:
        return self.home / "journal"

    @property
    def lock(self) -> Path:
        return self.home / "lock"

    @property
    def signers(self) -> Path:
        return self.home / "signers"

    @property
    def events(self) -> Path:
        return self.home / "events"

    @property
    def current(self) -> Path:
        return self.home / "current"

    @property
    def command(self) -> Path:
        return self.at("/usr/local/sbin/phoenix")

    def generation(self, number: int) -> Path:
        return self.generations / str(number)

    def guest(self, number: int) -> Path:
        return self.home / "guests" / str(number)

    def secrets(self, number: int) -> Path:
        return self.home / "secrets" / str(number)
