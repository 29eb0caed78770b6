"""Traefik itself as the judge of its configuration: started on it, and asked what it loaded.

It has no check command, and it drops silently what it does not know at the top of a file. So its
debug log is switched on, in which it writes the static configuration as it has read it, and both
this and what its API tells of the dynamic one are compared with what was written.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import posixpath
import signal
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import yaml

from tests.judges import pki
from tests.judges.guest import CURRENT, GENERATION, Guest
from tests.judges.http import Response, request
from tests.judges.namespace import TIMEOUT, Daemon, Space
from tests.judges.refusal import Refused
from tests.judges.rootfs import USERS

USER = "traefik"
Data = dict[str, Any]
_PROGRAM = f"{CURRENT}/programs/traefik/traefik"
_PAUSE = 0.01
_KINDS = {
    "http": ("routers", "services", "middlewares"),
    "tcp": ("routers", "services", "middlewares"),
    "udp": ("routers", "services"),
}
_NOT_SHOWN = ("serversTransports",)
# What its API does not show, but what is refused as a whole where a nested key is wrong.
_SECTIONS = {
    "http": {*_KINDS["http"], *_NOT_SHOWN},
    "tcp": {*_KINDS["tcp"], *_NOT_SHOWN},
    "udp": {*_KINDS["udp"]},
    "tls": {"certificates", "options", "stores"},
}
_HARMLESS = (
    "Health check failed.",  # nothing listens behind it here
    # A piece of advice at every start; %2F in a path is wanted: names of models have it.
    "Traefik can reject some encoded characters in the request path.",
)
_LOADED = "Static configuration loaded [json]"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What Traefik says it loaded: API objects by name, and its static configuration."""

    raw: Data
    entry_points: list[Data]
    static: Data

    def of(self, kind: str) -> dict[str, Data]:
        """Its "routers", "services", "middlewares", "tcpRouters", …; by name without `@file`."""
        found = cast("dict[str, Data]", self.raw.get(kind) or {})
        return {
            name.removesuffix("@file"): each
            for name, each in found.items()
            if name.endswith("@file")
        }


@dataclass(frozen=True, slots=True)
class Serving:
    """A running Traefik and what it loaded; `api` asks it again."""

    space: Space
    daemon: Daemon
    loaded: Loaded
    address: tuple[str, int]

    def api(self, path: str) -> Any:
        """JSON of an API path."""
        return json.loads(_ask(self.space, self.address, path).body)


def load(files: Guest, static: str = "traefik/a.yaml", *, folders: Iterable[str] = ()) -> Loaded:
    """What Traefik loads from `static`, a path in the generation's folder, and what that names.

    Certificates that are named and that `files` does not hold are made up; `folders` are made,
    writable for it. Raises Refused for any error or warning, and for what it left out.
    """
    with serve(files, static, folders=folders) as serving:
        return serving.loaded


@contextlib.contextmanager
def serve(
    files: Guest, static: str = "traefik/a.yaml", *, folders: Iterable[str] = ()
) -> Iterator[Serving]:
    """Traefik running, all loaded and as written, every address leading to its space.

    At the end it is stopped by SIGTERM, and its log must not hold an error until then.
    """
    files = Guest(files.tree, state=files.state, programs={*files.programs, "traefik"})
    written = _yaml(files.text(static), static)
    dynamic = _dynamic(files, written)
    made_up = _made_up(files, [written, *dynamic.values()])
    files = Guest(files.tree, state={**_talking(static, written), **files.state, **made_up},
                  programs=files.programs)  # fmt: skip
    with Space(binds=files.binds()) as space:
        files.enter(space, USER)
        space.folders(["/run/phoenix", "/var/log/traefik", *folders], USERS[USER])
        space.own_all_addresses()
        daemon = space.start([_PROGRAM, f"--configFile={GENERATION}/{static}"], user=USERS[USER])
        address = _api(written)
        raw = _await(space, daemon, address, _expected(dynamic))
        _all_enabled(raw)
        entry_points = json.loads(_ask(space, address, "/api/entrypoints").body)
        loaded = Loaded(raw, entry_points, _static(space, daemon, written))
        yield Serving(space, daemon, loaded, address)
        space.signal(daemon, signal.SIGTERM)
        if space.wait(daemon) is None:
            raise Refused("traefik", f"does not stop\n{space.log(daemon)[-4000:]}")
        _complaints(space, daemon)


