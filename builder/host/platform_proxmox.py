"""Guests on Proxmox: pct, its locks, and configurations in /etc/pve.

/etc/pve is the cluster's own file system (pmxcfs). Without quorum it can be read only; while it is
not mounted it is an empty folder on the root disk, and what is written there is lost from sight. So
each write first makes sure of both, under the lock that PVE's own tools take for that file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import commands, files, pve_conf, pve_lock
from .commands import FailedError
from .decide import Taken
from .paths import Paths

_CONF = re.compile(r"/etc/pve/lxc/([1-9]\d*)\.conf")
_NETWORK = "/etc/network/interfaces"
_SHUTDOWN = 60
_COMMANDS = re.compile(r"@/var/lib/lxc/([1-9]\d*)/command$", re.MULTILINE)


class Proxmox:
    """The platform `proxmox`; see `platforms.Platform`."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths

    def conf(self, guest: int) -> str:
        return f"/etc/pve/lxc/{guest}.conf"

    def exists(self, guest: int) -> bool:
        return self._read(guest) is not None

    def all(self) -> dict[int, bool]:
        """Every container of this node, and whether it runs: as PVE itself finds out, by whose
        command sockets there are (PVE::LXC, list_active_containers)."""
        running = {int(number) for number in _COMMANDS.findall(self._text("/proc/net/unix"))}
        folder = self.paths.at("/etc/pve/lxc")
        names = os.listdir(folder) if folder.is_dir() else []
        found = (_CONF.fullmatch(f"/etc/pve/lxc/{name}") for name in sorted(names))
        return {number: number in running for match in found if match for number in [int(match[1])]}

    def root(self, guest: int) -> int:
        return pve_conf.root(self._read(guest) or b"unprivileged: 1\n")

    def unready(self) -> str:
        """Why /etc/pve can't be written; "" where it can."""
        try:
            mode = os.lstat(self.paths.at("/etc/pve/local")).st_mode
            os.readlink(self.paths.at("/etc/pve/local"))
        except OSError:
            return "/etc/pve is not mounted: pve-cluster does not run"
        return "" if mode & 0o200 else "the cluster has no quorum: /etc/pve can only be read"

    @contextlib.contextmanager
    def locked(self, path: str) -> Iterator[None]:
        """Hold what PVE's own tools hold while they change this file; raises FailedError."""
        match = _CONF.fullmatch(path)
        lock = pve_lock.guest(match[1]) if match else pve_lock.NETWORK if path == _NETWORK else ""
        with pve_lock.held(self.paths.at(lock)) if lock else contextlib.nullcontext():
            if path.startswith(files.PVE) and (why := self.unready()):
                raise FailedError(why)
            conf = (self._read(int(match[1])) if match else None) or b""
            # Since we hold its flock, nobody is about a file that has nothing but a lock.
            if (held := pve_conf.keys(conf).get("lock")) and not pve_conf.bare(conf):
                raise FailedError(f"{path}: the guest is locked ({held})")
            try:
                yield
            except PermissionError as error:
                # What a write comes to where quorum went meanwhile.
                if path.startswith(files.PVE) and (why := self.unready()):
                    raise FailedError(f"{path}: {why}") from error
                raise

    def problems(
        self, creates: Mapping[int, Mapping[str, Any]], guests: Iterable[int]
    ) -> Iterator[str]:
        if why := self.unready():
            yield why
            return
        here = os.readlink(self.paths.at("/etc/pve/local")).removeprefix("nodes/")
        taken = json.loads(self._text("/etc/pve/.vmlist"))["ids"]
        for guest in sorted({*creates, *guests}):
            place = taken.get(str(guest))
            if place and place["type"] != "lxc":
                yield f"{guest} is the number of a VM"
            elif place and place["node"] != here:
                yield f"guest {guest} is on the node {place['node']}"
            elif busy := pve_conf.busy(self._read(guest) or b""):
                yield f"guest {guest} {busy}"
            elif guest in creates:
                yield from self._uncreatable(guest, creates[guest])
        if pve_lock.busy(self.paths.at(pve_lock.NETWORK)):
            yield "somebody else changes the network's configuration now"

    def _uncreatable(self, guest: int, creation: Mapping[str, Any]) -> Iterator[str]:
        volume = creation.get("template")
        if not volume:
            yield f"guest {guest} is not there and has no template"
            return
        code, said = commands.status("pvesm", "path", volume)
        if code or not self.paths.at(said.strip()).is_file():
            yield f"guest {guest} is not there, nor its template {volume}"

    def create(self, guest: int, creation: Mapping[str, Any]) -> None:
        # Its tag says that this one may be taken away again; its name is pct's own, CT and number.
        rest = [w for key in sorted(creation) for w in (f"--{key}", str(creation[key]))
                if key != "template"]  # fmt: skip
        options = [*rest, "--tags", pve_conf.NEW]
        commands.run("pct", "create", str(guest), creation["template"], *options, limit=900)

    def destroy(self, guest: int) -> bool:
        conf = self._read(guest)
        if conf is None:
            return True
        if not pve_conf.tagged(conf, pve_conf.NEW) and not pve_conf.bare(conf):
            return False
        if pve_conf.keys(conf).get("lock") == "create":
            commands.run("pct", "unlock", str(guest))
        # pct takes the guest's firewall file along, which may have been there before.
        rules = self.paths.at(f"/etc/pve/firewall/{guest}.fw")
        before = files.read(rules)
        commands.run("pct", "destroy", str(guest), limit=300)
        if before is not None:
            files.write(rules, before, 0o640)
        return True

    def start(self, guest: int) -> None:
        commands.run("pct", "start", str(guest), limit=120)

    def stop(self, guest: int) -> None:
        if not self.all().get(guest):
            return
        seconds = str(_SHUTDOWN)
        commands.status("pct", "shutdown", str(guest), "--timeout", seconds, limit=_SHUTDOWN + 60)
        if self.all().get(guest):
            commands.run("pct", "stop", str(guest), limit=120)

    def process(self, guest: int) -> int:
        # Of one that has just stopped it says nothing, and exits with 0.
        return int(commands.run("lxc-info", "--name", str(guest), "--pid", "--no-humanize") or 0)

    def inside(self, guest: int, *command: str, limit: float = 60) -> tuple[int, str]:
        """As `pct exec`, which becomes this very command after half a second of Perl; but without
        this program's own environment."""
        attach = ["lxc-attach", "--name", str(guest), "--clear-env", "--"]
        return commands.status(*attach, *command, limit=limit)

    def takes(self, old: bytes, new: bytes) -> Taken:
        return pve_conf.takes(old, new)

    def between(self, old: bytes, new: bytes, now: bytes) -> bool:
        return pve_conf.between(old, new, now)

    def adjust(self, guest: int, was: bytes) -> None:
        # `pct set` compares with the file, which has the new values already: so it gets the old
        # ones back for as long as that takes. Whatever ends this in between, the file is of the
        # old, of the new, or between them, and is told to be ours.
        path = self.conf(guest)
        new = self._read(guest) or b""
        with self.locked(path):
            files.write(self.paths.at(path), was, 0o640)
        try:
            commands.run("pct", "set", str(guest), *pve_conf.options(was, new))
        finally:
            with self.locked(path):
                if not self.between(was, new, self._read(guest) or b""):
                    raise FailedError(f"{path} was changed meanwhile")
                files.write(self.paths.at(path), new, 0o640)

    def retired(self, conf: bytes) -> bytes:
        return pve_conf.retired(conf)

    def revived(self, conf: bytes) -> bytes:
        return pve_conf.revived(conf)

    def _read(self, guest: int) -> bytes | None:
        return files.read(self.paths.at(self.conf(guest)))

    def _text(self, path: str) -> str:
        # A socket's name may be any bytes.
        return self.paths.at(path).read_text(errors="replace")
