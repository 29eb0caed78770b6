"""The system calls of an install by which the disk is asked to keep what was written.

The host program runs as on a host, below a folder; who runs it counts by strace.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from builder.deploy.memory import Memory
from builder.deploy.ssh import Ssh
from tests.deploy import making
from tests.deploy.sshd import SERVED

SIZES = (10, 1000)
_CALL = re.compile(r"\b(fsync|fdatasync|syncfs|sync_file_range|sync)\(")


@dataclass(frozen=True, slots=True)
class Syncs:
    """Calls for a file or a folder each, and calls for a whole file system."""

    one: int
    all: int


def syncs(folder: Path, count: int) -> Syncs:
    """What an install of `count` small files asks, from its first byte to its confirmation."""
    folder.mkdir()
    made = making.project(folder / "project")
    held = {f"etc/{number:04}": f"{number}\n".encode() for number in range(count)}
    made.release(guests={103: held})
    trace = folder / "trace"
    script = folder / "ssh"
    # strace -ff: a file a process; the calls are counted in all of them.
    script.write_text(
        f"#!/bin/sh\nexec strace -ff -qq -e trace=fsync,fdatasync,syncfs,sync_file_range,sync "
        f"-o {trace} {SERVED} {folder / 'host'}\n"
    )
    script.chmod(0o755)
    memory = Memory(folder / "state", "phoenix", making.HOST)
    connect = Ssh(memory, b"", asks=False, command=(str(script),))
    outcome = making.deployed(made, connect, memory)
    if outcome.verdict.result != "done":
        raise RuntimeError(f"the install ended {outcome.verdict}")
    found = [call for each in folder.glob("trace*") for call in _CALL.findall(each.read_text())]
    whole = sum(call in ("syncfs", "sync") for call in found)
    return Syncs(len(found) - whole, whole)
