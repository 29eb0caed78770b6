"""Guests that are not ours, and the bridges that they hang on: a change there may cut them off."""

from __future__ import annotations

import re
from collections.abc import Collection

from . import files
from .paths import Paths
from .platforms import Platform

_VMS = "/etc/pve/qemu-server"
# Proxmox: net0: virtio=…,bridge=vmbr0,tag=5; liblxc: lxc.net.0.link = vmbr0
_BRIDGE = re.compile(r"^(?:net\d+:.*\bbridge=|lxc\.net\.\d+\.link\s*=\s*)([\w.-]+)", re.MULTILINE)


def foreign(paths: Paths, platform: Platform, ours: Collection[int]) -> dict[int, list[str]]:
    """The bridges of every guest that is none of `ours`, sorted."""
    confs = {number: paths.at(platform.conf(number)) for number in platform.all()}
    vms = paths.at(_VMS)
    for path in sorted(vms.iterdir()) if vms.is_dir() else ():
        if path.stem.isdecimal() and path.suffix == ".conf":
            confs[int(path.stem)] = path
    found = {}
    for number, path in confs.items():
        if number not in ours:
            text = (files.read(path) or b"").decode("utf-8", "replace")
            found[number] = sorted(set(_BRIDGE.findall(text)))
    return found
