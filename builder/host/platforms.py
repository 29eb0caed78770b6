"""What the two platforms have to do alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from .decide import Taken
from .paths import Paths
from .platform_lxc import Lxc
from .platform_proxmox import Proxmox
from .schema import RefusedError


class Platform(Protocol):
    """A host's guests."""

    def conf(self, guest: int) -> str:
        """The path of a guest's configuration."""

    def exists(self, guest: int) -> bool:
        """Whether a guest with this number is on this host."""

    def all(self) -> dict[int, bool]:
        """Every guest, ours or not, and whether it runs."""

    def root(self, guest: int) -> int:
        """The host's number of the guest's root."""

    def unready(self) -> str:
        """Why what the platform keeps can't be written now; "" where it can."""

    def locked(self, path: str) -> AbstractContextManager[None]:
        """Hold what the platform's own tools hold while they change this file of the host; raises
        FailedError where it may not be changed now."""

    def problems(
        self, creates: Mapping[int, Mapping[str, Any]], guests: Iterable[int]
    ) -> Iterator[str]:
        """Why nothing may be changed now; `creates` are the guests to be made, with their creation,
        `guests` all others that a release declares or that were ours."""

    def create(self, guest: int, creation: Mapping[str, Any]) -> None:
        """Make a guest, stopped; raises FailedError."""

    def destroy(self, guest: int) -> bool:
        """Take away a guest that `create` has made, or half made; False where another one has got
        its number meanwhile, which stays."""

    def takes(self, old: bytes, new: bytes) -> Taken:
        """How a running guest takes it that its configuration has become `new`."""

    def between(self, old: bytes, new: bytes, now: bytes) -> bool:
        """Whether a configuration is half way from `old` to `new`, as `adjust` may leave it."""

    def adjust(self, guest: int, was: bytes) -> None:
        """Have a running guest take hot what it can of its configuration, which was `was`; the file
        is the same afterwards. Raises FailedError."""

    def retired(self, conf: bytes) -> bytes:
        """The configuration of a guest that we made and that is ours no more: it does not start at
        boot, says so, and is kept."""

    def revived(self, conf: bytes) -> bytes:
        """A configuration without what `create` and `retired` put there, if they did."""

    def start(self, guest: int) -> None:
        """Raises FailedError where it does not start."""

    def stop(self, guest: int) -> None:
        """Have a guest not run: asked first, and then ended."""

    def process(self, guest: int) -> int:
        """The host's number of a running guest's first process, 0 where it has just stopped."""

    def inside(self, guest: int, *command: str, limit: float = 60) -> tuple[int, str]:
        """A command's exit code and output in a running guest."""


def platform(kind: str, paths: Paths) -> Platform:
    """The platform of a host by its name in a release."""
    if kind == "lxc":
        return Lxc(paths)
    if kind == "proxmox":
        return Proxmox(paths)
    raise RefusedError(f"this program does not know the platform {kind!r}")
