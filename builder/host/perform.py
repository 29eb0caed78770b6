"""What follows from changed files, done in the order in which it is safe."""

from __future__ import annotations

from . import commands, flows, guests, network, owed
from .decide import Effects, GuestEffect
from .guests import Ask
from .paths import Paths
from .platforms import Platform

LIMIT = 120.0
"""Seconds that a guest's start, or a daemon's, may take."""
_COMMAND = "/usr/local/sbin/phoenix"


def perform(paths: Paths, platform: Platform, effects: Effects, ask: Ask) -> None:
    """Have what runs be as the files say; raises FailedError at the first that does not."""
    for guest in effects.guests:
        if guest.what == "leave":
            guests.leave(platform, guest.number, guest.folder)
        elif guest.what == "retire":
            platform.stop(guest.number)
    flowing = flows.before(effects)
    _host(paths, effects)
    with flows.kept(flowing):
        _guests(paths, platform, effects, ask)
    if any(guest.daemons or guest.dropped for guest in effects.guests):
        # One that runs already may just have found that none drains. While we hold the lock, it
        # is about nothing.
        commands.status("systemctl", "stop", "phoenix-settle")
        commands.status("systemd-run", "--collect", "--unit=phoenix-settle", _COMMAND, "settle")


def _guests(paths: Paths, platform: Platform, effects: Effects, ask: Ask) -> None:
    # One that has not got its folder, or not as its configuration has it, runs as it did.
    owing = {*owed.owing(paths, platform)}
    for guest in effects.guests:
        if guest.what == "owe":
            owed.note(paths, platform, guest.number)
            owing.add(guest.number)
        elif guest.what != "switch":
            _guest(platform, guest)
        elif guest.number not in owing:
            guests.switch(platform, guest, ask, LIMIT)


def _guest(platform: Platform, guest: GuestEffect) -> None:
    if guest.what == "restart":
        platform.stop(guest.number)
    if guest.what in ("restart", "start"):
        platform.start(guest.number)
        guests.ready(platform, guest.number, LIMIT)
    elif guest.what == "hot":
        platform.adjust(guest.number, guest.was.encode("latin-1"))


def _host(paths: Paths, effects: Effects) -> None:
    if effects.stopped:
        commands.run("systemctl", "stop", *effects.stopped)
    if effects.stopped or (effects.units and effects.reloaded):
        commands.run("systemctl", "daemon-reload")
    for path in effects.modules:
        names = paths.at(path).read_text().split("\n")
        # A kernel may have them built in and know no modules: what then lacks, fails by itself.
        commands.status("modprobe", "--all", *(n for n in names if n and not n.startswith("#")))
    _sysctls(paths, effects)
    if effects.network:
        network.reload(paths.root, effects.lacking)
        # An interface that came only now has its own settings still to get.
        _sysctls(paths, effects)
    for unit in effects.reloaded:
        commands.run("systemctl", "reload-or-restart", unit)


def _sysctls(paths: Paths, effects: Effects) -> None:
    if effects.sysctls:
        files = [str(paths.at(path)) for path in effects.sysctls]
        commands.run("/lib/systemd/systemd-sysctl", *files)
