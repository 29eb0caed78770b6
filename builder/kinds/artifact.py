"""What a kind makes: files, each with the place where it belongs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from builder.network import Network
from builder.tree import Tree

Merge = Literal["replace", "interfaces", "lxc-conf", "firewall"]


@dataclass(frozen=True, slots=True)
class HostFile:
    """One file of the host at an absolute `path`, owned by root.

    `merge` says how the host program treats what stands there: "replace" a file that is ours
    alone; the others keep foreign stanzas, keys or sections.
    """

    kind: str
    path: str
    data: bytes
    mode: int = 0o644
    merge: Merge = "replace"


@dataclass(frozen=True, slots=True)
class GuestFiles:
    """Files of a guest's overlay; paths are below the generation's folder in the guest."""

    kind: str
    guest: str
    tree: Tree


@dataclass(frozen=True, slots=True)
class KitFiles:
    """Files for a person: a machine's join kit, or (`name` "site") for the operator himself."""

    kind: str
    name: str
    tree: Tree


Artifact = HostFile | GuestFiles | KitFiles


class Kind(Protocol):
    """A kind is a module with this one function, and one line in the registry."""

    def artifacts(self, network: Network) -> tuple[Artifact, ...]:
        """Everything of this kind for one host, in a stated order; pure, cannot fail."""
        ...
