"""step-ca itself as the judge of its configuration: started on it with throw-away keys, asked for
each provisioner's directory, and made to give out certificates to the real lego.

It passes over keys that it does not know, a misspelt `policy` too, so every key that is written
has to be one that the program has (they stand in it as tags of Go's JSON reader).
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import itertools
import json
import mmap
import posixpath
import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.judges import pki, programs
from tests.judges.guest import CURRENT, Guest
from tests.judges.http import Response, request
from tests.judges.namespace import Daemon, Entry, Space
from tests.judges.refusal import Refused
from tests.judges.rootfs import USERS

USER = "step-ca"
Data = dict[str, Any]
_PROGRAM = f"{CURRENT}/programs/step-ca/step-ca"
_LEGO = f"{CURRENT}/programs/lego/usr/bin/lego"
_PASSWORD = "/run/judge/password"
_SECRET = b"a judge's password"


@dataclass(frozen=True, slots=True)
class Issued:
    """The certificate with its chain, and its key; PEM."""

    chain: bytes
    key: bytes


@dataclass(frozen=True, slots=True)
class Serving:
    """A running CA; `host` and `port` are where it says it is, `root` what its clients trust."""

    space: Space
    daemon: Daemon
    written: Data
    host: str
    port: int
    root: bytes
    _orders: Iterator[int] = field(default_factory=itertools.count)

    def ask(self, path: str) -> Response:
        """A request to it, its certificate verified by its first name."""
        return request(self.space, "127.0.0.1", self.port, path, host=self.host, trust=self.root)

    def provisioners(self) -> list[str]:
        """The names of its ACME provisioners."""
        return _acme(self.written)

    def directories(self) -> dict[str, Data]:
        """Each ACME provisioner's directory; Refused where there is none."""
        found = dict[str, Data]()
        for name in self.provisioners():
            answer = self.ask(f"/acme/{name}/directory")
            if answer.status != http.client.OK:
                raise Refused("step-ca", f"{name}: {answer.status} {answer.body.decode()}")
            found[name] = json.loads(answer.body)
        return found

    def issue(self, names: Sequence[str], provisioner: str = "") -> Issued:
        """A certificate for DNS names by ACME's http-01, as lego gets it; Refused where not.

        Names are those of the policy, or were given to `serve`: others don't resolve.
        """
        folder = f"/tmp/lego/{next(self._orders)}"
        path = f"/acme/{provisioner or self.provisioners()[0]}/directory"
        command = [
            _LEGO, "--accept-tos", "--email=judge@judge.invalid", f"--path={folder}",
            f"--server=https://{self.host}:{self.port}{path}", "--http", "--http.port=:80",
            *(f"--domains={name}" for name in names), "run",
        ]  # fmt: skip
        trust = {"LEGO_CA_CERTIFICATES": "/tmp/lego/root.crt"}
        result = self.space.run(command, environment=trust)
        if result.code != 0:
            raise Refused("step-ca", f"{result.out}{result.err}\n{self.space.log(self.daemon)}")
        stem = f"{folder}/certificates/{names[0]}"
        chain, key = self.space.read(f"{stem}.crt"), self.space.read(f"{stem}.key")
        assert chain is not None
        assert key is not None
        return Issued(chain, key)


def load(files: Guest, conf: str = "step-ca/ca.json") -> dict[str, Data]:
    """The directory of each ACME provisioner of a CA started on `conf`. Raises Refused."""
    with serve(files, conf) as serving:
        return serving.directories()


@contextlib.contextmanager
def serve(
    files: Guest, conf: str = "step-ca/ca.json", *, names: Iterable[str] = ()
) -> Iterator[Serving]:
    """The CA running on `conf`, a path in the generation's folder, healthy.

    Root, intermediate and its encrypted key are thrown in where `conf` has them. The names that
    its policy allows, and `names`, lead to the space. Raises Refused where it does not start.
    """
    written = _read(files, conf)
    _known_keys(written)
    files = Guest(
        files.tree,
        state={**_keys(written), **files.state},
        programs={*files.programs, "step-ca", "lego"},
    )
    host = (written.get("dnsNames") or ["127.0.0.1"])[0]
    port = int(str(written.get("address", "")).rpartition(":")[2] or 443)
    root = files.state_at(str(written.get("root")))
    with Space(binds=files.binds()) as space:
        files.enter(space, USER)
        space.folders([posixpath.dirname(_data_source(written))], USERS[USER])
        space.own_all_addresses()
        resolved = sorted({host, *_allowed(written), *names})
        hosts = "".join(f"127.0.0.1 {name}\n" for name in ["localhost", *resolved])
        # Before its start: Go's resolver looks at this file every five seconds only.
        space.write([Entry("/etc/hosts", hosts.encode()), Entry("/tmp/lego/root.crt", root)])
        daemon = space.start(
            [_PROGRAM, f"--password-file={_PASSWORD}", f"{CURRENT}/{conf}"], user=USERS[USER]
        )
        space.await_ports(daemon, [port])
        serving = Serving(space, daemon, written, host, port, root)
        answer = serving.ask("/health")
        if answer.status != http.client.OK:
            raise Refused("step-ca", f"not healthy: {answer.body.decode()}\n{space.log(daemon)}")
        yield serving
        space.signal(daemon, signal.SIGTERM)
        if space.wait(daemon) is None:
            raise Refused("step-ca", f"does not stop\n{space.log(daemon)}")


def _read(files: Guest, conf: str) -> Data:
    try:
        written = json.loads(files.text(conf))
    except ValueError as error:
        raise Refused("step-ca", f"{conf}: {error}") from error
    if not isinstance(written, dict):
        raise Refused("step-ca", f"{conf}: not an object")
    return written


def _keys(written: Data) -> dict[str, bytes]:
    authority = pki.authority()
    made = {
        str(written.get("root")): authority.root,
        str(written.get("crt")): authority.intermediate,
        str(written.get("key")): authority.intermediate_key(_SECRET),
        _PASSWORD: _SECRET + b"\n",
    }
    return {path: data for path, data in made.items() if path.startswith("/")}


def _data_source(written: Data) -> str:
    return str((written.get("db") or {}).get("dataSource") or "/var/lib/phoenix/step-ca/bolt.db")


def _acme(written: Data) -> list[str]:
    listed = (written.get("authority") or {}).get("provisioners") or []
    return [each["name"] for each in listed if each.get("type") == "ACME"]


def _allowed(written: Data) -> list[str]:
    policy = (written.get("authority") or {}).get("policy") or {}
    names = ((policy.get("x509") or {}).get("allow") or {}).get("dns") or []
    return [name for name in names if "*" not in name]


def _known_keys(written: Data) -> None:
    unknown = sorted({key for key in _all_keys(written) if not _known(key)})
    if unknown:
        raise Refused("step-ca", f"keys that it does not know: {unknown}")


def _all_keys(data: object) -> Iterator[str]:
    if isinstance(data, dict):
        for key, value in data.items():
            yield key
            yield from _all_keys(value)
    elif isinstance(data, list):
        for value in data:
            yield from _all_keys(value)


@functools.cache
def _known(key: str) -> bool:
    tag = f'json:"{key}'.encode()
    with (
        (programs.folder("step-ca") / "step-ca").open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as program,
    ):
        return any(program.find(tag + end) >= 0 for end in (b'"', b","))
