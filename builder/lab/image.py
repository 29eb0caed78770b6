"""Root file systems of Debian for the lab's host and its guests' template, made by mmdebstrap.

Each is a tar in the cache, named by the digest of what it is made by. The machine's own mirrors are
used. Nothing in them is particular to a lab: keys, names and addresses come on top.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from builder import keys
from builder.inputs import apt
from builder.inputs.cache import Cache, Progress
from builder.inputs.clients import mebibytes, run
from builder.lab.engine import LABEL, Engine
from builder.problems import UserError

SUITE = "bookworm"
_REPOSITORY = "phoenix-lab"
# Times in the tar; with it, builds from the same packages are the same bytes.
_EPOCH = "1700000000"
# What nobody reads in a lab: a third of the files.
_EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")


@dataclass(frozen=True, slots=True)
class Root:
    """A root file system: what it is for, its packages on top of the smallest Debian, and commands
    that end it, with its folder in $1."""

    label: str
    packages: tuple[str, ...]
    hooks: tuple[str, ...]

    @property
    def key(self) -> str:
        """Its name in the cache."""
        made_by = [SUITE, platform.machine(), *_arguments(self)]
        return hashlib.sha256(json.dumps(made_by).encode()).hexdigest()


_COMMON = (
    "ca-certificates", "dbus", "iproute2", "iputils-ping", "openssl", "procps", "python3",
    "systemd", "systemd-sysv",
)  # fmt: skip
HOST = Root(
    "the lab's host",
    (
        *_COMMON, "apparmor", "bridge-utils", "curl", "fuse3", "ifupdown2", "kmod",
        "libpam-systemd", "lxc", "nftables", "openssh-server", "strace", "uidmap", "zstd",
    ),
    # Keys are each lab's own; LXC's defaults name a bridge that is not there.
    ('rm -f "$1"/etc/ssh/ssh_host_* "$1"/etc/lxc/default.conf "$1"/etc/motd',),
)  # fmt: skip
TEMPLATE = Root(
    "the guests' template",
    _COMMON,
    # In an unprivileged guest these fail.
    (
        'ln -s /dev/null "$1"/etc/systemd/system/sys-kernel-debug.mount',
        'ln -s /dev/null "$1"/etc/systemd/system/systemd-modules-load.service',
        'echo guest >"$1"/etc/hostname',
        # No public server is asked here. Each guest makes the bundle of roots anew, for ours, and
        # all 140 of them take a second of that.
        'sed -i "/ISRG/!s/^[^#!]/!&/" "$1"/etc/ca-certificates.conf',
        'chroot "$1" update-ca-certificates --fresh',
    ),
)


def cache(progress: Progress) -> Cache:
    """Where root file systems are kept between labs."""
    return Cache(keys.folder(os.environ, "XDG_CACHE_HOME", ".cache") / "lab", progress)


def ensure(root: Root, store: Cache) -> Path:
    """The tar of a root file system, made first where it is not in the cache (a minute)."""

    def make(folder: Path) -> Path:
        made = folder / "root"
        made.mkdir()
        _make(root, folder, made / "root.tar", store.progress)
        return made

    place = store.once(root.key, root.label, make, lambda at: (at / "root.tar").is_file())
    store.used([root.key])
    return place / "root.tar"


def name() -> str:
    """The host's image, as Docker knows it."""
    return f"{_REPOSITORY}:{HOST.key[:16]}"


def imported(engine: Engine, store: Cache) -> str:
    """The name of the host's image in an engine, imported first where it is not there."""
    if engine.tried("image", "inspect", name())[0] != 0:
        tar = ensure(HOST, store)
        store.progress(f"{HOST.label}: importing {tar.stat().st_size >> 20} MiB into Docker")
        changes = ("--change", f"LABEL {LABEL}=image", "--change", "ENV container=docker")
        engine.run("import", *changes, str(tar), name())
    return name()


def forget(engine: Engine) -> None:
    """Take the host's images out of an engine."""
    listed = engine.run("images", "--quiet", "--no-trunc", "--filter", f"label={LABEL}=image")
    for each in sorted(set(listed.split())):
        engine.run("rmi", "--force", each)


def _arguments(root: Root) -> Sequence[str]:
    return [
        # Without devices: an unprivileged guest may not make them, and a container has its own.
        "--mode=root", "--variant=minbase", "--skip=output/dev",
        f"--include={','.join(sorted(root.packages))}",
        *(f"--dpkgopt=path-exclude={path}" for path in _EXCLUDED),
        *(f"--customize-hook={hook}" for hook in root.hooks),
    ]  # fmt: skip


def _make(root: Root, folder: Path, target: Path, progress: Progress) -> None:
    label = f"{root.label}: making a Debian root file system, once"
    progress(label)
    sources = folder / "debian.sources"
    repositories = list(apt.derived(apt.machine_sources(folder), SUITE))
    if not repositories:
        raise UserError("this machine's APT sources name no Debian mirror", "add one to them")
    sources.write_text(apt.sources_text(repositories), encoding="utf-8")
    # In namespaces of its own: what it mounts and starts goes with it, however it ends.
    spaces = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    command = [*spaces, "mmdebstrap", *_arguments(root), SUITE, str(target), str(sources)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": _EPOCH, "TMPDIR": str(folder)}
    answer = run(
        command,
        cwd=folder,
        env=environment,
        tick=lambda: progress(f"{label}, {mebibytes(folder)}"),
    )
    if answer.code != 0:
        raise UserError(f"mmdebstrap made no root file system: {answer.gist()}")
