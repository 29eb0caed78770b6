"""The judges' root: one Debian 12 file system that holds the programs which judge.

Made once by mmdebstrap (20 s) and cached under ~/.cache/phoenix/judges/ by content: its name is
the digest of this module, so another package list or another step makes another root. It is never
written to afterwards; whoever uses it lays an overlay over it.

`python -m tests.judges.rootfs` makes it ahead of the tests and prints its path.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.judges.refusal import Broken

SUITE = "bookworm"
PACKAGES = (
    "bridge-utils",
    "ethtool",
    "ifupdown2",
    "iproute2",
    "lxc",
    "nftables",
    "openssl",
    "procps",
    "python3",
    "python3-lxc",
    "systemd",
)
# What no judge reads; half of the root's size and files.
_DROPPED = ("usr/share/doc", "usr/share/man", "usr/share/locale", "var/cache/apt", "var/lib/apt")
_TIMEOUT = 900
_KEPT = 30 * 24 * 3600


def cache() -> Path:
    """The folder of everything that the judges keep between runs."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "phoenix" / "judges"


def ensure() -> Path:
    """The judges' root, made first where it is not there yet. Raises Broken where it can't be."""
    own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:16]
    final = cache() / f"root-{own}"
    if final.is_dir():
        os.utime(final)
        return final
    cache().mkdir(parents=True, exist_ok=True)
    with locked(cache() / "lock"):
        if not final.is_dir():
            _make(final)
    return final


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; waits for who holds it."""
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _make(final: Path) -> None:
    if os.geteuid() != 0:
        raise Broken("the judges' root file system can only be made as root")
    if shutil.which("mmdebstrap") is None:
        raise Broken("mmdebstrap is not installed: apt-get install mmdebstrap")
    print(f"making the judges' root file system, once, in {final} …", file=sys.stderr, flush=True)
    _forget()
    with tempfile.TemporaryDirectory(prefix="making-", dir=cache()) as folder:
        made = Path(folder) / "root"
        # In namespaces of its own: what it mounts and starts goes with it, killed or not.
        command = [
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
            "mmdebstrap", "--mode=root", "--variant=minbase", "--skip=cleanup/apt",
            f"--include={','.join(PACKAGES)}", SUITE, str(made), *_sources(),
        ]  # fmt: skip
        try:
            subprocess.run(
                command, check=True, timeout=_TIMEOUT, capture_output=True, stdin=subprocess.DEVNULL
            )
        except subprocess.CalledProcessError as error:
            raise Broken(f"mmdebstrap failed:\n{error.stderr.decode()[-4000:]}") from error
        for path in _DROPPED:
            shutil.rmtree(made / path, ignore_errors=True)
        _settle(made)
        made.chmod(0o755)
        made.rename(final)


def _forget() -> None:
    """Remove what a killed maker left, and roots that nobody used for a month. Under the lock."""
    for path in cache().glob("making-*"):
        shutil.rmtree(path)
    for path in cache().glob("root-*"):
        if time.time() - path.stat().st_mtime > _KEPT:
            shutil.rmtree(path)


def _sources() -> list[str]:
    """The machine's own Debian mirrors, as sources of SUITE; [] lets mmdebstrap choose."""
    if shutil.which("apt-get") is None:
        return []
    form = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    sources = set[str]()
    for line in listed.stdout.splitlines():
        origin, label, uri = line.split("|", 2)
        if (origin, label) == ("Debian", "Debian-Security"):
            sources.add(f"deb {uri} {SUITE}-security main")
        elif (origin, label) == ("Debian", "Debian"):
            sources.add(f"deb {uri} {SUITE} main")
    return sorted(sources)


def _settle(root: Path) -> None:
    """Set up the root for judging."""
    # Unknown attributes are silent by default; a judge wants to hear of them.
    settings = root / "etc/network/ifupdown2/ifupdown2.conf"
    text = settings.read_text()
    assert "addon_syntax_check=0" in text
    settings.write_text(text.replace("addon_syntax_check=0", "addon_syntax_check=1"))
    # ifup's lock lies here; without the folder it says that another instance is running.
    (root / "run/network").mkdir(parents=True, exist_ok=True)
    # Names come from /etc/hosts alone, and what is not there fails at once.
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "etc/hostname").write_text("judge\n")
    # The guests' users, by the names that docs/architecture.md gives their numbers.
    with (root / "etc/passwd").open("a") as stream:
        stream.writelines(
            f"phoenix-{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin\n"
            for name, number in USERS.items()
        )
    with (root / "etc/group").open("a") as stream:
        stream.writelines(f"phoenix-{name}:x:{number}:\n" for name, number in USERS.items())
        stream.write(f"phoenix-certs:x:{CERTIFICATES_GROUP}:\n")
    for folder in ("opt/phoenix", "opt/phoenix-secrets", "var/lib/phoenix"):
        (root / folder).mkdir(parents=True)


USERS = {"nginx": 6101, "traefik": 6102, "step-ca": 6103, "lego": 6104}
CERTIFICATES_GROUP = 6100


if __name__ == "__main__":
    print(ensure())
