"""Guests made and destroyed, with their volumes."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import guests
import nested
import nnn
from base import (
    HERE,
    PVE,
    REAL,
    STORAGES,
    DieError,
    check_lock,
    check_quorum,
    config,
    die,
    load,
    locked,
    pvesm_path,
    save,
)
from nnn import Conf, Section


def volume(number: int, given: str) -> str:
    """The volume that STORAGE:SIZE asks for, made."""
    match = re.fullmatch(r"([a-z][a-z0-9.-]*):(\d+)(,.*)?", given)
    if not match or match[1] not in STORAGES:
        raise die(f"storage '{given.partition(':')[0]}' does not exist")
    name = f"vm-{number}-disk-0"
    (STORAGES[match[1]] / name).mkdir(parents=True)
    return f"{match[1]}:{name},size={match[2]}G"


def create(number: int, given: dict[str, str]) -> None:
    check_quorum()
    template = pvesm_path(given.pop("ostemplate"))
    if not template.is_file():
        raise die(f"volume '{template}' does not exist")
    ids = json.loads((PVE / ".vmlist").read_text())["ids"]
    if held := ids.get(str(number)):
        what = "VM" if held["type"] == "qemu" else "CT"
        raise die(f"unable to create CT {number} - {what} {number} already exists on node "
                  f"'{held['node']}'")  # fmt: skip
    for key, value in given.items():
        if fault := nnn.wrong(key, value):
            raise die(f"400 Parameter verification failed.\n{key}: {fault}")
    with locked(number):
        save(number, Conf(Section({"lock": "create"})))
        if (guests.STATE / "die-in-create").exists():
            os._exit(137)
        keys = {"hostname": f"CT{number}", "memory": "512", "swap": "512", "arch": "amd64", **given}
        keys.setdefault("ostype", "debian")
        try:
            keys["rootfs"] = volume(number, given.get("rootfs", "local:4"))
            if REAL:
                unpack(number, template)
            save(number, Conf(Section(keys)))
        except (DieError, OSError):
            remove_volumes(keys)
            config(number).unlink()
            raise


def unpack(number: int, template: Path) -> None:
    root = nested.rootfs(number)
    root.mkdir(parents=True)
    os.chown(root, nested.ROOT, nested.ROOT)
    packed = ["--zstd"] if template.suffix == ".zst" else []
    words = ["tar", "--extract", "--numeric-owner", *packed, "-f", "-", "-C", str(root)]
    with template.open("rb") as stream:
        subprocess.run(["lxc-usernsexec", "--", *words], stdin=stream, check=True)


def remove_volumes(keys: dict[str, str]) -> None:
    for key, value in keys.items():
        storage, _, name = value.partition(",")[0].partition(":")
        if (key == "rootfs" or key.startswith(("mp", "unused"))) and storage in STORAGES:
            shutil.rmtree(STORAGES[storage] / name, ignore_errors=True)


def destroy(number: int, _given: dict[str, str]) -> None:
    with locked(number):
        conf = load(number)
        if conf.main.keys.get("protection") == "1":
            raise die(f"can't remove CT {number} - protection mode enabled")
        check_lock(conf)
        if HERE.running(number):
            raise die(f"unable to destroy CT {number} - container is running")
        check_quorum()
        remove_volumes(conf.main.keys)
        shutil.rmtree(f"/var/lib/lxc/{number}", ignore_errors=True)
        config(number).unlink()
        with contextlib.suppress(FileNotFoundError):
            (PVE / "firewall" / f"{number}.fw").unlink()
