"""nginx itself as the judge of its configuration: the pinned nginx, as the guest runs it.

It runs as the guest's own user without any capability, in a network where every address can be
bound. What its own check lets pass with a warning (conflicting names, say) counts as refused.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.judges import pki, programs
from tests.judges.guest import GENERATION, Guest
from tests.judges.namespace import Daemon, Space
from tests.judges.nginx_conf import Directive, parse
from tests.judges.refusal import Refused
from tests.judges.rootfs import USERS

USER = "nginx"
_AT = f"{GENERATION}/programs/nginx"
_PROGRAM = f"{_AT}/usr/sbin/nginx"
_COMPLAINT = re.compile(r"\[(warn|error|crit|alert|emerg)\]")
_DUMPED = re.compile(r"^# configuration file (.*):$", re.MULTILINE)
_CERTIFICATES = (
    "ssl_certificate",
    "ssl_trusted_certificate",
    "ssl_client_certificate",
    "proxy_ssl_certificate",
    "proxy_ssl_trusted_certificate",
    "grpc_ssl_certificate",
    "grpc_ssl_trusted_certificate",
)
_KEYS = ("ssl_certificate_key", "proxy_ssl_certificate_key", "grpc_ssl_certificate_key")
_TRUSTED = "trusted_certificate"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What nginx read: its dump by file, and the directives of the main file."""

    files: dict[str, str]
    main: tuple[Directive, ...]

    def walk(self) -> Iterator[Directive]:
        """Every directive of the main file, at any depth."""
        for each in self.main:
            yield from each.walk()

    def servers(self, kind: str = "http") -> Iterator[Directive]:
        """The server blocks in `http` or `stream`."""
        for each in self.main:
            if each.name == kind:
                yield from each.find("server")


@dataclass(frozen=True, slots=True)
class Serving:
    """A running nginx: the space it runs in, its process, the TCP ports it listens on."""

    space: Space
    daemon: Daemon
    ports: tuple[int, ...]


def guest(files: Guest) -> Guest:
    """`files` with the pinned nginx below, as the functions here need them."""
    return Guest(files.tree, state=files.state, programs={*files.programs, "nginx"})


def check(files: Guest, conf: str = "nginx/a.conf", *, folders: Iterable[str] = ()) -> Loaded:
    """What nginx loads from `conf`, a path in the generation's folder.

    Certificates that it names and that `files` does not hold are made up. `folders` are made,
    writable for it. Raises Refused where nginx fails or as much as warns.
    """
    files = guest(files)
    with Space(binds=files.binds()) as space:
        _prepare(space, files, conf, folders)
        return _check(space, conf)


@contextlib.contextmanager
def serve(
    files: Guest, conf: str = "nginx/a.conf", *, folders: Iterable[str] = ()
) -> Iterator[Serving]:
    """nginx running on `conf` after a `check` of it, every address leading to its space."""
    files = guest(files)
    with Space(binds=files.binds()) as space:
        _prepare(space, files, conf, folders)
        space.own_all_addresses()
        loaded = _check(space, conf)
        found = {port for kind in ("http", "stream") for _, port in _listens(loaded, kind)}
        ports = tuple(sorted(found))
        daemon = space.start(
            [*_command(conf), "-g", "daemon off;"],
            environment=programs.environment("nginx", _AT),
            user=USERS[USER],
        )
        space.await_ports(daemon, ports)
        yield Serving(space, daemon, ports)


def _command(conf: str) -> list[str]:
    return [_PROGRAM, "-e", "stderr", "-p", GENERATION, "-c", posixpath.join(GENERATION, conf)]


def _prepare(space: Space, files: Guest, conf: str, folders: Iterable[str]) -> None:
    made_up = _made_up(files, conf)
    full = Guest(files.tree, state={**files.state, **made_up}, programs=files.programs)
    full.enter(space, USER)
    space.folders(["/run/phoenix", "/var/log/nginx", *folders, *_work(files, conf)], USERS[USER])


def _check(space: Space, conf: str) -> Loaded:
    result = space.run(
        [*_command(conf), "-t", "-T"],
        environment=programs.environment("nginx", _AT),
        user=USERS[USER],
    )
    if result.code != 0 or _COMPLAINT.search(result.err):
        raise Refused("nginx", result.err)
    return _understood(result.out, posixpath.join(GENERATION, conf))


def _understood(dump: str, conf: str) -> Loaded:
    pieces = _DUMPED.split(dump)[1:]
    dumped = dict(zip(pieces[::2], pieces[1::2], strict=True))
    loaded = Loaded(dumped, parse(dumped[conf]))
    clash = sorted(
        f"{one[0]}:{one[1]} of http and {other[0]}:{other[1]} of stream"
        for one in _listens(loaded, "http")
        for other in _listens(loaded, "stream")
        if one[1] == other[1] and _overlap(one[0], other[0])
    )
    if clash:
        # `nginx -t` is silent about EADDRINUSE (ngx_open_listening_sockets); a start would fail.
        raise Refused("nginx", f"two listeners on one address: {', '.join(clash)}")
    return loaded


def _directives(files: Guest, conf: str) -> Iterator[Directive]:
    try:
        for each in parse(files.text(conf)):
            yield from each.walk()
    except ValueError:
        return  # nginx will say it better


def _made_up(files: Guest, conf: str) -> dict[str, bytes]:
    """A certificate and key at every path where `conf` wants one and the guest has none yet."""
    found = dict[str, bytes]()
    for each in _directives(files, conf):
        if each.name not in _CERTIFICATES + _KEYS or not each.args:
            continue
        path = each.args[0]
        if not path.startswith("/") or "$" in path or files.has(path):
            continue
        if _TRUSTED in each.name or each.name == "ssl_client_certificate":
            found[path] = pki.authority().root
        elif each.name in _KEYS:
            found[path] = pki.placeholder().key
        else:
            found[path] = pki.placeholder().certificate
    return found


def _work(files: Guest, conf: str) -> Iterator[str]:
    """Folders that systemd makes for the unit: those of pid file, logs and temporary files."""
    for each in _directives(files, conf):
        path = each.args[0] if each.args else ""
        if not path.startswith(("/run/", "/var/", "/tmp/")):
            continue
        if each.name.endswith("_temp_path") or each.name in ("pid", "access_log", "error_log"):
            yield posixpath.dirname(path)


def _listens(loaded: Loaded, kind: str) -> Iterator[tuple[str, int]]:
    """Address ("*" for all of IPv4) and port of each TCP listener."""
    for server in loaded.servers(kind):
        for listen in server.find("listen"):
            if "udp" in listen.args or listen.args[0].startswith("unix:"):
                continue
            address, _, port = listen.args[0].rpartition(":")
            if not port.isdigit():  # an address alone
                address, port = listen.args[0], "80"
            yield address or "*", int(port)


def _overlap(one: str, other: str) -> bool:
    everywhere = ("[::]",) if "[" in one else ("*", "0.0.0.0")
    same_family = ("[" in one) == ("[" in other)
    return same_family and (one == other or one in everywhere or other in everywhere)
