"""A host to deploy to, real: a lab of the bench's own, with the reference network on it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from builder.dist import Dist
from tests.bench import project
from tests.bench.measure import Run, run
from tests.lab import labs

_SHARED = """\
Include {lab}
Host *
    ControlPath {folder}/%C
    ControlMaster auto
    ControlPersist 3600
"""
_COUNTING = """\
#!/bin/sh
tee -a {folder}/to | ssh -F {config} "$@" | tee -a {folder}/from
"""


@dataclass(frozen=True, slots=True)
class Site:
    """A project below `root` and the host that it is deployed to; `lab` is ssh's configuration for
    connections of one's own, `shared` that for the one which is open."""

    root: Path
    host: str
    lab: Path
    shared: Path
    key: Path

    @property
    def dist(self) -> Dist:
        """What was built."""
        return Dist(self.root / "dist")

    def line(self, number: int) -> None:
        """Change one line, of which one file of the host's follows, and the reload of one unit."""
        file = self.root / "configs" / "hosts" / f"{self.host}.yaml"
        text = file.read_text().partition("\nmachines:")[0]
        mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
        file.write_text(f'{text}\nmachines: {{workstation: {{mac: "{mac}"}}}}\n')

    def health(self, path: str) -> None:
        """Change one line, of which files in the guest with the largest program follow."""
        site = project.Project(self.root)
        site.change("site.yaml", r"health: \{path: /\w+\}", f"health: {{path: /{path}}}")

    def deploy(self, ssh: str = "") -> Run:
        """`invoke deploy`, as a person runs it; builds what is stale. Over the open connection,
        where no other `ssh` is said."""
        return self._invoke("deploy", "--yes", ssh=ssh)

    def rollback(self, to: int) -> Run:
        """`invoke rollback`, over a new connection."""
        return self._invoke("rollback", f"--to={to}", "--yes", ssh=f"ssh -F {self.lab}")

    def on_host(self, command: str) -> Run:
        """A command on the host, over a new connection."""
        return run(self._ssh(self.lab, command), self.root, os.environ)

    def said(self, command: str) -> str:
        """What a command on the host prints."""
        done = subprocess.run(self._ssh(self.shared, command), capture_output=True, check=True)
        return done.stdout.decode()

    def events(self) -> list[dict[str, Any]]:
        """What the host's transactions told."""
        lines = self.said("cat /var/lib/phoenix/events").splitlines()
        return [json.loads(line) for line in lines]

    @contextlib.contextmanager
    def counted(self, folder: Path) -> Iterator[str]:
        """An ssh that keeps what it carried, in files `to` and `from` of `folder`."""
        folder.mkdir()
        script = folder / "ssh"
        script.write_text(_COUNTING.format(folder=folder, config=self.lab))
        script.chmod(0o755)
        yield str(script)

    def _ssh(self, config: Path, command: str) -> list[str]:
        return ["ssh", "-F", str(config), self.host, command]

    def _invoke(self, verb: str, *more: str, ssh: str) -> Run:
        environment = {
            **project.environment(self.root / "home"),
            "XDG_STATE_HOME": str(self.root / "state"),
            "PHOENIX_SIGNING_KEY": str(self.key),
            "PHOENIX_SSH": ssh or f"ssh -F {self.shared}",
        }
        return run([project.INVOKE, verb, f"--host={self.host}", *more], self.root, environment)


def _without_workstation(configs: Path, host: str) -> None:
    """Leave out the service of a machine that no lab has: whoever looks whether all is well waits
    for its answer, three seconds before a change and three after it."""
    services = yaml.safe_load((configs / "site.yaml").read_bytes())["services"]
    kept = [name for name, each in services.items() if "workstation" not in each["backends"]]
    with (configs / "hosts" / f"{host}.yaml").open("a") as file:
        file.write(f"\nservices: [{', '.join(kept)}]\n")


@contextlib.contextmanager
def deployed(root: Path) -> Iterator[Site]:
    """A new lab with the reference network deployed to it; gone in the end."""
    with labs.own("lab") as up:
        root.mkdir(parents=True)
        place = root / "project"
        project.copy(place)
        shutil.rmtree(place / "configs")
        shutil.copytree(up.state.project / "configs", place / "configs")
        _without_workstation(place / "configs", up.lab.name)
        # Short: a socket's path has a hundred characters.
        shared = up.state.folder / "shared"
        shared.write_text(_SHARED.format(lab=up.state.ssh_config, folder=up.state.folder))
        found = Site(place, up.lab.name, up.state.ssh_config, shared, up.state.signing_key)
        found.deploy(f"ssh -F {up.state.ssh_config}")
        found.said("true")
        try:
            yield found
        finally:
            leave = ["ssh", "-F", str(shared), "-O", "exit", found.host]
            subprocess.run(leave, capture_output=True)
