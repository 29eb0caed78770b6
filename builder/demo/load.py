"""Requests without a pause while something else happens, each counted; none is tried again."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import Self

from .stage import RAN, Stage, shell

_UNTIL = f"{RAN}/loaded"


class Load:
    """A client in the LAN that asks over and over, each time on a new connection; what it is put
    around begins once it has its first answer."""

    def __init__(self, stage: Stage, request: list[str]) -> None:
        self.stage = stage
        ask = shell([*request, "--output", "/dev/null", "--write-out", "%{http_code}\n"])
        self.script = f'while [ -e {_UNTIL} ]; do said=$({ask} 2>&1); echo "${{said##* }}"; done'

    def __enter__(self) -> Self:
        engine, lan = self.stage.up.engine, self.stage.up.lab.lan
        engine.run("exec", lan, "touch", _UNTIL)
        self.process = subprocess.Popen(
            engine.command("exec", lan, "timeout", "600", "sh", "-c", self.script),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=engine.environment,
        )
        assert self.process.stdout
        self.first = self.process.stdout.readline()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stage.client("rm", "-f", _UNTIL)
        self.said = (self.first + self.process.communicate()[0]).splitlines()

    def counted(self) -> tuple[int, list[str]]:
        """How many were answered by 200, and what the others came to: a status, or why none."""
        bad = [each for each in self.said if each != "200"]
        return len(self.said) - len(bad), bad
