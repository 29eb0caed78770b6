"""A deployed host with programs behind its fronts, and clients of them: the whole flow, live.

    with flow() as made:
        made.outside("ask", "sse", "--url", "https://chat.example.org")
        with made.started("load", "--url", "https://chat.example.org") as running:
            made.host.deploy()
        assert running.found["failed"] == 0

`try` (tests/flow/try) is both the programs and the clients; what it takes and tells stands there.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from builder import build
from builder.lab.shape import Lab
from builder.load import load
from builder.model import Service
from builder.network import Network
from tests.flow import built, described
from tests.integration.handle import Handle, handle
from tests.integration.machine import until

TRY = "/usr/local/bin/try"
_ROOT = "/root.crt"
_MAPPED = 100000
"""What root in a guest is outside of it."""
_UNIT = """\
[Unit]
Description=The program of SERVICE

[Service]
ExecStart=TRY serve --name SERVICE --guest GUEST --listen 127.0.0.1:PORTMORE
Restart=always
RestartSec=1

[Install]
WantedBy=multi-user.target
"""
Found = dict[str, Any]


@dataclass
class Running:
    """A `try` that goes on, until its standard input is closed or it has come to its end; `found`
    is then what it told."""

    process: subprocess.Popen[str]
    found: Found = field(default_factory=dict)

    def end(self, limit: float = 150) -> Found:
        """Have it finish what is under way, and end."""
        if not self.found:
            out, err = self.process.communicate(timeout=limit)
            assert self.process.returncode == 0, (self.process.args, err)
            self.found |= json.loads(out)
        return self.found


@dataclass
class Flow:
    """The host, deployed, and its programs."""

    host: Handle
    _derived: tuple[str, Network] | None = None

    # ---- what is declared

    @property
    def network(self) -> Network:
        """What is declared, derived."""
        host = self.host
        text = host.site.read_text(encoding="utf-8") + host.host.read_text(encoding="utf-8")
        if self._derived is None or self._derived[0] != text:
            (found,) = build.derived(load(host.up.state.project, [host.lab.name]))
            self._derived = (text, found)
        return self._derived[1]

    def number(self, guest: str) -> int:
        """A guest's id."""
        (found,) = (m.guest.id for m in self.network.members if m.guest.name == guest)
        return found

    def backends(self, network: Network) -> Iterator[tuple[str, Service, int]]:
        """Each guest that has a service's program, the service, and the program's port."""
        for member in network.members:
            for front in member.fronts:
                yield member.guest.name, front.service, front.program

    # ---- programs

    def deploy(self) -> None:
        """Deploy what is declared, give each backend its program, and await that all names
        answer."""
        self.host.deploy()
        self.furnish()
        self.answers()

    def furnish(self) -> None:
        """Have each guest know `try`, and run its programs from now on."""
        network = self.network
        for member in network.members:
            self.equip(member.guest.id)
        units: dict[str, list[str]] = {}
        for guest, service, port in self.backends(network):
            self._write(guest, service, port)
            units.setdefault(guest, []).append(f"try-{service.name}.service")
        for guest, names in units.items():
            number = self.number(guest)
            self.host.guest(number, "systemctl", "daemon-reload")
            self.host.guest(number, "systemctl", "start", *names)

    def root(self, number: int) -> Path:
        """A guest's root file system, as it is seen from here."""
        return self.host.up.state.volume("lxc") / str(number) / "rootfs"

    def equip(self, number: int) -> None:
        """Put `try` into a guest."""
        place = self.root(number) / TRY.lstrip("/")
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            made = place.with_name(".try")
            shutil.copy(built.program(), made)
            os.chown(made, _MAPPED, _MAPPED)
            made.rename(place)

    def _write(self, guest: str, service: Service, port: int) -> None:
        folder = self.root(self.number(guest)) / "etc/systemd/system"
        unit = folder / f"try-{service.name}.service"
        more = " --grpc" if service.protocol == "grpc" else ""
        text = _UNIT
        values = {"SERVICE": service.name, "GUEST": guest, "TRY": TRY, "PORT": str(port)}
        for key, value in {**values, "MORE": more}.items():
            text = text.replace(key, value)
        unit.write_text(text, encoding="utf-8")
        wanted = folder / "multi-user.target.wants" / unit.name
        wanted.parent.mkdir(exist_ok=True)
        wanted.unlink(missing_ok=True)
        wanted.symlink_to(f"../{unit.name}")
        for path in (unit, wanted):
            os.chown(path, _MAPPED, _MAPPED, follow_symlinks=False)

    def answers(self, limit: float = 180) -> None:
        """Await that each exposed name answers a client outside, through the whole chain."""
        for exposed in self.network.exposed:
            url = f"https://{exposed.name}"
            kind = "grpc" if exposed.service.protocol == "grpc" else "get"
            until(partial(self._answers, kind, url), f"{url} answers", limit=limit)

    def _answers(self, kind: str, url: str) -> bool:
        code, out, _ = self.tried("ask", kind, "--url", url)
        return code == 0 and (kind == "grpc" or json.loads(out)["status"] == 200)

    # ---- clients

    def command(self, *words: str, inside: str = "") -> list[str]:
        """What runs `try` with these words in the LAN, or in a guest. In the LAN it is told where
        the gateway is, and the root; in a guest it finds both by itself."""
        place = [*self.host.outside[:-1], self.host.lab.host] if inside else self.host.outside
        return [*place, *self._words(*words, inside=inside)]

    def _words(self, *words: str, inside: str) -> list[str]:
        if inside:
            attach = ["lxc-attach", "--name", str(self.number(inside)), "--clear-env", "--"]
            return [*attach, TRY, *words]
        reach = ["--resolve", f"*:443:{self.host.gateway()}", "--ca", _ROOT]
        return [TRY, *words, *(reach if _secure(words) else [])]

    def tried(self, *words: str, inside: str = "", limit: float = 300) -> tuple[int, str, str]:
        """A `try` to its end: exit code, output and error output."""
        place = self.host.inside if inside else self.host.client.inside
        return place.run(*self._words(*words, inside=inside), limit=limit)

    def outside(self, *words: str, limit: float = 300) -> Found:
        """What a `try` in the LAN tells; it must end well."""
        return self._told(words, self.tried(*words, limit=limit))

    def inside(self, guest: str, *words: str, limit: float = 300) -> Found:
        """What a `try` in a guest tells; it must end well."""
        return self._told(words, self.tried(*words, inside=guest, limit=limit))

    def _told(self, words: tuple[str, ...], done: tuple[int, str, str]) -> Found:
        code, out, err = done
        assert code == 0, (words, out, err)
        found: Found = json.loads(out)
        return found

    @contextlib.contextmanager
    def started(self, *words: str, inside: str = "") -> Iterator[Running]:
        """A `try` that goes on meanwhile; its `found` is filled at the end."""
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                self.command(*words, inside=inside),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
            running = Running(process)
            try:
                yield running
                running.end()
            finally:
                if process.poll() is None:
                    process.kill()
                    process.communicate()
                errors.seek(0)
                print(errors.read(), end="")

    def active(self, guest: str, port: int, mark: str = "", grpc: bool = False) -> Found:
        """What a backend's program knows of its requests, or of the one with a mark."""
        url = f"{'grpc' if grpc else 'http'}://127.0.0.1:{port}"
        return self.inside(guest, "ask", "active", "--url", url, "--mark", mark)


def _secure(words: tuple[str, ...]) -> bool:
    urls = (word for before, word in itertools.pairwise(words) if before == "--url")
    return any(urlsplit(url).scheme == "https" for url in urls) and "--resolve" not in words


@contextlib.contextmanager
def flow(
    site: str = described.SITE,
    host: Callable[[Lab], str] = described.host,
    shape: str = "lab",
    deployed: bool = True,
    alone: bool = True,
) -> Iterator[Flow]:
    """A new lab with this description, deployed where that is not left to the caller; its clients
    have `try`. Its host is `alone` where no foreign guest is asked for."""
    program = built.program()
    with handle(shape, site, host, alone) as made:
        found = Flow(made)
        put = subprocess.run(
            [*made.outside, "sh", "-c", f"cat >{TRY} && chmod 755 {TRY}"],
            input=program.read_bytes(), capture_output=True, timeout=60,
        )  # fmt: skip
        assert put.returncode == 0, put.stderr
        if deployed:
            found.deploy()
        yield found
