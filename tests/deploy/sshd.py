"""A real sshd on loopback with keys and a configuration of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import needs

SERVED = f"{sys.executable} {Path(__file__).with_name('served.py')}"
PROGRAM = 'sh -c "$SSH_ORIGINAL_COMMAND"'
"""What a host without a forced command runs."""


@dataclass(frozen=True)
class Sshd:
    """sshd as it runs; `ssh` is the command that reaches it at any address of loopback."""

    folder: Path
    port: int

    @property
    def ssh(self) -> str:
        return f"ssh -F {self.folder}/ssh_config"


def key(path: Path) -> Path:
    """A key pair."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)]
        subprocess.run(made, check=True)
    return path


def known(folder: Path, port: int, address: str) -> None:
    """Have the user's own ssh know the host at an address."""
    public = (folder / "host.pub").read_text()
    with (folder / "known").open("a") as out:
        out.write(f"[{address}]:{port} {public}")


@contextmanager
def running(folder: Path, forced: str, port: int = 0) -> Iterator[Sshd]:
    """sshd with a forced command, on a free port or a given one."""
    host, user = key(folder / "host"), key(folder / "user")
    if not port:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
    (folder / "authorized").write_text(user.with_suffix(".pub").read_text())
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 0.0.0.0\nHostKey {host}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPermitRootLogin yes\n"
        f"PasswordAuthentication no\nForceCommand {forced}\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\n  Port {port}\n  IdentityFile {user}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {folder}/known\n  GlobalKnownHostsFile none\n"
        "  StrictHostKeyChecking yes\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    program = needs.which("sshd")
    assert program
    with (folder / "sshd.log").open("ab") as log:
        process = subprocess.Popen(
            [program, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log
        )
    try:
        _listens(port, process)
        yield Sshd(folder, port)
    finally:
        process.terminate()
        process.wait()


def _listens(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 10
    while time.monotonic() < end and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("sshd does not listen")
