"""Which Docker engine the labs are in: the machine's own where one answers, else the lab's own.

The lab's own is started by hand, on a socket of its own, without a bridge and without rules in the
machine's firewall; its files are in the cache, what runs is below `RUN`. It ends with the last lab.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from builder import keys
from builder.inputs.cache import Progress
from builder.lab import lock, packages
from builder.lab.engine import Engine
from builder.problems import UserError

RUN = Path("/run/phoenix-lab")
_PID, _SOCKET, _MADE = RUN / "docker.pid", RUN / "docker.sock", RUN / "made"
_OWN = Engine(str(_SOCKET))
_START, _END = 60.0, 30.0
# Made by an engine, whatever other folders it is given.
_BESIDE = ("/run/containerd", "/run/docker")


def find(progress: Progress) -> Engine | None:
    """The engine that labs are in; None where none runs. Call this and the rest under `locked`.

    The lab's own is started anew where it was killed and left a lab.
    """
    if _running() is None and any((files() / "containers").glob("*")):
        return start(progress)
    for engine in (_OWN, Engine("")):
        if engine.answers():
            return engine
    return _awaited() if _running() else None


def files() -> Path:
    """Where the lab's own engine keeps its files."""
    return keys.folder(os.environ, "XDG_CACHE_HOME", ".cache") / "lab" / "engine"


def start(progress: Progress) -> Engine:
    """Start the lab's own engine, which outlives this process."""
    program = packages.program("dockerd")
    if program is None:
        raise UserError("dockerd is missing", "apt-get install docker.io")
    progress("no Docker engine runs here: starting one for the lab")
    for folder in (RUN, files()):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _MADE.exists():
        _MADE.write_text("".join(f"{each}\n" for each in _BESIDE if not Path(each).exists()))
    _PID.unlink(missing_ok=True)
    command = [
        program, "--pidfile", str(_PID), "--host", f"unix://{_SOCKET}",
        "--exec-root", str(RUN / "exec"), "--data-root", str(files()),
        # Nothing of the machine's is changed: containers reach no further than their network.
        "--bridge", "none", "--iptables=false", "--ip-forward=false", "--ip-masq=false",
    ]  # fmt: skip
    with (RUN / "log").open("ab") as log:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # A ^C in this terminal is not for it.
            start_new_session=True,
            cwd="/",
            env={"PATH": packages.PATH, "HOME": "/root"},
        )
    return _awaited()


def _awaited() -> Engine:
    deadline = time.monotonic() + _START
    while time.monotonic() < deadline:
        if _OWN.answers():
            return _OWN
        time.sleep(0.1)
    raise UserError(f"the Docker engine does not answer after {_START:.0f} s", f"see {RUN}/log")


def stop(progress: Progress) -> None:
    """End the lab's own engine, if it runs and nobody needs it any more, and what it leaves."""
    if not idle():
        return
    process = _running()
    if process is not None:
        if _OWN.answers() and _OWN.labelled(("ps", "--all")):
            return
        progress("stopping the lab's Docker engine")
        os.kill(process, signal.SIGTERM)
        deadline = time.monotonic() + _END
        while _running() == process:
            if time.monotonic() > deadline:
                os.kill(process, signal.SIGKILL)
            time.sleep(0.05)
    if RUN.exists():
        _unmount()
        for beside in _MADE.read_text().split() if _MADE.exists() else []:
            if beside in _BESIDE:
                shutil.rmtree(beside, ignore_errors=True)
        shutil.rmtree(RUN)


def _running() -> int | None:
    """The process of the lab's own engine."""
    with contextlib.suppress(OSError, ValueError):
        process = int(_PID.read_text())
        words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        return process if str(_PID).encode() in words else None
    return None


def _unmount() -> None:
    """What an engine that was killed left mounted, the deepest first."""
    mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    places = sorted((line.split()[1] for line in mounts), reverse=True)
    for place in places:
        if Path(place).is_relative_to(RUN) or Path(place).is_relative_to(files()):
            subprocess.run(["umount", "--lazy", place], capture_output=True)


@contextlib.contextmanager
def locked(progress: Progress) -> Iterator[None]:
    """Hold the lock over the engine, and over which labs there are; another lab.up or lab.down
    waits."""
    place = files().parent / "lock"
    place.parent.mkdir(parents=True, exist_ok=True)
    with lock.held(place, lambda: progress("another lab is being made or taken away: waiting")):
        yield


def use() -> TextIO:
    """Have the engine stay until this is closed. Call this under `locked`."""
    stream = _users()
    fcntl.flock(stream, fcntl.LOCK_SH)
    return stream


def idle() -> bool:
    """Whether nobody makes a lab or takes one away. Call this under `locked`."""
    with _users() as stream, contextlib.suppress(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def _users() -> TextIO:
    return (files().parent / "users").open("w")
