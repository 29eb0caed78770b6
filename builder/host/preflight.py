"""Why a release can't be activated now: looked for before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import survey
from .host import Host
from .release import Release
from .state import Record


def problems(
    host: Host, wanted: Release | None, record: Record, creates: Mapping[int, Mapping[str, Any]]
) -> Iterable[str]:
    """Why a release can't be activated now."""
    if host.paths.at("/etc/network/interfaces.new").exists():
        yield "/etc/network/interfaces.new is there: apply or discard that edit first"
    declared = wanted.guests if wanted else ()
    yield from host.platform.problems(creates, {*record.guests, *(ref.id for ref in declared)})
    for ref in declared:
        if ref.id in creates or ref.id in record.guests or survey.retired(host, ref.id):
            continue
        # Of a guest that is adopted nothing is known that another could be made from.
        if host.platform.exists(ref.id) and host.store.guest(ref.node.digest).creation:
            yield f"guest {ref.id} is there and is none of ours: say `adopt: true`, if it is meant"
