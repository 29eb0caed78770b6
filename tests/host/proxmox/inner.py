"""The first process of a node (node.py): makes the places that tests write to its own, starts the
stand-ins, says "ready", and takes in whatever outlives its parent.

    inner.py PLACE PYTHON NODE

Standard library only. What it mounts is seen in its own namespace, and goes with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
_KEPT = ("/etc", "/usr/local", "/var/lib")
_FOLDERS = (
    "/etc/pve", "/etc/network", "/etc/sysctl.d", "/etc/modules-load.d", "/etc/phoenix",
    "/etc/systemd/system", "/run/lock", "/run/pct", "/run/standins", "/var/lib/phoenix/store",
    "/var/lib/pve-cluster", "/var/lib/vz/template/cache", "/var/lib/lxc", "/usr/local/sbin",
)  # fmt: skip
_NAMES = {
    "pct.py": ("pct", "pvesm", "lxc-info", "lxc-attach"),
    "others.py": ("systemctl", "systemd-run", "ifreload", "modprobe"),
}
_SYSCTL = "/usr/lib/systemd/systemd-sysctl"


def run(*words: str) -> None:
    subprocess.run(words, check=True)


def prepare(place: Path) -> None:
    run("mount", "-t", "tmpfs", "tmpfs", str(place))
    for path in _KEPT:
        upper, work = (place / name / path[1:] for name in ("upper", "work"))
        upper.mkdir(parents=True)
        work.mkdir(parents=True)
        how = f"lowerdir={path},upperdir={upper},workdir={work}"
        run("mount", "-t", "overlay", "overlay", "-o", how, path)
    run("mount", "-t", "tmpfs", "tmpfs", "/run")
    # Where the host has a database or a Phoenix of its own, it is not this node's.
    for path in ("/var/lib/phoenix", "/var/lib/pve-cluster", "/var/lib/lxc"):
        Path(path).mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", path)
    for path in _FOLDERS:
        Path(path).mkdir(parents=True, exist_ok=True)
    Path("/etc/network/interfaces").write_text("# by hand\nauto lo\niface lo inet loopback\n")
    for program, names in _NAMES.items():
        for name in names:
            Path("/usr/local/sbin", name).symlink_to(HERE / program)
    if os.path.exists(_SYSCTL):
        # A link can't be bound over another file: what it leads to would be.
        named, other = Path("/usr/local/lib/systemd-sysctl"), Path("/run/standins/sysctl")
        named.symlink_to(HERE / "others.py")
        other.write_text(f'#!/bin/sh\nexec {named} "$@"\n')
        other.chmod(0o755)
        run("mount", "--bind", str(other), _SYSCTL)
    run("ip", "link", "set", "lo", "up")
    # Of this network, not of the one outside.
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    for name in ("vmbr0", "vmbr1"):
        run("ip", "link", "add", name, "type", "bridge")


def cluster(python: str, node: str) -> None:
    """Start the cluster's file system, and wait for it."""
    words = [python, str(HERE / "pmxcfs.py"), "/etc/pve", node]
    words += ["/var/lib/pve-cluster/config.db", "/run/pmxcfs"]
    subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not (os.path.islink("/etc/pve/local") and os.path.exists("/run/pmxcfs")):
        if time.monotonic() > end:
            sys.exit("pmxcfs does not come")
        time.sleep(0.01)


def main(place: str, python: str, node: str) -> None:
    prepare(Path(place))
    cluster(python, node)
    print("ready", flush=True)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            time.sleep(0.05)


if __name__ == "__main__":
    main(*sys.argv[1:])
