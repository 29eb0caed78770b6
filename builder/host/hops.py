"""Each hop of a running release, asked once: from the uplink's side, the host and each guest."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from . import asking, uplink
from .gate import Answer, Ask, Hop, Paths, judged, read
from .platforms import Platform
from .probe import Enter, in_network_of
from .release import Release
from .store import Store

_UPLINK, _HOST = "uplink", "host"


def hops(store: Store, platform: Platform, wanted: Release | None) -> tuple[Hop, ...]:
    """Each hop of a running release, asked once."""
    found = read(store, wanted)
    if found is None:
        return ()
    asks = tuple(_addressed(found))
    running = platform.all()
    places: dict[str, Enter | str] = {_HOST: lambda: None}
    for source in {ask.source for ask in asks} - {_HOST, _UPLINK}:
        runs = running.get(int(source))
        places[source] = (
            in_network_of(platform.process(int(source))) if runs else f"guest {source} does not run"
        )
    trusts = {"": found.root, **dict(_trusts(platform, asks, running))}
    with contextlib.ExitStack() as made:
        entering = [ask for ask in asks if ask.source == _UPLINK]
        if entering:
            six = any(":" in ask.address for ask in entering)
            places[_UPLINK] = made.enter_context(uplink.side(found.uplink, six))
        answers = asking.all_of(asks, places, trusts)
    awaiting = tuple(_awaiting(platform, asks, answers))
    return judged(found.patience, asks, answers, awaiting)


def _addressed(found: Paths) -> Iterator[Ask]:
    """The asks, with the addresses that only the kernel knows."""
    known: dict[tuple[str, bool], str] = {}
    for ask in found.asks:
        address = ipaddress.ip_address(ask.address)
        if address.is_unspecified and found.uplink:
            find = uplink.gateway if ask.how == "ping" else uplink.own
            key = (ask.how, address.version == 6)
            if key not in known:
                known[key] = find(found.uplink, key[1])
            yield ask._replace(address=known[key])
        else:
            yield ask


def _trusts(
    platform: Platform, asks: Iterable[Ask], running: Mapping[int, bool]
) -> Iterator[tuple[str, str]]:
    """The certificates that guests keep from elsewhere, by their files."""
    held = {ask.held: int(ask.target) for ask in asks if ask.held}
    for path, guest in held.items():
        if running.get(guest):
            code, text = platform.inside(guest, "cat", path)
            yield path, "" if code else text


def _awaiting(
    platform: Platform, asks: Iterable[Ask], answers: Mapping[str, Answer]
) -> Iterator[str]:
    """The asks that fail since the target has no certificate yet."""
    for ask in asks:
        shaken = ask.awaits and answers[ask.key].failed == "handshake"
        if shaken and platform.inside(int(ask.target), "test", "-s", ask.awaits)[0]:
            yield ask.key
