"""A Docker engine, as the lab asks it: by the client program, through one socket."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.lab import packages
from builder.problems import UserError

LABEL = "phoenix.lab"


@dataclass(frozen=True, slots=True)
class Engine:
    """A running engine; `socket` is empty for the machine's own."""

    socket: str

    @property
    def environment(self) -> dict[str, str]:
        """What a program that speaks to it needs in its environment."""
        named = {"DOCKER_HOST": f"unix://{self.socket}"} if self.socket else {}
        return {**os.environ, "LC_ALL": "C.UTF-8", **named}

    def command(self, *arguments: str) -> list[str]:
        """The words that run `docker` with these arguments."""
        return [packages.program("docker") or "docker", *arguments]

    def run(self, *arguments: str, given: bytes | None = None) -> str:
        """Run `docker` with these arguments; what it printed. UserError where it fails."""
        code, out, err = self.tried(*arguments, given=given)
        if code != 0:
            said = (err or out).strip().splitlines() or [f"exit code {code}"]
            raise UserError(f"docker {' '.join(arguments[:2])} failed: {said[-1]}")
        return out

    def tried(self, *arguments: str, given: bytes | None = None) -> tuple[int, str, str]:
        """Run `docker`; its exit code, output and error output."""
        how: dict[str, Any] = {"stdin": subprocess.DEVNULL} if given is None else {"input": given}
        done = subprocess.run(
            self.command(*arguments), capture_output=True, env=self.environment, **how
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode(errors="replace")

    def inside(self, container: str, *command: str) -> tuple[int, str, str]:
        """Run a command in a container; its exit code, output and error output."""
        return self.tried("exec", container, *command)

    def labelled(self, kind: Sequence[str], name: str = "") -> list[str]:
        """Ids of all that has the lab's label, with `name` as its value where one is given; `kind`
        is docker's command that lists, such as ("network", "ls")."""
        label = f"{LABEL}={name}" if name else LABEL
        return self.run(*kind, "--quiet", "--no-trunc", "--filter", f"label={label}").split()

    def inspected(self, name: str) -> dict[str, Any] | None:
        """What docker knows of a container or network; None where there is none."""
        code, out, _ = self.tried("inspect", name)
        found: list[dict[str, Any]] = json.loads(out) if code == 0 else []
        return found[0] if found else None

    def answers(self) -> bool:
        """Is it there?"""
        if packages.program("docker") is None or (self.socket and not Path(self.socket).exists()):
            return False
        return self.tried("version", "--format", "{{.Server.Version}}")[0] == 0
