"""What the deployer sees of the network itself: TLS to each exposed name, as a client outside.

It is asked before a change and after it, before that is confirmed. What is well before and is not
after is refused; what this machine does not reach in the first place says nothing of the change.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import cli

from .held import Ready

_PATHS = "/etc/phoenix/paths.json"
_BEFORE, _AFTER, _TRIES, _AT_ONCE = 3.0, 8.0, 3, 16
"""Seconds for a handshake before a change, which nobody shall wait for, and after it, which may be
over a bad line; how often one that fails is tried, and how many go on at once."""


@dataclass(frozen=True, slots=True)
class Entrance:
    """An exposed name where clients outside connect to; `root` is the root of its certificate as
    PEM, "" where it is not the site's: then it is not judged."""

    address: str
    port: int
    name: str
    root: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name} at {self.address} port {self.port}"


def entrances(paths: Mapping[str, Any], reach: str) -> Iterator[Entrance]:
    """The entrances that a release tells of, with `reach` for an address that only its host
    knows."""
    side = "uplink" if paths["uplink"] else "host"
    for ask in paths["asks"]:
        if ask["source"] == side and ask.get("server"):
            unknown = ipaddress.ip_address(ask["address"]).is_unspecified
            root = "" if ask.get("held") else paths["root"]
            yield Entrance(reach if unknown else ask["address"], ask["port"], ask["server"], root)


def fault(entrance: Entrance, limit: float) -> str:
    """Why a handshake fails there within `limit` seconds, or ""."""
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if entrance.root:
            context.load_verify_locations(cadata=entrance.root)
        else:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection((entrance.address, entrance.port), limit) as stream,
            context.wrap_socket(stream, server_hostname=entrance.name),
        ):
            return ""
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__


@dataclass
class Entering:
    """The entrances of one release, before and after its change."""

    every: tuple[Entrance, ...]
    look: Callable[[Entrance, float], str] = fault
    before: Future[dict[Entrance, str]] | None = None

    @staticmethod
    def of(held: Ready) -> Entering:
        """Those of a release of dist/."""
        digest = next((t.content.digest for t in held.release.targets if t.path == _PATHS), "")
        source = held.files.documents.get(digest)
        if source is None:
            return Entering(())
        paths = json.loads(Path(source.path).read_bytes())
        return Entering(tuple(dict.fromkeys(entrances(paths, held.release.reach.address))))

    def begin(self) -> None:
        """Look how it is before the change; meanwhile this machine goes on."""
        pool = ThreadPoolExecutor(1)
        self.before = pool.submit(self._looked, self.every, _BEFORE)
        pool.shutdown(wait=False)

    def fault(self) -> str:
        """What this machine reached before and reaches no more, or ""."""
        before = self.before.result() if self.before else {}
        well = [entrance for entrance in self.every if before.get(entrance) == ""]
        if self.every and not well:
            cli.say("  from here none of the exposed names was reached before: not compared")
        left: dict[Entrance, str] = dict.fromkeys(well, "")
        for tried in range(_TRIES if well else 0):
            time.sleep(tried)
            left = {each: why for each, why in self._looked(left, _AFTER).items() if why}
            if not left:
                break
        return "; ".join(f"from here, {each}: {why}" for each, why in left.items() if why)

    def _looked(self, every: Iterable[Entrance], limit: float) -> dict[Entrance, str]:
        some = tuple(every)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = pool.map(lambda each: self.look(each, limit), some)
            return dict(zip(some, found, strict=True))