def _yaml(text: str, name: str) -> Data:
    try:
        data = yaml.load(text, yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise Refused("traefik", f"{name}: {error}") from error
    if not isinstance(data, dict):
        raise Refused("traefik", f"{name}: not a mapping")
    return data


def _talking(static: str, written: Data) -> dict[str, bytes]:
    """The static file with the log made to tell all, to where it can be read."""
    data = {**written, "log": {"level": "DEBUG", "format": "json"}}
    return {posixpath.join(GENERATION, static): json.dumps(data).encode()}


def _dynamic(files: Guest, written: Data) -> dict[str, Data]:
    """The files of the file provider, by path; sections that it would ignore are refused."""
    provider = written.get("providers", {}).get("file", {})
    place = provider.get("directory") or provider.get("filename") or ""
    found = dict[str, Data]()
    for path in files.below(place):
        if not path.endswith((".yaml", ".yml", ".toml")):
            continue
        data = _yaml(files.text(path), path)
        for section, parts in data.items():
            unknown = set(parts or {}) - _SECTIONS.get(section, set())
            if section not in _SECTIONS or unknown:
                raise Refused("traefik", f"{path}: would be ignored: {section} {sorted(unknown)}")
        found[path] = data
    return found


def _expected(dynamic: Mapping[str, Data]) -> dict[str, set[str]]:
    """The names that the API has to show, by its own kinds."""
    expected = dict[str, set[str]]()
    for data in dynamic.values():
        for section, kinds in _KINDS.items():
            for kind in kinds:
                shown = kind if section == "http" else section + kind.capitalize()
                names = (data.get(section) or {}).get(kind) or {}
                expected.setdefault(shown, set()).update(f"{name}@file" for name in names)
    return expected


def _made_up(files: Guest, documents: Iterable[Data]) -> dict[str, bytes]:
    """Certificates and keys where the files want some and the guest has none yet."""
    found = dict[str, bytes]()
    for data in documents:
        for key, path in _strings(data):
            if not path.startswith("/") or files.has(path):
                continue
            if key == "certFile":
                found[path] = pki.placeholder().certificate
            elif key == "keyFile":
                found[path] = pki.placeholder().key
            elif key in ("rootCAs", "caFiles"):
                found[path] = pki.authority().root
    return found


def _strings(data: object, key: str = "") -> Iterator[tuple[str, str]]:
    """Every string with the key that it stands under, also where it is in a list there."""
    if isinstance(data, dict):
        for name, value in data.items():
            yield from _strings(value, str(name))
    elif isinstance(data, list):
        for value in data:
            yield from _strings(value, key)
    elif isinstance(data, str):
        yield key, data


def _api(written: Data) -> tuple[str, int]:
    """Where the API is: the entry point `traefik`, else the one that is on loopback alone."""
    points = written.get("entryPoints") or {}
    addresses = {name: str(point.get("address", "")) for name, point in points.items()}
    on_loopback = [a for a in addresses.values() if a.startswith(("127.", "[::1]", "localhost"))]
    chosen = addresses.get("traefik") or (on_loopback[0] if on_loopback else "127.0.0.1:8080")
    host, _, port = chosen.partition("/")[0].rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def _ask(space: Space, address: tuple[str, int], path: str) -> Response:
    return request(space, *address, path)


def _await(
    space: Space, daemon: Daemon, address: tuple[str, int], expected: Mapping[str, set[str]]
) -> Data:
    """/api/rawdata once it shows all that is expected; Refused when that does not come."""
    deadline = time.monotonic() + TIMEOUT
    missing = "the API does not answer"
    space.await_ports(daemon, [address[1]])
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = _ask(space, address, "/api/rawdata")
            if answer.status == http.client.OK:
                raw = cast(Data, json.loads(answer.body))
                lacking = {
                    kind: sorted(names - set(raw.get(kind) or {}))
                    for kind, names in expected.items()
                    if names - set(raw.get(kind) or {})
                }
                if not lacking:
                    return raw
                missing = f"not loaded: {json.dumps(lacking)}"
        _complaints(space, daemon)
        if space.wait(daemon, _PAUSE) is not None:
            missing = "it ended"
            break
    raise Refused("traefik", f"{missing}\n{space.log(daemon)[-4000:]}")


def _all_enabled(raw: Data) -> None:
    for kind, entries in raw.items():
        for name, entry in entries.items():
            faults = entry.get("error") or entry.get("err")
            if faults or entry.get("status") not in (None, "enabled"):
                raise Refused("traefik", f"{kind} {name}: {entry.get('status')}: {faults}")


def _lines(space: Space, daemon: Daemon) -> Iterator[Data]:
    for line in space.log(daemon).splitlines(keepends=True):
        if not line.endswith("\n"):
            continue  # it is being written
        try:
            entry = json.loads(line)
        except ValueError:
            entry = {"level": "error", "message": line}
        yield entry if isinstance(entry, dict) else {"level": "error", "message": line}


def _complaints(space: Space, daemon: Daemon) -> None:
    said = [
        json.dumps(entry)
        for entry in _lines(space, daemon)
        if entry.get("level") in ("warn", "error", "fatal", "panic") and not _harmless(entry)
    ]
    if said:
        raise Refused("traefik", "\n".join(said))


def _harmless(entry: Data) -> bool:
    return str(entry.get("message")).startswith(_HARMLESS)


def _static(space: Space, daemon: Daemon, written: Data) -> Data:
    """The static configuration as loaded; Refused where a written key is not in it."""
    for entry in _lines(space, daemon):
        if entry.get("message") == _LOADED:
            loaded = cast(Data, entry["staticConfiguration"])
            lost = sorted(_lost(written, loaded, ""))
            if lost:
                raise Refused("traefik", f"static keys without effect: {lost}")
            return loaded
    raise Refused("traefik", "does not tell its static configuration")


def _lost(written: object, loaded: object, place: str) -> Iterator[str]:
    """Keys written that Traefik does not hold; a value that is zero or empty it leaves out."""
    if not isinstance(written, dict) or place == "log":
        return
    held = (
        {str(key).lower(): value for key, value in loaded.items()}
        if isinstance(loaded, dict)
        else {}
    )
    for key, value in written.items():
        below = f"{place}.{key}".lstrip(".")
        if str(key).lower() not in held:
            if value not in (None, False, 0, "0", "0s", "", [], {}):
                yield below
        else:
            yield from _lost(value, held[str(key).lower()], below)
