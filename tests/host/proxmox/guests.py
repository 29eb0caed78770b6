"""What runs behind the `pct` stand-in: a process for each guest, or real containers by liblxc.

A guest that is only stood in for is a process which holds the command socket that PVE looks for
(/proc/net/unix), and a file with the configuration as it took it: what *it* runs with, which a
rewrite of NNN.conf does not change.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Protocol

from nnn import Conf

STATE = Path("/run/pct")
BACKEND = Path("/etc/pct-backend")
"""Holds "liblxc" where guests are to be real ones."""


class Guests(Protocol):
    def running(self, number: int) -> bool: ...

    def start(self, number: int, conf: Conf) -> None: ...

    def take(self, number: int, key: str, value: str | None) -> None:
        """A running guest takes a key hot."""

    def shutdown(self, number: int, seconds: float) -> bool: ...

    def stop(self, number: int) -> None: ...

    def process(self, number: int) -> int: ...


def guests() -> Guests:
    if BACKEND.exists() and BACKEND.read_text().strip() == "liblxc":
        return Liblxc()
    return Processes()


def _socket_there(number: int) -> bool:
    return f"@/var/lib/lxc/{number}/command\n" in Path("/proc/net/unix").read_text()


def _await(number: int, there: bool, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while _socket_there(number) != there:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Processes:
    """Guests that are only stood in for. One with a file NNN.stubborn heeds no shutdown, and one
    with NNN.broken does not start."""

    def running(self, number: int) -> bool:
        return _socket_there(number)

    def start(self, number: int, conf: Conf) -> None:
        if (STATE / f"{number}.broken").exists():
            sys.exit(f"startup for container '{number}' failed")
        values = {**conf.main.keys, "lxc": [list(each) for each in conf.main.raw]}
        if os.fork() == 0:
            self._become(number, values)
        if not _await(number, there=True, seconds=10):
            sys.exit(f"startup for container '{number}' failed")

    def _become(self, number: int, values: object) -> None:
        os.setsid()
        quiet = os.open("/dev/null", os.O_RDWR)
        for each in range(3):
            os.dup2(quiet, each)
        os.closerange(3, 256)
        os.chdir("/")
        STATE.mkdir(exist_ok=True)
        file = STATE / f"{number}.json"
        file.write_text(json.dumps({"pid": os.getpid(), "values": values}))
        stubborn = (STATE / f"{number}.stubborn").exists()
        signal.signal(signal.SIGPWR, signal.SIG_IGN if stubborn else signal.SIG_DFL)
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        held.bind(f"\0/var/lib/lxc/{number}/command")
        held.listen()
        while True:
            signal.pause()

    def take(self, number: int, key: str, value: str | None) -> None:
        file = STATE / f"{number}.json"
        plain = json.loads(file.read_text())
        if value is None:
            plain["values"].pop(key, None)
        else:
            plain["values"][key] = value
        file.write_text(json.dumps(plain))

    def shutdown(self, number: int, seconds: float) -> bool:
        os.kill(self.process(number), signal.SIGPWR)
        return _await(number, there=False, seconds=seconds)

    def stop(self, number: int) -> None:
        os.kill(self.process(number), signal.SIGKILL)
        _await(number, there=False, seconds=10)

    def process(self, number: int) -> int:
        return int(json.loads((STATE / f"{number}.json").read_text())["pid"])


class Liblxc:
    """Real containers: NNN.conf written as liblxc's own configuration, as pve-container does at
    each start."""

    def running(self, number: int) -> bool:
        return _socket_there(number)

    def start(self, number: int, conf: Conf) -> None:
        path = Path(f"/var/lib/lxc/{number}/config")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(liblxc(number, conf))
        self._run("lxc-start", "--name", str(number), "--daemon")

    def take(self, number: int, key: str, value: str | None) -> None:
        """Nothing that liblxc would change under a running guest is worth to be shown in a lab."""

    def shutdown(self, number: int, seconds: float) -> bool:
        words = ("lxc-stop", "--name", str(number), "--nokill", "--timeout", str(int(seconds)))
        return subprocess.run(words, check=False).returncode == 0

    def stop(self, number: int) -> None:
        self._run("lxc-stop", "--name", str(number), "--kill")

    def process(self, number: int) -> int:
        words = ("lxc-info", "--name", str(number), "--pid", "--no-humanize")
        return int(subprocess.run(words, capture_output=True, check=True).stdout)

    @staticmethod
    def _run(*words: str) -> None:
        if code := subprocess.run(words, check=False).returncode:
            sys.exit(f"{words[0]} failed: {code}")


def liblxc(number: int, conf: Conf) -> str:
    """liblxc's configuration for NNN.conf (PVE::LXC, update_lxc_config), without what a lab lacks:
    AppArmor, limits of memory. Addresses are given from outside, as nobody writes them inside."""
    keys = conf.main.keys
    lines = ["lxc.include = /usr/share/lxc/config/common.conf"]
    if keys.get("unprivileged") == "1":
        lines.append("lxc.include = /usr/share/lxc/config/userns.conf")
        if not any(key == "lxc.idmap" for key, _ in conf.main.raw):
            lines += ["lxc.idmap = u 0 100000 65536", "lxc.idmap = g 0 100000 65536"]
    lines += [
        f"lxc.uts.name = {keys.get('hostname', f'CT{number}')}",
        f"lxc.rootfs.path = dir:/var/lib/lxc/{number}/rootfs",
        "lxc.apparmor.profile = unconfined",
    ]
    for key in sorted(keys):
        if key.startswith("net"):
            lines += _net(number, key.removeprefix("net"), keys[key])
        elif key.startswith("mp") and keys[key].startswith("/"):
            source, *rest = keys[key].split(",")
            how = dict(part.partition("=")[::2] for part in rest)
            only = ",ro" if how.get("ro") == "1" else ""
            target = how["mp"].strip("/")
            lines.append(f"lxc.mount.entry = {source} {target} none rbind,create=dir{only} 0 0")
    lines += [f"{key} = {value}" for key, value in conf.main.raw]
    return "\n".join(lines) + "\n"


def _net(number: int, index: str, value: str) -> list[str]:
    said = dict(part.partition("=")[::2] for part in value.split(","))
    names = {"name": "name", "hwaddr": "hwaddr", "mtu": "mtu", "gw": "ipv4.gateway",
             "gw6": "ipv6.gateway", "bridge": "link"}  # fmt: skip
    lines = ["type = veth", f"veth.pair = veth{number}i{index}", "flags = up"]
    lines += [f"{name} = {said[key]}" for key, name in names.items() if key in said]
    for key, name in (("ip", "ipv4.address"), ("ip6", "ipv6.address")):
        if "/" in said.get(key, ""):
            lines.append(f"{name} = {said[key]}")
    return [f"lxc.net.{index}.{line}" for line in lines]
