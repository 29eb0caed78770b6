"""Why a release can't be activated now: looked for before anything is changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import files, network, survey
from .decide import Effects, Goal
from .guests import Draining
from .host import Host
from .release import Release
from .state import Record
from .store import NODE

_ROOM, _NAMES = 32 << 20, 1000
"""What has to be free for the host's own files and the journal: bytes, and inodes."""
_DEVICE = re.compile(rb"^dev\d+:\s*(/[^,\s]+)", re.MULTILINE)


def problems(
    host: Host,
    wanted: Release | None,
    record: Record,
    creates: Mapping[int, Mapping[str, Any]],
    settle: bool = False,
) -> Iterable[str]:
    """Each reason as a sentence; `creates` are the guests to be made, with their creation. What
    the machine lacks by now keeps nobody from going back, or from a repair: `settle`."""
    if host.paths.at("/etc/network/interfaces.new").exists():
        yield "/etc/network/interfaces.new is there: apply or discard that edit first"
    declared = wanted.guests if wanted else ()
    yield from host.platform.problems(creates, {*record.guests, *(ref.id for ref in declared)})
    for ref in declared:
        if ref.id in creates or ref.id in record.guests or survey.retired(host, ref.id):
            continue
        # Of a guest that is adopted nothing is known that another could be made from.
        if host.platform.exists(ref.id) and host.store.guest(ref.node.digest).creation:
            yield f"guest {ref.id} is there and is none of ours: say `adopt: true`, if it is meant"
    if wanted and not settle:
        yield from _absent(host, wanted)
        yield from _full(host, wanted)


def draining(host: Host, goal: Goal, effects: Effects) -> Iterator[Draining]:
    """The slots that a change needs and in which connections still go on. One that runs from the
    very folder that is wanted is no such: it is led to as it is."""
    for effect in effects.guests:
        found = host.draining(effect.number) if effect.what == "switch" and effect.daemons else None
        if found and found.used:
            there = goal.guests[effect.number].node[:NODE]
            if effect.anew or found.folder != there:
                yield found


def _absent(host: Host, wanted: Release) -> Iterator[str]:
    """Interfaces and devices that are declared, and that this machine has not."""
    links = host.paths.at("/sys/class/net")
    there = {each.name for each in links.iterdir()} if links.is_dir() else None
    for target in wanted.targets:
        content = host.store.read(target.content.digest)
        if target.merge == "interfaces" and there is not None:
            live = files.read(host.paths.at(target.path)) or b""
            for name in network.absent(content, live, there):
                yield f"the interface {name} is declared, and is not there"
        elif target.merge == "lxc-conf":
            for device in _DEVICE.findall(content):
                if not os.path.lexists(host.paths.at(device.decode())):
                    yield f"{target.path}: the device {device.decode()} is not there"


def _full(host: Host, wanted: Release) -> Iterator[str]:
    room, names = _ROOM, _NAMES
    for ref in wanted.guests:
        if not (host.paths.guest(ref.id) / ref.node.digest[:NODE]).exists():
            names += len(host.store.entries(host.store.guest(ref.node.digest)))
    found = os.statvfs(host.paths.home)
    free = found.f_bavail * found.f_frsize
    if free < room:
        yield f"{free >> 20} MiB are free at {host.paths.home}, and {room >> 20} are needed"
    # Some file systems count no inodes.
    if found.f_files and found.f_favail < names:
        yield f"{found.f_favail} inodes are free at {host.paths.home}, and {names} are needed"
