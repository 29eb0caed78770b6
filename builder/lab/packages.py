"""Debian packages that the lab needs on this machine."""

from __future__ import annotations

import os
import shutil
import subprocess

from builder.inputs.cache import Progress
from builder.problems import UserError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for: also those that only root has on its PATH."""

# Program → the packages that may hold it; the first that Debian's release has is taken.
_NEEDED = {
    "dockerd": ("docker.io",),
    "docker": ("docker-cli", "docker.io"),
    "mmdebstrap": ("mmdebstrap",),
    "ip": ("iproute2",),
    "unshare": ("util-linux",),
    "ssh": ("openssh-client",),
}


def program(name: str) -> str | None:
    """The path of a program; None where it is not installed."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:{PATH}")


def ensure(progress: Progress) -> None:
    """Install what is lacking, saying so first. UserError where that can't be done."""
    if os.geteuid() != 0:
        raise UserError("the lab is made of containers and networks: only root can make it")
    for name in lacking():
        if program(name) is None:
            _install(name, _NEEDED[name], progress)


def lacking() -> list[str]:
    """The programs that a lab needs and that are not here."""
    return [name for name in _NEEDED if program(name) is None]


def _install(name: str, packages: tuple[str, ...], progress: Progress) -> None:
    if program("apt-get") is None:
        hint = f"install it by this system's own means (Debian's package is {packages[-1]})"
        raise UserError(f"{name} is missing, and there is no apt-get", hint)
    answer = ""
    # The lists that the machine has may be none or old.
    for update in (False, True):
        if update:
            _apt("update")
        for package in packages:
            progress(f"installing {package} with apt-get, for {name}")
            answer = _apt("install", "--yes", "--no-install-recommends", package)
            if program(name) is not None:
                return
    raise UserError(f"apt-get brought no {name}: {answer}", f"apt-get install {packages[-1]}")


def _apt(*arguments: str) -> str:
    """Run apt-get; the last line that it printed."""
    done = subprocess.run(
        ["apt-get", "--quiet", "--option=DPkg::Lock::Timeout=600", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    return (done.stdout.strip().splitlines() or [""])[-1]
