"""nginx as the TLS front of a guest's programs, which listen on its loopback alone.

The mesh asks for the guest by its name in the handshake, and hands the Host of the client on; so a
listener's server of that name shakes hands, and the one that refuses all other handshakes serves
the same locations. Who may connect at all is the firewall's to say, and limits are the gateway's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from builder.emit.fixed import fixed
from builder.kinds import nginx_common as common
from builder.kinds.nginx_common import Handling, Public, Slot
from builder.network import Front, Member
from builder.tree import File

_WORKERS = 4


@dataclass(frozen=True, slots=True)
class Program:
    """A program behind the front: the group of connections to it, and the URL of that group."""

    service: str
    upstream: str
    url: str
    server: str
    how: Handling


@dataclass(frozen=True, slots=True)
class Stream:
    """A tcp program behind TLS of the front on the public `port`."""

    service: str
    port: int
    server: str
    idle: int


@dataclass(frozen=True, slots=True)
class View:
    """All that a front's files say."""

    name: str
    slots: tuple[Slot, ...]
    programs: tuple[Program, ...]
    streams: tuple[Stream, ...]


def view(member: Member) -> View:
    """What the front of `member` does."""
    http = tuple(f for f in member.fronts if f.service.protocol != "tcp")
    tcp = tuple(f for f in member.fronts if f.service.protocol == "tcp")
    return View(
        name=member.fqdn,
        slots=common.slots(
            member, _servers(member, http), (common.stream_server(f.listener) for f in tcp)
        ),
        programs=tuple(_program(f) for f in http),
        streams=tuple(_stream(f) for f in tcp),
    )


def files(member: Member) -> Iterable[File]:
    """The front's files, below its generation's folder."""
    seen = view(member)
    yield from common.files("front", member, seen, _WORKERS)
    yield File("nginx/plain.conf", fixed("front/nginx/plain.conf"))
    for program in seen.programs:
        path = f"sites/{program.service}.conf"
        yield common.text(path, "front/nginx/site.conf.j2", program=program)


def _servers(member: Member, fronts: tuple[Front, ...]) -> Iterable[Public]:
    plain = member.listener(80)
    yield Public(plain, ("closed.conf",), tls=False, default=True)
    yield Public(plain, ("plain.conf",), member.fqdn, tls=False)
    for front in fronts:
        site, http2 = f"sites/{front.service.name}.conf", common.speaks_http2(front.service)
        yield Public(front.listener, ("reject.conf", site), http2=http2, default=True)
        yield Public(front.listener, (site,), member.fqdn, http2=http2)


def _program(front: Front) -> Program:
    how = common.handling(front.service, 0)
    upstream = f"program-{front.service.name}"
    url = f"{'grpc' if how.http2 else 'http'}://{upstream}"
    return Program(front.service.name, upstream, url, f"127.0.0.1:{front.program}", how)


def _stream(front: Front) -> Stream:
    idle = common.stream_idle(front.service)
    return Stream(front.service.name, front.listener.port, f"127.0.0.1:{front.program}", idle)
