"""What runs behind the `pct` stand-in: a process for each guest. (`nested.py`: real containers.)

A guest that is only stood in for is a process which holds the command socket that PVE looks for
(/proc/net/unix), and a file with the configuration as it took it: what *it* runs with, which a
rewrite of NNN.conf does not change.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Protocol

from nnn import Conf

STATE = Path("/run/pct")


class Guests(Protocol):
    def running(self, number: int) -> bool: ...

    def start(self, number: int, conf: Conf) -> None: ...

    def take(self, number: int, key: str, value: str | None) -> None:
        """A running guest takes a key hot."""

    def shutdown(self, number: int, seconds: float) -> bool: ...

    def stop(self, number: int) -> None: ...

    def process(self, number: int) -> int: ...


def socket_there(number: int) -> bool:
    """Whether a guest runs, as PVE finds out."""
    return f"@/var/lib/lxc/{number}/command\n" in Path("/proc/net/unix").read_text()


def _await(number: int, there: bool, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while socket_there(number) != there:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


class Processes:
    """Guests that are only stood in for. One with a file NNN.stubborn heeds no shutdown, and one
    with NNN.broken does not start."""

    def running(self, number: int) -> bool:
        return socket_there(number)

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
