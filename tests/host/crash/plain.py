"""Guests on plain LXC, but for the two questions that it asks the kernel."""

from __future__ import annotations

import json
import os

from builder.host.platform_lxc import Lxc


class PlainGuests(Lxc):
    """Who is no root gives no file away."""

    def all(self) -> dict[int, bool]:
        folder = self.paths.at("/var/lib/lxc")
        found = sorted(folder.glob("*/config")) if folder.is_dir() else []
        names = [path.parent.name for path in found]
        return {int(name): self.paths.at(f"/run/guests/{name}").exists() for name in names}

    def root(self, _guest: int) -> int:
        return os.geteuid() or 100000

    def process(self, guest: int) -> int:
        running: int = json.loads(self.paths.at(f"/run/guests/{guest}").read_text())["process"]
        return running
