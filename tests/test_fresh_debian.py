"""The first run on new Debian machines: a root file system of each, with Python and no more."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

pytestmark = [pytest.mark.deep, pytest.mark.needs("mmdebstrap", "root", "index")]


class Machine:
    """A Debian root file system with this tree at /srv/phoenix."""

    def __init__(self, root: Path, suite: str) -> None:
        self.root = root
        included = "--include=ca-certificates,git,python3"
        command = ["mmdebstrap", "--quiet", "--variant=minbase", included, suite, str(root)]
        subprocess.run(command, check=True, capture_output=True)
        # How this machine reaches its network is how the new one does.
        for name in ("/etc/resolv.conf", "/etc/hosts", BUNDLE):
            shutil.copy(name, root / name.lstrip("/"))
        left_out = shutil.ignore_patterns(".*", "dist", "__pycache__")
        shutil.copytree(ROOT, root / "srv/phoenix", ignore=left_out)

    def run(self, command: str) -> tuple[int, str]:
        """Exit code and all output of a shell command in /srv/phoenix, as root."""
        prepare = f"mount --bind /dev {self.root}/dev && exec chroot {self.root} sh -c"
        done = subprocess.run(
            ["unshare", "-mpf", f"--mount-proc={self.root}/proc", "sh", "-c",
             f'{prepare} "cd /srv/phoenix && $0"', command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8",
                 **{k: v for k, v in os.environ.items() if k.startswith("PIP_")}},
        )  # fmt: skip
        return done.returncode, done.stdout


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_first_run(tmp_path: Path, suite: str) -> None:
    machine = Machine(tmp_path / suite, suite)

    code, said = machine.run("./invoke check")
    assert (code, said) == (
        1,
        "phoenix: Python's venv module is missing\n    apt-get install python3-venv\n",
    )

    install = "apt-get install --quiet --yes --no-install-recommends python3-venv"
    code, said = machine.run(f"apt-get --quiet update && {install}")
    assert code == 0, said

    code, said = machine.run("./invoke check")
    assert code == 0, said
    assert said.startswith("phoenix: making .venv from requirements.lock with /usr/bin/python3.1")
    assert said.count("phoenix:") == 1

    code, said = machine.run("unshare -n ./invoke check")
    assert code == 0, said
    assert "phoenix:" not in said
