"""What nginx is alike in on the gateway and on the fronts: slots, listeners, how to pass on.

Paths: files of our own are named relative to nginx/ (nginx takes an include and a trusted
certificate relative to the main file's folder, a module relative to the prefix `-p`), so that each
slot reads its own generation and nothing else. What a running nginx writes lies in the unit's
RuntimeDirectory, certificates and logs in the guest's state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from builder import emit
from builder.emit.fixed import fixed
from builder.model import Guest, Profile, Service
from builder.network import Listener, Member
from builder.tree import File

CERTIFICATES = "/var/lib/phoenix/certificates"
_BUFFERED_BODY = 16 << 20
_LONG = 3600
_IDLE: dict[Profile, int] = {
    "web": 60,
    "upload": 600,
    "stream": _LONG,
    "websocket": _LONG,
    "slow": _LONG,
    "llm": _LONG,
}
_MEBIBYTE = 1 << 20
_FIXED = ("settings.conf", "server.conf", "reject.conf", "closed.conf", "challenge.conf")


@dataclass(frozen=True, slots=True)
class Handling:
    """How requests of one service are passed on.

    `http2`: to an HTTP/2 upstream. `upgrades`: web sockets pass. `buffered` and `body_buffered`:
    answers and request bodies are collected before they go on. Seconds: `idle` between two reads
    or writes of an upstream or a client, `body_idle` between two reads of a request's body.
    """

    http2: bool
    upgrades: bool
    buffered: bool
    body_buffered: bool
    idle: int
    body_idle: int


def speaks_http2(service: Service) -> bool:
    """Whether the program speaks HTTP/2 and nothing else."""
    return service.protocol in {"h2c", "grpc"}


def handling(service: Service, limit: int) -> Handling:
    """How to pass on `service`, whose request bodies are limited to `limit` bytes (0: none).

    A body is collected only where it is small for sure: the place for it is memory. gRPC and
    other HTTP/2 programs may hold a request's body open for as long as an answer.
    """
    profile, http2 = service.profile, speaks_http2(service)
    idle = _IDLE[profile]
    return Handling(
        http2=http2,
        upgrades=profile in {"websocket", "llm"} and not http2,
        buffered=profile in {"web", "upload", "slow"},
        body_buffered=profile in {"web", "websocket", "slow"} and 0 < limit <= _BUFFERED_BODY,
        idle=idle,
        body_idle=idle if http2 else min(idle, _IDLE["upload"]),
    )


def body_limit(service: Service) -> int:
    """Bytes that a request's body may have, 0 without limit: as declared, else by the profile.

    gRPC has none by default: nginx counts a whole stream of messages as one body.
    """
    if service.limits.body is not None:
        return service.limits.body
    free = service.profile in {"upload", "llm"} or speaks_http2(service)
    return 0 if free else _MEBIBYTE


def stream_idle(service: Service) -> int:
    """Seconds after which a silent connection of a tcp service is closed.

    At least ten minutes: pools of databases keep connections that say nothing.
    """
    return max(_IDLE[service.profile], _IDLE["upload"])


@dataclass(frozen=True, slots=True)
class Listen:
    """One `listen`; the first server of an address, `default`, sets the socket's options."""

    port: int
    ipv6: bool
    tls: bool
    http2: bool
    default: bool


@dataclass(frozen=True, slots=True)
class Server:
    """A server block of the main file; all else about it stands in `includes`."""

    listens: tuple[Listen, ...]
    name: str
    includes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """What the main file of slot `name` says: what differs between the two."""

    name: str
    servers: tuple[Server, ...]
    streams: tuple[Server, ...]


@dataclass(frozen=True, slots=True)
class Public:
    """A server before its slot is known: its public listener in place of ports."""

    listener: Listener
    includes: tuple[str, ...]
    name: str = ""
    tls: bool = True
    http2: bool = False
    default: bool = False


def stream_server(listener: Listener, tls: bool = True) -> Public:
    """The server of a tcp service: all that its file streams/PORT.conf says."""
    return Public(listener, (f"streams/{listener.port}.conf",), tls=tls, default=True)


def slots(member: Member, servers: Iterable[Public], streams: Iterable[Public]) -> tuple[Slot, ...]:
    """Both slots of a guest with these servers."""
    ipv6 = any(i.address6 is not None for i in member.guest.interfaces)
    servers, streams = tuple(servers), tuple(streams)
    return tuple(
        Slot(
            name,
            tuple(_server(name, server, ipv6) for server in servers),
            tuple(_server(name, server, ipv6) for server in streams),
        )
        for name in ("a", "b")
    )


def _server(slot: str, server: Public, ipv6: bool) -> Server:
    # The wildcard: a redirect of the guest's own connections leads to loopback.
    port = server.listener.a if slot == "a" else server.listener.b
    families = (False, True) if ipv6 else (False,)
    listens = tuple(
        Listen(port, family, server.tls, server.http2, server.default) for family in families
    )
    return Server(listens, server.name, server.includes)


def workers(guest: Guest, most: int) -> int:
    """Worker processes: one a core, at most `most`; `most` where the cores are not declared.

    nginx's own `auto` counts the host's cores in some containers.
    """
    return min(guest.cores or most, most)


class Stream(Protocol):
    """A tcp service on its own public port."""

    @property
    def port(self) -> int: ...


class View(Protocol):
    """What a role's view has at least; its templates know more of it."""

    @property
    def slots(self) -> tuple[Slot, ...]: ...
    @property
    def streams(self) -> Sequence[Stream]: ...


def files(role: str, member: Member, view: View, most: int) -> Iterable[File]:
    """All but the files of single HTTP servers, from the templates of `role`: both slots' main
    files, what all servers of any guest share, what all of this one do, and each tcp service."""
    for slot in view.slots:
        names = {"role": role, "slot": slot, "workers": workers(member.guest, most)}
        yield text(f"{slot.name}.conf", "common/nginx/slot.conf.j2", **names)
    for name in _FIXED:
        yield File(f"nginx/{name}", fixed(f"common/nginx/{name}"))
    yield text("http.conf", f"{role}/nginx/http.conf.j2", view=view)
    if view.streams:
        yield File("nginx/stream-settings.conf", fixed("common/nginx/stream-settings.conf"))
        yield text("stream.conf", f"{role}/nginx/stream.conf.j2", view=view)
    for stream in view.streams:
        path = f"streams/{stream.port}.conf"
        yield text(path, f"{role}/nginx/stream_server.conf.j2", stream=stream)


def text(path: str, template: str, **names: object) -> File:
    """The file nginx/`path`, rendered from `template`."""
    return File(f"nginx/{path}", emit.template(template)(**names))
