"""What the stand-ins for PVE's own tools share: a guest's configuration in /etc/pve, its lock, and
how they refuse."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import guests
import nested
import nnn
from nnn import Conf

PVE = Path("/etc/pve")
STORAGES = {"local": Path("/var/lib/vz"), "local-lvm": Path("/var/lib/pct-volumes")}
BACKEND = Path("/etc/pct-backend")
"""Holds "liblxc" where guests are to be real ones."""
REAL = BACKEND.exists() and BACKEND.read_text().strip() == "liblxc"
HERE: guests.Guests = nested.Liblxc() if REAL else guests.Processes()


class DieError(Exception):
    """What Perl's die is."""


def die(text: str) -> DieError:
    return DieError(text)


def config(number: int) -> Path:
    return PVE / "lxc" / f"{number}.conf"


def load(number: int) -> Conf:
    try:
        data = config(number).read_bytes()
    except OSError:
        node = os.readlink(PVE / "local").removeprefix("nodes/")
        raise die(f"Configuration file 'nodes/{node}/lxc/{number}.conf' does not exist") from None
    conf = nnn.parse(data)
    for warning in conf.warnings:
        print(f"vm {number} - {warning}", file=sys.stderr)
    return conf


def save(number: int, conf: Conf) -> None:
    path = config(number)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    rest = nnn.write(conf)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.close(handle)
    os.rename(temporary, path)


@contextlib.contextmanager
def locked(number: int) -> Iterator[None]:
    name = f"/run/lock/lxc/pve-config-{number}.lock"
    os.makedirs("/run/lock/lxc", exist_ok=True)
    end = time.monotonic() + float(os.environ.get("PCT_PATIENCE", "10"))
    with open(name, "a") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise die(f"can't lock file '{name}' - got timeout") from None
                time.sleep(0.02)
        yield


def check_lock(conf: Conf) -> None:
    if "lock" in conf.main.keys:
        raise die(f"CT is locked ({conf.main.keys['lock']})")


def quorate() -> bool:
    return bool(os.lstat(PVE / "local").st_mode & 0o200)


def check_quorum() -> None:
    if not quorate():
        raise die("cluster not ready - no quorum?")


def pvesm_path(name: str) -> Path:
    storage, colon, rest = name.partition(":")
    if not colon or storage not in STORAGES or not rest.startswith("vztmpl/"):
        raise die(f"unable to parse volume ID '{name}'")
    return STORAGES[storage] / "template/cache" / rest.removeprefix("vztmpl/")


def numbers() -> list[int]:
    """The node's containers."""
    found = (re.fullmatch(r"([1-9]\d*)\.conf", path.name) for path in (PVE / "lxc").iterdir())
    return sorted(int(match[1]) for match in found if match)
