"""Placeholder for the kind names."""

from __future__ import annotations

from builder.kinds.artifact import Artifact
from builder.network import Network


def artifacts(network: Network) -> tuple[Artifact, ...]:
    assert network
    return ()
