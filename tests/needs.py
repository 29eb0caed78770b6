"""What of the machine the tests need, and what brings it.

`ensure` installs it where that may be done unasked: as root on Debian. Elsewhere, a test marked
`needs("nft")` whose need is missing is named at the end of the run; under CI=true it fails.
A new need is one line in NEEDS. What labs need is in builder/lab/packages.py; it is installed here
too, before tests run side by side. Of what is installed nothing is started, now or at boot: tests
run their own sshd and Docker engine.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path

from builder.lab import packages as lab_packages
from builder.problems import UserError

ROOT = Path(__file__).resolve().parent.parent

# Where Debian keeps what only root has on its PATH.
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"

POLICY = Path("/usr/sbin/policy-rc.d")
"""What Debian's packages ask whether they may start what they bring."""
_KEPT = ".before-phoenix"
_OURS = "# Of Phoenix's tests/needs.py: nothing is started while it installs.\n"

# Program → the units by which its Debian package would have it run from now on.
_SERVICES = {
    "sshd": ("ssh.service", "ssh.socket"),
    "dockerd": ("docker.service", "docker.socket", "containerd.service"),
}


@dataclass(frozen=True, slots=True)
class Need:
    """`present` looks once; `mend` says what brings it; `package` is Debian's, if one does."""

    present: Callable[[], bool]
    mend: str
    package: str = ""


def program(name: str, package: str = "") -> Need:
    """A program by name, from a Debian package of that or another name."""
    package = package or name
    return Need(lambda: which(name) is not None, f"apt-get install {package}", package)


def which(name: str) -> str | None:
    """The path of a program, also of one that only root has on its PATH."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{SBIN}")


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _index() -> bool:
    """Can pip fetch one small package?"""
    with tempfile.TemporaryDirectory() as folder:
        pip = (sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--retries", "1")
        return _succeeds(*pip, "--dest", folder, "iniconfig")


NEEDS = {
    "apt-get": program("apt-get", "apt"),
    "curl": program("curl"),
    "fuse": Need(
        lambda: os.path.exists("/dev/fuse") and find_library("fuse3") is not None,
        "apt-get install fuse3, on a machine with /dev/fuse",
        "fuse3",
    ),
    "ip": program("ip", "iproute2"),
    "mmdebstrap": program("mmdebstrap"),
    "nft": program("nft", "nftables"),
    "openssl": program("openssl"),
    "ssh-keygen": program("ssh-keygen", "openssh-client"),
    "strace": program("strace"),
    "sshd": program("sshd", "openssh-server"),
    "unshare": program("unshare", "util-linux"),
    "zstd": program("zstd"),
    "index": Need(_index, "a network where pip reaches its package index"),
    "namespaces": Need(
        lambda: _succeeds("unshare", "-rmn", "true"),
        "a kernel that lets this user make namespaces (sysctl kernel.unprivileged_userns_clone=1)",
    ),
    "root": Need(lambda: os.geteuid() == 0, "run as root"),
}


@functools.cache
def missing(name: str) -> str:
    """What to do about a need that is not met here; "" if it is met."""
    need = NEEDS[name]
    return "" if need.present() else need.mend


def strict() -> bool:
    """Is what can't run a failure, as in CI?"""
    return os.environ.get("CI") == "true"


def ensure() -> None:
    """Install the packages that are missing, saying so first; or say what will not run."""
    packages = sorted(
        {need.package for name, need in NEEDS.items() if need.package and lacks(name)}
    )
    names = " ".join(packages)
    if not (os.geteuid() == 0 and which("apt-get")):
        if packages:
            _say(f"not here, so some tests can't run: {names}")
            _say(f"  on Debian, as root: apt-get install {names}")
        return
    if not (packages or lab_packages.lacking()):
        return
    with _nothing_starts():
        if packages:
            _say(f"installing what the tests need, with apt-get: {names}")
        log = _install(packages) or _labs()
    missing.cache_clear()
    if log:
        _say(f"apt-get failed; what can't run is named at the end\n{log}")


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    """Have no service start of what is installed meanwhile, and none of it at boot."""
    absent = [name for name in _SERVICES if which(name) is None]
    try:
        with _refusing():
            yield
    finally:
        came = [name for name in absent if which(name) and which("systemctl")]
        # Each by itself: some are of other releases of Debian.
        for unit in (unit for name in came for unit in _SERVICES[name]):
            subprocess.run(["systemctl", "disable", "--quiet", unit], capture_output=True)


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Have POLICY refuse all starts meanwhile; one that is there comes back. Where this process
    is killed, ours lets everything through, or leaves it to that one, until the next run."""
    kept = POLICY.with_name(POLICY.name + _KEPT)
    lock = os.open(POLICY.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if POLICY.exists() and _OURS not in POLICY.read_text():
            POLICY.rename(kept)
        POLICY.write_text(
            f"#!/bin/sh\n{_OURS}"
            f"[ ! -e /proc/{os.getpid()} ] || exit 101\n"
            f'[ ! -x {kept} ] || exec {kept} "$@"\n'
        )
        POLICY.chmod(0o755)
        try:
            yield
        finally:
            POLICY.unlink()
            if kept.exists():
                kept.rename(POLICY)
    finally:
        os.close(lock)


def _labs() -> str:
    """Install what labs need; "" or what is wrong."""
    try:
        lab_packages.ensure(_say)
    except UserError as error:
        return f"{error.message}\n{error.hint}"
    return ""


def lacks(name: str) -> bool:
    """Is this need not met here?"""
    return bool(missing(name))


# A new machine may just be upgrading itself.
_PATIENT = "--option=DPkg::Lock::Timeout=600"


def _install(packages: Iterable[str]) -> str:
    """Install Debian packages; "" or the end of apt-get's words."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    packages, words = [*packages], ""
    if not packages:
        return words
    # The lists that the machine has may be none or old; fetching them takes a while.
    for commands in (["install"], ["update", "install"]):
        for verb in commands:
            options = ["--yes", "--no-install-recommends", *packages] if verb == "install" else []
            done = subprocess.run(
                ["apt-get", "--quiet", _PATIENT, verb, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=environment,
            )
            words = "" if done.returncode == 0 else done.stdout[-2000:]
        if not words:
            break
    return words


def _say(text: str) -> None:
    print(f"tests: {text}", file=sys.stderr, flush=True)
