"""What HOST-FACTS says of /etc/pve, of NNN.conf and of PVE's locks, sentence by sentence, as far as
a stand-in can show it. Each is held by at least one test (`says`), and no test holds another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

CLUSTER = (
    "rename() over an existing file is atomic",
    "no symlink (ENOSYS)",
    "its own links: local, lxc, qemu-server",
    "no hard link (EPERM)",
    "no RENAME_EXCHANGE or NOREPLACE (EINVAL)",
    "no O_TMPFILE",
    "a rename from another file system gives EXDEV",
    "chmod only 0640 (0600 under priv/), else EPERM",
    "chown only root:www-data, else EPERM",
    "a file is at most 1 MiB",
    "one big write() can return short",
    "fsync returns 0 and does nothing",
    "a power cut can roll all of /etc/pve back to an earlier consistent state",
    "without quorum reads work",
    "without quorum open() for writing succeeds",
    "without quorum write, create, rename and unlink give EACCES",
    "with pmxcfs down /etc/pve is a plain directory",
    "/etc/pve/local is a symlink, mode & 0200 with quorum",
    "temporary names are safe in /etc/pve/lxc",
    "a VMID is unique in the cluster over containers and VMs: EEXIST",
    "renaming 101.conf away drops the VMID from the cluster's list",
)
PCT = (
    "PVE writes NAME.tmp.PID with O_EXCL, then renames",
    "a config is under flock of /run/lock/lxc/pve-config-VMID.lock",
    "refuse where a lock: key stands",
    "unknown keys warn and stay",
    "unparseable lines and bad lxc.* keys vanish at PVE's next write",
    "of duplicate keys the last wins silently",
    "missing arch, ostype or rootfs fails only at start",
    "PVE rewrites canonically",
    "lxc.rootfs.path and lxc.hook.start-host are refused",
    "hot by pct set",
    "all else goes to [pve:pending]",
    "rewriting the file under a running container changes nothing in it",
    "a later pct set of the same value is then a no-op",
    "any symlink component in a mpN's host path makes the start fail",
    "a mount's source must exist",
    "unknown options, bad ids and wrong states are refused",
)
SENTENCES = CLUSTER + PCT
HELD: defaultdict[str, list[str]] = defaultdict(list)


def says(*sentences: str) -> Callable[[Any], Any]:
    """The test shows that a stand-in does what these sentences say."""

    def mark(test: Any) -> Any:
        for sentence in sentences:
            assert sentence in SENTENCES, sentence
            HELD[sentence].append(test.__name__)
        return test

    return mark
