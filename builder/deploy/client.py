"""Speaks with the host program over a connection; docs/host.md has the requests."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from builder.problems import visible

from .ssh import Link, LostError, watched

PROTOCOL = 1
PATIENCE = 900.0
"""Seconds that a line of an answer may take, where nothing else is said."""
Plain = dict[str, Any]
Told = Callable[[Plain], None]
"""Takes an event of a transaction."""


class HostError(Exception):
    """The host's answer is no: `kind` is refused, busy, failed, undone or degraded."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind, self.why = kind, visible(why)


@dataclass(frozen=True, slots=True)
class Waiting:
    """A transaction that is open on the host; `deadline` is by the host's clock, in seconds since
    the epoch, and 0 while nothing that runs has changed yet."""

    generation: int
    before: int
    stage: str
    deadline: float
    who: str


@dataclass(frozen=True, slots=True)
class Hello:
    """What the host says first. `now` is its clock's time; `kept` are its generations, each with
    its release's id, address and user; `told` how many bytes of events there are."""

    host: str
    now: float
    codecs: tuple[str, ...]
    generation: int
    kept: dict[int, Plain]
    open: Waiting | None
    trusts: bool
    told: int


class Client:
    """One connection's talk. Raises LostError where the connection ends, HostError where the host
    says no."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.hello = _hello(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.link.close()

    def ask(
        self,
        do: str,
        told: Told | None = None,
        payload: bytes = b"",
        within: float = PATIENCE,
        **facts: Any,
    ) -> Plain:
        """The last line of the answer to a request; `told` takes those before it. `payload` is
        sent after it, and in nothing that is kept or shown. `within`: seconds for each line."""
        if payload:
            facts["bytes"] = len(payload)
        return self._asked({"do": do, **facts}, iter((payload,)), told, within)

    def stream(self, do: str, parts: Iterator[bytes], **facts: Any) -> Plain:
        """The answer to a request that is followed by compressed parts."""
        framed = (len(part).to_bytes(4, "big") + part for part in parts if part)
        return self._asked({"do": do, **facts}, _ended(framed), None, PATIENCE)

    def _asked(
        self, request: Plain, after: Iterator[bytes], told: Told | None, within: float
    ) -> Plain:
        try:
            self.link.requests.write(json.dumps(request).encode() + b"\n")
            for data in after:
                self.link.requests.write(data)
            self.link.requests.flush()
        except (BrokenPipeError, ConnectionError) as error:
            raise LostError(self.link.close() or "the connection ended") from error
        while True:
            with watched(self.link, within):
                answer = self._line()
            if "error" in answer:
                raise HostError(str(answer.get("kind")), str(answer["error"]))
            if "ok" in answer:
                return answer
            if told:
                told(answer)

    def _line(self) -> Plain:
        line = self.link.answers.readline()
        if not line.endswith(b"\n"):
            raise LostError(self.link.close() or "the connection ended")
        answer: Plain = json.loads(line)
        return answer


def _ended(parts: Iterator[bytes]) -> Iterator[bytes]:
    yield from parts
    yield bytes(4)


def _hello(plain: Plain) -> Hello:
    if plain.get("phoenix") != PROTOCOL:
        raise HostError(
            "refused", f"the host speaks protocol {plain.get('phoenix')}, not {PROTOCOL}"
        )
    journal = plain["journal"]
    return Hello(
        host=visible(str(plain["host"])),
        now=float(plain["now"]),
        codecs=tuple(plain["codecs"]),
        generation=int(plain["generation"]),
        kept={int(number): each for number, each in plain["kept"].items()},
        open=Waiting(**journal) if journal else None,
        trusts=bool(plain["trusts"]),
        told=int(plain["told"]),
    )
