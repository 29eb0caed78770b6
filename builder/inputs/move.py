"""Moving pins: ask each client for its newest version, and rewrite the lock.

The hash of a wheel or a package is what its index says; that of a Go program is known only once it
is built. So a moved toolchain rebuilds all that it builds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from builder import disk
from builder.inputs import fetch, golang, pypi
from builder.inputs.apt import Apt
from builder.inputs.cache import Cache
from builder.inputs.clients import RefusalError, sha256
from builder.inputs.lock import Debian, Go, Input, Lock, Pypi, Url, has_layer, load_lock
from builder.problems import UserError


def update(lock_path: Path, name: str | None, cache: Cache) -> list[str]:
    """Move `name`, or every input, to its newest version; see `builder.inputs.update`."""
    old = new = load_lock(lock_path)
    if name is not None and isinstance(old.entry(name), Url):
        raise UserError(
            f"{lock_path}: input '{name}' has an address of its own, which names its version",
            "write the new url, version and sha256 into the lock",
        )
    for entry in _chosen(old, name):
        held = f"move-{entry.name}"
        try:
            with cache.telling(), cache.locked(held, entry.name), cache.scratch(held) as room:
                new = new.replaced(_newest(old, new, entry, name, cache, room))
        except RefusalError as refused:
            message = f"{lock_path}: input '{entry.name}': no newest version to be had: {refused}"
            raise UserError(message, "the lock is as it was") from refused
    changes = [line for entry in new.entries for line in _changes(old.entry(entry.name), entry)]
    if changes:
        _write(lock_path, new.text())
    return changes


def _chosen(lock: Lock, name: str | None) -> list[Input]:
    """What is to be moved: build tools first, and with a tool all that it builds."""
    chosen = [
        entry
        for entry in lock.entries
        if name in (None, entry.name) or (isinstance(entry, Go) and entry.toolchain == name)
    ]
    return sorted(chosen, key=has_layer)


def _newest(
    old: Lock, new: Lock, entry: Input, name: str | None, cache: Cache, room: Path
) -> Input:
    """`entry` with its newest pins; RefusalError where its client has no answer."""
    if isinstance(entry, Pypi):
        pin = pypi.newest(entry, room, cache.progress)
        return entry if pin.version == entry.pin.version else replace(entry, pin=pin)
    if isinstance(entry, Debian):
        apt = Apt(entry, cache)
        return replace(entry, pins=tuple(apt.newest(pin, room) for pin in entry.pins))
    if isinstance(entry, Go):
        moved_tool = old.entry(entry.toolchain) != new.entry(entry.toolchain)
        if moved_tool or name != entry.toolchain:
            return _rebuilt(new, entry, moved_tool, name != entry.toolchain, cache, room)
    return entry


def _rebuilt(lock: Lock, entry: Go, moved_tool: bool, move: bool, cache: Cache, folder: Path) -> Go:
    """`entry` built anew, where its toolchain or, with `move`, its version is another."""
    wheel = fetch.files(lock, lock.entry(entry.toolchain), cache)[0]
    room = golang.furnish(wheel, entry, folder, cache.progress)
    version = golang.latest(room, entry.module) if move else entry.pin.version
    if version == entry.pin.version and not moved_tool:
        return entry
    total = golang.module_sum(room, entry.module, version)
    program = golang.build(room, entry, version, cache.progress)
    have = sha256(program)
    # The program is at hand: the next build need not make it again.
    cache.once(f"files/{have}", entry.name, lambda _: program)
    sources = entry.pin.sources if have == entry.pin.sha256 else ()
    pin = replace(entry.pin, version=version, sha256=have, sources=sources)
    return replace(entry, pin=pin, sum=total)


def _changes(old: Input, new: Input) -> Iterator[str]:
    for before, after in zip(old.pins, new.pins, strict=True):
        if before == after:
            continue
        moved = f"{before.version} → {after.version}"
        if before.version == after.version:
            moved = f"{after.version}, built anew"
        hashes = f"sha256 {before.sha256[:12]}… → {after.sha256[:12]}…"
        dropped = "; its further sources held the old one and are dropped"
        lost = dropped if before.sources and not after.sources else ""
        yield f"{new.name}: {after.package} {moved} ({hashes}){lost}"


def _write(path: Path, text: str) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with disk.telling(path.parent):
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
