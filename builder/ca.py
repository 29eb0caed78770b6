"""The site's CA on disk: `ca.init`, and what a build reads of it.

    configs/ca/root.crt                      the root's certificate: configuration, in git
    configs/ca/<host>.crt                    a host's intermediate certificate
    <out>/root.key, root.crt                 the root's encrypted key: to be kept offline
    <data>/<site>/<host>/intermediate.key    encrypted; delivered to the host's CA as a secret
    <data>/<site>/<host>/intermediate.password, intermediate.crt

`out` is <data>/<site> unless it is named, <data> our folder below XDG_DATA_HOME. No private key is
ever written inside of the project. What is there is never replaced. Each step is one rename, and
keys go before certificates, so what an interrupted run has left is taken up by the next one.
"""

from __future__ import annotations

import getpass
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from . import authority, disk
from .authority import Issuer
from .problems import UserError

ROOT = "root.crt"
# Shorter ones fall to a search over the key's file.
SHORTEST = 10

Ask = Callable[[str, bool], bytes]


@dataclass(frozen=True, slots=True)
class Plan:
    """What `init` is to make. `project` is the folder that no key may lie in; with `only`, just
    that host, else all hosts that lack an intermediate."""

    site: str
    hosts: tuple[str, ...]
    configs: Path
    project: Path
    data: Path
    out: Path | None = None
    only: str | None = None
    root_lifetime: timedelta = timedelta(days=3650)
    intermediate_lifetime: timedelta = timedelta(days=1825)

    def keys(self) -> Path:
        """The folder of the site's intermediates."""
        return self.data / self.site

    def root(self) -> Path:
        """The folder of the root's key."""
        return self.keys() if self.out is None else self.out

    def certificates(self) -> Path:
        return self.configs / "ca"


@dataclass(frozen=True, slots=True)
class Done:
    """What `init` made: the root's key (None where the root was there), and the hosts' folders."""

    root_key: Path | None
    hosts: tuple[tuple[str, Path], ...]


def certificates(configs: Path, host: str) -> tuple[bytes | None, bytes | None]:
    """The root's and the host's intermediate certificate, PEM, as far as they are there.

    UserError where a private key lies in their place: it would end in an artifact.
    """
    found = []
    for name in (ROOT, f"{host}.crt"):
        path = configs / "ca" / name
        data = disk.content(path)
        if b"PRIVATE KEY" in data:
            raise UserError(f"{path} holds a private key", "move the key out of the project")
        found.append(data or None)
    return found[0], found[1]


def init(plan: Plan, ask: Ask, now: datetime | None = None) -> Done:
    """Make the root where there is none, and the intermediates that are missing.

    `ask(prompt, new)` gives the root key's passphrase. Raises UserError for a place that keys must
    not go to, for what would be replaced, and for a root key that is not there or does not open.
    """
    now = now or datetime.now(UTC)
    _outside(plan.root(), (plan.project, plan.configs))
    _outside(plan.keys(), (plan.project, plan.configs))
    wanted = _wanted(plan)
    with disk.telling(plan.root()):
        root, new = _root(plan, ask, now)
        _publish(plan.certificates() / ROOT, root.certificate)
    made = []
    for host in wanted:
        with disk.telling(plan.keys()):
            made.append((host, _intermediate(plan, host, root, ask, now)))
    return Done(plan.root() / "root.key" if new else None, tuple(made))
