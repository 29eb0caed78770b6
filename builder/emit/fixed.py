"""Files under overlays/ that go into an overlay as they are."""

from __future__ import annotations

from functools import lru_cache

from builder.emit.template import OVERLAYS


@lru_cache(maxsize=64)
def fixed(name: str) -> bytes:
    """The bytes of `overlays/NAME`, such as "common/bin/phoenix-names"."""
    return (OVERLAYS / name).read_bytes()
