"""A node of a Proxmox cluster to be tested on: this machine's own files in a namespace, with
/etc/pve on the stand-in for pmxcfs, `pct` and all that the host program starts stood in for, and a
network of its own. It ends with its `with` block, or with this process however that ends.

Its files are reached from here too, below `root`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from builder.program import host_program

NAME = "pve1"
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PROGRAM = "/usr/local/lib/phoenix.pyz"
_TEMPLATE = "debian-12-standard_12.7-1_amd64.tar.zst"
TEMPLATE = f"local:vztmpl/{_TEMPLATE}"
LIMIT = 60.0


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str


class Node:
    """One node; `place` is an empty folder."""

    def __init__(self, place: Path) -> None:
        inner = Path(__file__).with_name("inner.py")
        self._outer = subprocess.Popen(
            [
                "unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc",
                "/usr/bin/python3", "-I", "-S", str(inner), str(place), sys.executable, NAME,
            ],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
            env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        assert self._outer.stdout is not None
        if self._outer.stdout.readline() != "ready\n":
            raise RuntimeError("the node does not come up")
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        self.pid = int(children.read_text().split()[0])
        self.root = Path(f"/proc/{self.pid}/root")
        self.pve = self.root / "etc/pve"
        self.at(f"/var/lib/vz/template/cache/{_TEMPLATE}").write_bytes(b"")
        self.install(host_program())
        self.at("/usr/local/sbin/phoenix").write_text(
            f'#!/bin/sh\nexec /usr/bin/python3 -I -S {_PROGRAM} "$@"\n'
        )
        self.at("/usr/local/sbin/phoenix").chmod(0o755)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it with all that runs in it; the kernel takes its mounts."""
        self._outer.kill()
        self._outer.wait()
        if self._outer.stdout:
            self._outer.stdout.close()

    def install(self, data: bytes) -> None:
        """Have the host program be these bytes."""
        self.at(_PROGRAM).write_bytes(data)

    def at(self, path: str) -> Path:
        """A path of the node, as seen from here."""
        return self.root / path.lstrip("/")

    def run(self, *words: str, given: str = "", **environment: str) -> Done:
        """Run a program in it to its end."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--wd=/"]
        said = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **environment}
        done = subprocess.run(
            [*enter, "--", *words], input=given, capture_output=True, text=True, timeout=LIMIT,
            env=said, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def pct(self, *words: str, **environment: str) -> Done:
        return self.run("pct", *words, **environment)

    def must(self, *words: str) -> str:
        done = self.run(*words)
        assert done.code == 0, (words, done)
        return done.out

    def phoenix(self, *words: str) -> Done:
        """The host program itself, as it is shipped."""
        return self.run("phoenix", *words)

    def switch(self, **switches: Any) -> int:
        """Turn what pmxcfs.py can be turned to; how many states it had."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as to:
            to.settimeout(LIMIT)
            to.connect(str(self.at("/run/pmxcfs")))
            with to.makefile("rw") as stream:
                stream.write(json.dumps(switches) + "\n")
                stream.flush()
                return int(json.loads(stream.readline()))

    def on(self, moment: str, script: str) -> None:
        """Have a shell script run at a moment: `pct set`, `pct set.after` or `systemd-run`."""
        place, _, verb = moment.rpartition(" ")
        folder = "/run/pct" if place else "/run/standins"
        self.at(f"{folder}/{verb}.sh").write_text(script)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start a program in it, and go on."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--net", "--pid", "--wd=/"]
        return subprocess.Popen(
            [*enter, "--", *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env={"PATH": _PATH, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip

    def unmount(self) -> None:
        """pve-cluster ends: /etc/pve is a plain folder."""
        self.must("umount", "/etc/pve")

    def foreign(self, number: int, conf: str, folder: str = "lxc", node: str = NAME) -> Path:
        """A guest of somebody else, with its volume."""
        volume = self.at(f"/var/lib/pct-volumes/vm-{number}-disk-0")
        volume.mkdir(parents=True, exist_ok=True)
        path = self.pve / f"nodes/{node}/{folder}/{number}.conf"
        path.write_text(conf)
        return path

    def conf(self, number: int) -> str:
        return (self.pve / f"lxc/{number}.conf").read_text()

    def runs(self, number: int) -> dict[str, Any] | None:
        """What a running guest runs with, which need not be what its file says."""
        if self.pct("status", str(number)).out != "status: running\n":
            return None
        found: dict[str, Any] = json.loads(self.at(f"/run/pct/{number}.json").read_text())["values"]
        return found

    def calls(self, name: str = "pct") -> list[list[str]]:
        """What was called by this name, in order."""
        place = "/run/pct" if name in ("pct", "pvesm") else "/run/standins"
        log = self.at(f"{place}/calls.log")
        lines = log.read_text().splitlines() if log.exists() else []
        return [words[1:] for words in map(json.loads, lines) if words[0] == name]

    def files(self) -> dict[str, bytes | str]:
        """Every file and link outside of our own store, by its path."""
        found: dict[str, bytes | str] = {}
        places = ("etc/pve", "etc/network", "etc/sysctl.d", "etc/phoenix", "var/lib/pct-volumes")
        for place in places:
            for folder, names, inside in os.walk(self.root / place):
                for name in (*names, *inside):
                    path = Path(folder, name)
                    key = str(path.relative_to(self.root))
                    if path.is_symlink():
                        found[key] = str(path.readlink())
                    elif path.is_file() and not name.startswith((".v", ".pve-")):
                        found[key] = path.read_bytes()
                    elif path.is_dir():
                        found[key] = "/"
        return found
