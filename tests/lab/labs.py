"""Labs for tests: one that all share who leave it as it is, and ones of a test's own.

Tests' labs have names and networks of their own, so that an operator's lab can be up beside them.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import tempfile
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

from builder.lab import daemon, packages, state, up
from builder.lab.engine import LABEL
from builder.lab.network import overlapping, routes
from builder.lab.shape import Lab
from builder.lab.up import Up
from builder.problems import UserError

ROOT = Path(__file__).resolve().parent.parent.parent
_PREFIX = "test-"
_SHARED = {"lab": IPv4Network("198.19.0.0/24"), "lab-bridged": IPv4Network("198.19.1.0/24")}
_NETWORKS = [IPv4Network(f"198.19.{number}.0/24") for number in range(8, 256)]
_count = itertools.count()


def say(text: str) -> None:
    """Progress of a lab, among what pytest keeps of a test."""
    print(text)


@contextlib.contextmanager
def shared(shape: str) -> Iterator[Up]:
    """A lab that is up until the last process that uses it lets go, or dies."""
    place = _locks() / f"shared-{shape}"
    lab = Lab(f"shared-{shape}", shape, _SHARED[shape])
    with place.open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield up.up(ROOT, lab, say)
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                up.down(lab, say)


@contextlib.contextmanager
def own(shape: str, alone: bool = False) -> Iterator[Up]:
    """A new lab, to do with whatever a test wants."""
    with reserved(shape, alone) as lab:
        yield up.up(ROOT, lab, say)


@contextlib.contextmanager
def reserved(shape: str, alone: bool = False) -> Iterator[Lab]:
    """A lab that is not up, with a free network; taken away at the end, however far it is up."""
    sweep()
    packages.ensure(say)
    for network in _NETWORKS:
        with (_locks() / f"network-{network[0]}").open("w") as claim:
            try:
                fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if overlapping(network, routes()):
                continue
            lab = Lab(f"{_PREFIX}{os.getpid()}-{next(_count)}", shape, network, alone)
            try:
                yield lab
            finally:
                up.down(lab, say)
            return
    raise UserError("no network is free for a test's lab")


def _locks() -> Path:
    """Where the tests of all runs on this machine agree about labs."""
    folder = Path(tempfile.gettempdir(), "phoenix-test-labs")
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def sweep() -> None:
    """Take away the labs of test runs that were killed."""
    for folder in state.home().glob(f"{_PREFIX}*"):
        process = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if not Path("/proc", process).exists():
            up.down(Lab(folder.name, "lab", _NETWORKS[0]), say)


def remains(lab: Lab) -> list[str]:
    """What of a lab is still on this machine: containers, network, interface, mounts, processes,
    files."""
    found = [str(path) for path in [state.State.of(lab).folder] if path.exists()]
    found += [f"route: {each.network}" for each in overlapping(lab.network, routes())]
    running = daemon.find(say)
    if running is not None:
        for kind in (("ps", "--all"), ("network", "ls"), ("volume", "ls")):
            names = running.run(*kind, "--quiet", "--filter", f"label={LABEL}={lab.name}")
            found += names.split()
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    found += [line for line in mounts if f"/lab/{lab.name}/" in line]
    for entry in Path("/proc").glob("[0-9]*/mountinfo"):
        with contextlib.suppress(OSError):
            if f"/lab/{lab.name}/" in entry.read_text():
                found.append(f"process {entry.parent.name}")
    return found
