"""A lab's folder: what only this lab has, and what a person or a test needs to reach it.

    <state>/NAME/lab.json               written last: the lab is up, and how it is reached
                 ssh_config             ssh -F … NAME
                 id_ed25519, known_hosts, host_key
                 signing_key            signs this lab's releases
                 ca/                    the throw-away CA's keys
                 project/               configs/ with this lab's host, and what else a build reads
                 lxc/ phoenix/          /var/lib/lxc and /var/lib/phoenix of the host
            .NAME.lock                  held by who makes it or takes it away

<state> is phoenix/lab below XDG_STATE_HOME, ~/.local/state where that is not set.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import ca, fresh, keys
from builder.inputs.cache import Progress
from builder.lab import lock
from builder.lab.shape import ROUTED, Lab

_MADE = "lab.json"


def home(environment: Mapping[str, str] = os.environ) -> Path:
    """The folder of all labs."""
    return keys.folder(environment, "XDG_STATE_HOME", ".local/state") / "lab"


@dataclass(frozen=True, slots=True)
class State:
    """The folder of one lab."""

    lab: Lab
    folder: Path

    @classmethod
    def of(cls, lab: Lab) -> State:
        """Where this lab's folder is."""
        return cls(lab, home() / lab.name)

    @property
    def ssh_config(self) -> Path:
        """For `ssh -F`."""
        return self.folder / "ssh_config"

    @property
    def signing_key(self) -> Path:
        """The private key for PHOENIX_SIGNING_KEY."""
        return self.folder / "signing_key"

    @property
    def project(self) -> Path:
        """A project's folder, for `builder.build.build`: configs/ that know this lab."""
        return self.folder / "project"

    def volume(self, name: str) -> Path:
        """A folder of the host's that is not on Docker's overlay: "lxc" or "phoenix"."""
        return self.folder / name

    @contextlib.contextmanager
    def held(self, progress: Progress) -> Iterator[None]:
        """Hold the lock over this lab; who else makes it or takes it away waits."""
        place = self.folder.with_name(f".{self.lab.name}.lock")
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        busy = f"lab {self.lab.name} is being made or taken away: waiting"
        with lock.held(place, lambda: progress(busy)):
            try:
                yield
            finally:
                if not self.folder.exists():
                    place.unlink()

    def make(self, root: Path) -> None:
        """Make keys, CA, ssh's files and the configs, in an empty folder. `root` is the project."""
        self.folder.mkdir(mode=0o700, parents=True)
        for name in ("lxc", "phoenix", "phoenix/templates"):
            self.volume(name).mkdir(mode=0o755)
        for name in ("id_ed25519", "host_key", "signing_key"):
            keys.init(self.folder / name, passphrase=False)
        public = self._public("host_key")
        (self.folder / "known_hosts").write_text(f"{self._alias} {public}\n", encoding="utf-8")
        self.ssh_config.write_text(self._ssh(), encoding="utf-8")
        self._project(root)

    def finish(self, found: Mapping[str, Any]) -> None:
        """Note that the lab is up, with what is told of it."""
        new = self.folder / f".{_MADE}"
        new.write_text(json.dumps(found, indent=2, sort_keys=True) + "\n", encoding="utf-8")
        new.rename(self.folder / _MADE)

    def found(self) -> dict[str, Any] | None:
        """What `finish` noted; None where the lab was never wholly up."""
        try:
            noted: dict[str, Any] = json.loads((self.folder / _MADE).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return noted

    def remove(self) -> None:
        """Delete the folder, the note that the lab is up first."""
        (self.folder / _MADE).unlink(missing_ok=True)
        if self.folder.is_dir():
            shutil.rmtree(self.folder)

    def host_key(self) -> bytes:
        """The host's private key."""
        return (self.folder / "host_key").read_bytes()

    def operator(self) -> bytes:
        """The public key that may log in, as a line."""
        return self._public("id_ed25519").encode() + b"\n"

    @property
    def _alias(self) -> str:
        return f"phoenix-{self.lab.name}"

    def _public(self, name: str) -> str:
        return " ".join((self.folder / f"{name}.pub").read_text(encoding="utf-8").split()[:2])

    def _ssh(self) -> str:
        return (
            f"Host {self.lab.name}\n"
            f"    HostName {self.lab.address}\n"
            # Whatever address a deploy gives the host.
            "Host *\n"
            "    User root\n"
            f"    IdentityFile {self.folder}/id_ed25519\n"
            "    IdentitiesOnly yes\n"
            "    IdentityAgent none\n"
            f"    HostKeyAlias {self._alias}\n"
            f"    UserKnownHostsFile {self.folder}/known_hosts\n"
            "    GlobalKnownHostsFile none\n"
            "    StrictHostKeyChecking yes\n"
            "    BatchMode yes\n"
            "    ConnectTimeout 10\n"
        )

    def _project(self, root: Path) -> None:
        """Copy configs/, say there what differs here, and give the host its CA."""
        for part in fresh.READ:
            if part == "configs":
                shutil.copytree(root / part, self.project / part)
            else:
                (self.project / part).parent.mkdir(parents=True, exist_ok=True)
                (self.project / part).symlink_to((root / part).resolve())
        for published in (self.project / "configs" / "ca").glob("*"):
            published.unlink()
        site = self._site()
        word = self.folder / "root.password"
        word.touch(mode=0o600)
        word.write_text(secrets.token_urlsafe(24) + "\n", encoding="utf-8")
        host = self.project / "configs" / "hosts" / f"{self.lab.called}.yaml"
        text = host.read_text(encoding="utf-8") if self._declared else self.lab.described()
        held = self.folder / "ca" / site / self.lab.called / ca.INTERMEDIATE
        text += f'\nca: {{key: "file:{held}.key", password: "file:{held}.password"}}\n'
        host.write_text(text, encoding="utf-8")
        ca.init(
            ca.Plan(
                site=site,
                hosts=(self.lab.called,),
                configs=self.project / "configs",
                forbidden=(root,),
                data=self.folder / "ca",
            ),
            ca.asking(word),
        )

    @property
    def _declared(self) -> bool:
        """Is this the host of configs/hosts/lab.yaml itself?"""
        return self.lab == Lab.of(ROUTED)

    def _site(self) -> str:
        from builder.load import load

        return load(self.project, ["lab"]).site.name
