"""Fetching: the client first, then the further sources; every byte by hash, or nothing.

This and the modules below it are imported only when something is missing from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from builder.inputs import addresses, golang, pypi, recipe
from builder.inputs.apt import Apt
from builder.inputs.cache import Cache
from builder.inputs.clients import RefusalError, sha256
from builder.inputs.lock import Debian, Go, Input, Lock, Pin, Pypi, Url
from builder.problems import UserError

Attempt = tuple[str, Callable[[Path], Path]]
"""A source's name for the reader, and what downloads from it into a folder."""


def make_layer(lock: Lock, entry: Input, cache: Cache, folder: Path) -> Path:
    """Fetch what `entry` pins and write its layer below `folder`; the layer's folder.

    Raises UserError where no source gives the pinned bytes, or they do not hold what they should.
    """
    fetched = files(lock, entry, cache)
    cache.progress(f"{entry.name}: packing its layer")
    return recipe.write_layer(entry, fetched, folder)


def files(lock: Lock, entry: Input, cache: Cache) -> list[Path]:
    """What `entry` pins, one file in the cache for each pin, in their order; or UserError."""
    client = _client(lock, entry, cache)
    return [_obtain(lock, entry, pin, client(pin), cache) for pin in entry.pins]


def _obtain(lock: Lock, entry: Input, pin: Pin, attempts: Sequence[Attempt], cache: Cache) -> Path:
    def make(temp: Path) -> Path:
        answers = list[str]()
        for number, (label, attempt) in enumerate([*attempts, *_further(entry, pin, cache)]):
            folder = temp / str(number)
            folder.mkdir()
            try:
                got = attempt(folder)
                have = sha256(got)
                if have == pin.sha256:
                    return got
                answers.append(f"{label}: its sha256 is {have}, locked is {pin.sha256}")
            except (RefusalError, UserError) as refused:
                answers.append(f"{label}: {refused}".replace("\n", "\n  "))
        raise UserError(_unobtainable(lock, entry, pin, answers), _hint(entry))

    def whole(held: Path) -> bool:
        return held.is_file() and sha256(held) == pin.sha256

    return cache.once(f"files/{pin.sha256}", entry.name, make, whole)


def _unobtainable(lock: Lock, entry: Input, pin: Pin, answers: Sequence[str]) -> str:
    told = "".join(f"\n  {answer}" for answer in answers)
    return f"{lock.path}: input '{entry.name}': {pin.package} {pin.version} is not to be had{told}"


def _hint(entry: Input) -> str:
    if isinstance(entry, Url):
        return "give another url, or further sources, in the lock"
    return f"with a network, ./invoke inputs.update --name {entry.name} moves the pin to the newest"


def _further(entry: Input, pin: Pin, cache: Cache) -> Iterator[Attempt]:
    for url in pin.sources:
        yield _address(url, entry, cache)


def _address(url: str, entry: Input, cache: Cache) -> Attempt:
    return url, lambda folder: addresses.fetch(url, folder, entry.name, cache.progress)


def _client(lock: Lock, entry: Input, cache: Cache) -> Callable[[Pin], list[Attempt]]:
    """For each pin of `entry`, how its own client is asked."""
    progress = cache.progress
    if isinstance(entry, Debian):
        apt = Apt(entry, cache)
        mirrors = f"APT, {entry.suite} of this machine's mirrors"
        return lambda pin: [
            ("APT, this machine's lists", lambda folder: apt.own(pin, folder)),
            (mirrors, lambda folder: apt.suite(pin, folder)),
        ]
    if isinstance(entry, Pypi):
        return lambda _: [("pip", lambda folder: pypi.fetch(entry, folder, progress))]
    if isinstance(entry, Go):
        return lambda _: [("go", lambda folder: _built(lock, entry, cache, folder))]
    return lambda pin: [_address(pin.package, entry, cache)]


def _built(lock: Lock, entry: Go, cache: Cache, folder: Path) -> Path:
    wheel = files(lock, lock.entry(entry.toolchain), cache)[0]
    return golang.fetch(entry, wheel, folder, cache.progress)
