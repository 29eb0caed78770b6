"""Root file systems of Debian as a guest has them: systemd as first process, and what judges
names and join kits. Made once by mmdebstrap, cached beside the judges' root, never written to.

Few of the public roots are trusted there, since each change of them costs a second with all.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.judges import rootfs
from tests.judges.refusal import Broken

GUEST = ("ca-certificates", "iproute2", "python3", "systemd", "systemd-sysv")
PACKAGES = {
    "bookworm": (*GUEST, "bind9-utils", "cloud-init", "netplan.io"),
    "trixie": GUEST,
}
ROOTS = 5
# What a guest's system asks of the outside, or fails at in any unprivileged container.
_MASKED = ("sys-kernel-debug.mount", "systemd-modules-load.service")
_UNWANTED = ("cloud-config", "cloud-final", "cloud-init", "cloud-init-local")


def ensure(suite: str = "bookworm") -> Path:
    """The root of `suite`, made first where it is not there yet."""
    own = hashlib.sha256(Path(__file__).read_bytes() + suite.encode()).hexdigest()[:16]
    final = rootfs.cache() / f"root-guest-{own}"
    if final.is_dir():
        os.utime(final)
        return final
    rootfs.cache().mkdir(parents=True, exist_ok=True)
    with rootfs.locked(rootfs.cache() / "guest-lock"):
        if not final.is_dir():
            _make(suite, final)
    return final


def _make(suite: str, final: Path) -> None:
    print(f"making a guest's root file system, once, in {final} …", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(prefix="guest-", dir=rootfs.cache()) as folder:
        made = Path(folder) / "root"
        command = [
            "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
            "mmdebstrap", "--mode=root", "--variant=minbase", "--skip=cleanup/apt",
            f"--include={','.join(PACKAGES[suite])}", suite, str(made), *_sources(suite),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, timeout=900)
        if done.returncode != 0:
            raise Broken(f"mmdebstrap failed:\n{done.stderr.decode()[-4000:]}")
        units = made / "etc/systemd/system"
        for name in (*_MASKED, *(f"{each}.service" for each in _UNWANTED)):
            (units / name).symlink_to("/dev/null")
        trusted = made / "etc/ca-certificates.conf"
        kept = [x for x in trusted.read_text().splitlines() if x.endswith(".crt")][:ROOTS]
        trusted.write_text("".join(f"{line}\n" for line in kept))
        update = ["chroot", made, "update-ca-certificates", "--fresh"]
        subprocess.run(update, check=True, capture_output=True, timeout=60)
        (made / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        (made / "etc/hostname").write_text("guest\n")
        (made / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        (made / "etc/machine-id").write_text("")
        made.chmod(0o755)
        made.rename(final)


def _sources(suite: str) -> list[str]:
    """The machine's own mirrors, where that is its suite; else mmdebstrap chooses."""
    return rootfs._sources() if suite == rootfs.SUITE else []
