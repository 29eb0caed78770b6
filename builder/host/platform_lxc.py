"""Guests on plain LXC: liblxc's tools, and configurations below /var/lib/lxc."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from . import commands, files
from .decide import Taken
from .paths import Paths
from .schema import RefusedError

_TEMPLATES = "/var/lib/phoenix/templates"
_RETIRED = b"# phoenix-retired\n"
_OURS = (b"lxc.start.", b"lxc.mount.entry = /var/lib/phoenix/")


class Lxc:
    """The platform `lxc`; see `platforms.Platform`."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def conf(self, guest: int) -> str:
        return f"/var/lib/lxc/{guest}/config"

    def exists(self, guest: int) -> bool:
        return self.paths.at(self.conf(guest)).exists()

    def all(self) -> dict[int, bool]:
        """Every guest with a number, and whether it runs."""
        listed = commands.run("lxc-ls", "--fancy", "--fancy-format", "NAME,STATE").splitlines()
        rows = (line.split() for line in listed[1:])
        return {int(row[0]): row[1] == "RUNNING" for row in rows if row and row[0].isdigit()}

    def root(self, _guest: int) -> int:
        """The host's number of the guest's root: files that it alone may read belong to it."""
        return 100000

    def unready(self) -> str:
        return ""

    @contextlib.contextmanager
    def locked(self, _path: str) -> Iterator[None]:
        """Plain LXC has no tools that change these files."""
        yield

    def problems(
        self, creates: Mapping[int, Mapping[str, Any]], _guests: Iterable[int]
    ) -> Iterator[str]:
        for guest, creation in creates.items():
            template = creation.get("template")
            if not template:
                yield f"guest {guest} is not there and has no template"
            elif not self._template(template).is_file():
                yield f"guest {guest} is not there, nor its template {self._template(template)}"

    def create(self, guest: int, creation: Mapping[str, Any]) -> None:
        """Make a guest's root file system from its template; its configuration is a target."""
        home = self.paths.at(f"/var/lib/lxc/{guest}")
        files.folder(home)
        rootfs = home / "rootfs"
        if rootfs.exists():
            raise RefusedError(f"{rootfs} is there already")
        rootfs.mkdir(0o755)
        os.chown(rootfs, self.root(guest), self.root(guest))
        unpack = ["tar", "--extract", "--numeric-owner", "--xattrs", "-f", "-", "-C", str(rootfs)]
        with self._template(creation["template"]).open("rb") as stream:
            commands.run("lxc-usernsexec", "--", *unpack, limit=600, given=stream)
        files.sync_all(home)

    def destroy(self, guest: int) -> bool:
        """Take away a half-made guest."""
        home = self.paths.at(f"/var/lib/lxc/{guest}")
        if home.exists():
            shutil.rmtree(home)
            files.sync_folder(home.parent)
        return True

    def takes(self, old: bytes, new: bytes) -> Taken:
        """liblxc reads its file at a start only."""
        (was, now) = ({*_said(old)}, {*_said(new)})
        names = {line.split(b"=")[0].strip().decode("utf-8", "replace") for line in was ^ now}
        return Taken(restart=tuple(sorted(names)))

    def between(self, _old: bytes, _new: bytes, _now: bytes) -> bool:
        return False

    def adjust(self, _guest: int, _was: bytes) -> None:
        return

    def retired(self, conf: bytes) -> bytes:
        left = [line for line in conf.splitlines(keepends=True) if not line.startswith(_OURS)]
        return _RETIRED + b"".join(left)

    def revived(self, conf: bytes) -> bytes:
        return conf.removeprefix(_RETIRED)

    def start(self, guest: int) -> None:
        commands.run("lxc-start", "--name", str(guest), "--daemon", limit=60)

    def stop(self, guest: int) -> None:
        # 2: it does not run any more.
        commands.run("lxc-stop", "--name", str(guest), "--timeout", "60", limit=90, legal=(0, 2))

    def process(self, guest: int) -> int:
        # Of one that has just stopped it says nothing, and exits with 0.
        return int(commands.run("lxc-info", "--name", str(guest), "--pid", "--no-humanize") or 0)

    def inside(self, guest: int, *command: str, limit: float = 60) -> tuple[int, str]:
        """A command's exit code and output in a running guest."""
        attach = ["lxc-attach", "--name", str(guest), "--clear-env", "--"]
        return commands.status(*attach, *command, limit=limit)

    def _template(self, name: str) -> Path:
        return self.paths.at(f"{_TEMPLATES}/{name}")


def _said(conf: bytes) -> list[bytes]:
    lines = (line.strip() for line in conf.splitlines())
    return [line for line in lines if line and not line.startswith(b"#")]
