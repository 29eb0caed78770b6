"""Requests without a pause while something else happens, each counted; none is tried again."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Self

from .stage import Stage, shell

_UNTIL = "/run/phoenix-demo/loaded"


class Load:
    """A client in the LAN that asks over and over, each time on a new connection."""

    def __init__(self, stage: Stage, request: list[str]) -> None:
        self.stage = stage
        ask = shell([*request, "--output", "/dev/null", "--write-out", "%{http_code}\n"])
        self.script = f"touch {_UNTIL}; while [ -e {_UNTIL} ]; do {ask} 2>/dev/null; done"

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            ["docker", "exec", self.stage.up.lab.lan, "timeout", "600", "sh", "-c", self.script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=self.stage.up.engine.environment,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stage.client("rm", "-f", _UNTIL)
        self.said = self.process.communicate()[0].split()

    def counted(self) -> tuple[int, int]:
        """How many were answered by 200, and how many were not."""
        good = self.said.count("200")
        return good, len(self.said) - good
