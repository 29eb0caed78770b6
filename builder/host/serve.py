"""What the deployer asks over ssh: a line of JSON a request, a line or more an answer.

Nothing that comes is trusted before its release's signature is; until then it lies in `incoming`.
The host program that is installed already does all of this, and only then starts the newer one that
a release may bring.

A request that says `"codec"` is followed by a stream of parts, one that says `"bytes": N` by N
bytes. The last line of an answer says `"ok"` or `"error"`; those before it are events.
"""

from __future__ import annotations

import io
import json
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from . import (
    VERSION,
    bundles,
    commands,
    files,
    foreign,
    generations,
    report,
    signed,
    stream,
    survey,
    transaction,
)
from .commands import FailedError
from .host import DegradedError, Host, UndoneError
from .release import LONGEST, Object, Release, release
from .schema import RefusedError
from .state import load_journal, load_record
from .store import NODE
from .stream import Parts
from .unit import Answer, Follow, lines, size

PROTOCOL = 1
_SECRETS = 1 << 20
"""What a bundle has at most, in bytes."""
Request = dict[str, Any]
_KINDS = {
    RefusedError: "refused",
    FailedError: "failed",
    UndoneError: "undone",
    DegradedError: "degraded",
    OSError: "failed",
}


class Session:
    """One deployer's connection."""

    def __init__(self, host: Host, follow: Follow) -> None:
        self.host, self.follow = host, follow
        self.signers: bytes | None = None
        self.wanted: tuple[bytes, bytes, Release] | None = None
        self.bundles: dict[int, str] = {}
        self.parts, self.secret = Parts(io.BytesIO()), b""

    def run(self, asked: IO[bytes], answers: IO[bytes]) -> None:
        """Answer requests until the connection ends; a refusal is an answer too."""
        try:
            _say(answers, self.hello())
            while line := asked.readline(LONGEST):
                self._one(line, asked, answers)
        except (EOFError, BrokenPipeError):
            return

    def hello(self) -> Answer:
        """What a deployer has to know first."""
        paths = self.host.paths
        journal = files.read(paths.journal)
        return {
            "phoenix": PROTOCOL,
            "host": socket.gethostname(),
            "now": time.time(),
            "codecs": stream.codecs(),
            "generation": load_record(files.read(paths.record)).generation,
            "kept": {
                str(each.number): {
                    "id": each.id,
                    **each.reach,
                    "pinned": generations.is_pinned(paths, each.number),
                    "ran": generations.ran(paths, each.number),
                }
                for each in generations.all_kept(paths)
            },
            "journal": _told(journal) if journal else None,
            "trusts": paths.signers.exists(),
            "told": size(paths),
        }

    def _one(self, line: bytes, asked: IO[bytes], answers: IO[bytes]) -> None:
        try:
            request = json.loads(line)
            self.parts, self.secret = Parts(asked), b""
            if "codec" not in request:
                self.parts.ended = True
            if length := request.get("bytes", 0):
                self.secret = asked.read(min(length, _SECRETS))
            for answer in self._verb(request["do"])(request):
                _say(answers, answer)
            self.parts.drain()
        except files.BusyError as error:
            self._refuse(answers, "busy", f"held by {error.who}")
        except (EOFError, BrokenPipeError):
            raise
        except tuple(_KINDS) as error:
            kind = next(word for each, word in _KINDS.items() if isinstance(error, each))
            self._refuse(answers, kind, str(error))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            self._refuse(answers, "refused", f"the request is not understood: {error!r:.200}")

    def _refuse(self, answers: IO[bytes], kind: str, why: str) -> None:
        self.parts.drain()
        _say(answers, {"error": why, "kind": kind})

    def _verb(self, name: str) -> Callable[[Request], Iterator[Answer]]:
        verbs: dict[str, Callable[[Request], Iterator[Answer]]] = {
            "trust": self._trust,
            "stage": self._stage,
            "lacking": self._lacking,
            "put": self._put,
            "bundles": self._bundles,
            "plan": self._plan,
            "network": self._network,
            "secrets": self._secrets,
            "keep": self._keep,
            "activate": self._activate,
            "confirm": self._confirm,
            "events": self._events,
            "status": self._status,
            "pin": self._pin,
        }
        if name in _UNITS:
            return self._unit
        if name not in verbs:
            raise RefusedError(f"{name!r:.40} is nothing that this program does")
        return verbs[name]

    def _trust(self, request: Request) -> Iterator[Answer]:
        """The allowed signers, on a host that has none yet: only then the connection is trusted.
        They are kept with the first release that they signed."""
        if self.host.paths.signers.exists():
            raise RefusedError("this host has its signers already: edit that file on the host")
        self.signers = request["signers"].encode()
        yield {"ok": True}

    def _stage(self, request: Request) -> Iterator[Answer]:
        """A release that is to come; its signature first, since all else follows from it."""
        with stream.plain(request["codec"], self.parts, self._older(request)) as source:
            manifest, signature = (
                stream.exactly(source, min(request[name], LONGEST))
                for name in ("manifest", "signature")
            )
        who = self._signer(manifest, signature)
        wanted = release(manifest)
        if wanted.unready:
            raise RefusedError("; ".join(wanted.unready))
        generations.same_host(self.host.paths, wanted)
        self.wanted, self.bundles = (manifest, signature, wanted), {}
        yield {"ok": True, "signer": who}

    def _older(self, request: Request) -> Iterator[bytes]:
        """What a staged release was packed against: a kept generation."""
        manifest, signature = generations.written(self.host.paths, int(request.get("like", 0)))
        yield from stream.likes(manifest, 0, min(request["manifest"], LONGEST))
        yield from stream.likes(signature, 0, min(request["signature"], LONGEST))

    def _signer(self, manifest: bytes, signature: bytes) -> str:
        path = self.host.paths.signers
        if path.exists():
            return signed.verify(manifest, signature, path)
        if self.signers is None:
            raise RefusedError("this host knows no signers yet")
        with tempfile.NamedTemporaryFile(prefix="phoenix-signers-") as held:
            held.write(self.signers)
            held.flush()
            return signed.verify(manifest, signature, Path(held.name))

    def _staged(self) -> tuple[bytes, bytes, Release]:
        if self.wanted is None:
            raise RefusedError("no release is staged on this connection")
        return self.wanted

    def _lacks(self) -> dict[str, Object]:
        """What of the staged release is not here, as far as what is here says."""
        store = self.host.store
        needed = {each.digest: each for each in store.needed(self._staged()[2])}
        return {digest: each for digest, each in needed.items() if not store.has(digest)}

    def _lacking(self, _request: Request) -> Iterator[Answer]:
        begun = self.host.store.begun
        yield {"ok": True, "lacking": [[d, o.size, begun(d)] for d, o in self._lacks().items()]}

    def _put(self, request: Request) -> Iterator[Answer]:
        """Files that the release names, one after the other in one compressed stream."""
        store = self.host.store
        lacks = {digest[:NODE]: each for digest, each in self._lacks().items()}
        asked = ((lacks.get(name[:NODE]), begin) for name, begin in request["objects"])
        wanted = [(each, begin) for each, begin in asked if each]
        if len(wanted) != len(request["objects"]):
            raise RefusedError("what comes is nothing that the release lacks here")
        files.folder(self.host.paths.store)
        files.folder(self.host.paths.incoming, 0o700)
        needs = sum(each.size - begin for each, begin in wanted)
        if needs > (free := shutil.disk_usage(self.host.paths.store).free):
            raise RefusedError(f"{needs >> 20} MiB are to come, and {free >> 20} MiB are free")
        olds = store.likes(request.get("like", [""] * len(wanted)), wanted)
        with stream.plain(request["codec"], self.parts, olds) as source:
            for each, begin in wanted:
                store.receive(each.digest, begin, each.size - begin, source)
        store.accept(each for each, _ in wanted)
        yield {"ok": True}

    def _bundles(self, request: Request) -> Iterator[Answer]:
        """The secrets that the staged release needs, and whether they are here."""
        paths, wanted = self.host.paths, self._staged()[2]
        self.bundles = bundles.needed(paths, self.host.store, wanted, bool(request.get("anew")))
        found = {guest: bundles.here(paths, guest, name) for guest, name in self.bundles.items()}
        yield {"ok": True, "here": found}

    def _secrets(self, request: Request) -> Iterator[Answer]:
        """A guest's bundle: exactly the files that the staged release names."""
        wanted, guest = self._staged()[2], request["guest"]
        name = {ref.id: ref.name for ref in wanted.guests}[guest]
        modes = {each.file: each.mode for each in wanted.secrets if each.guest == name}
        sizes: dict[str, int] = dict(request["files"])
        if sizes.keys() != modes.keys() or sum(sizes.values()) != len(self.secret):
            raise RefusedError(f"these are not the secrets of guest {guest}")
        contents, rest = {}, self.secret
        for file, length in sizes.items():
            contents[file], rest = (modes[file], rest[:length]), rest[length:]
        bundles.deliver(self.host.paths, self.host.platform, guest, self.bundles[guest], contents)
        yield {"ok": True}

    def _plan(self, request: Request) -> Iterator[Answer]:
        wanted, paths = self._staged()[2], self.host.paths
        record = load_record(files.read(paths.record))
        running = survey.read_generation(self.host, record.generation)
        ours = {*record.guests, *(ref.id for ref in wanted.guests)}
        plan = report.plan(self.host, wanted, self.bundles)
        for change in plan["changes"]:
            if not request.get("text") and change["path"] != "/etc/network/interfaces":
                change["old"] = change["new"] = ""
        yield {
            "ok": True,
            **plan,
            "network": running.network.digest if running else None,
            "foreign": foreign.foreign(paths, self.host.platform, ours),
        }

    def _network(self, _request: Request) -> Iterator[Answer]:
        """The running release's description of itself."""
        number = load_record(files.read(self.host.paths.record)).generation
        running = survey.read_generation(self.host, number)
        text = self.host.store.read(running.network.digest).decode() if running else "{}"
        yield {"ok": True, "network": text}

    def _keep(self, request: Request) -> Iterator[Answer]:
        """The release is whole: it becomes a generation."""
        manifest, signature, wanted = self._staged()
        store, paths = self.host.store, self.host.paths
        files.folder(paths.home)
        with files.locked(paths.lock, request["who"]):
            used = bundles.needed(paths, store, wanted) if not self.bundles else self.bundles
            for guest, name in used.items():
                if not bundles.here(paths, guest, name):
                    raise RefusedError(f"the secrets of guest {guest} have not come")
            store.verify(store.needed(wanted), every=False)
            files.sync_all(paths.store)
            if self.signers is not None and not paths.signers.exists():
                files.write(paths.signers, self.signers)
            number = generations.keep(paths, manifest, signature, used)
            if wanted.program:
                _install(self.host, store.program(wanted.program.digest))
        yield {"ok": True, "generation": number}

    def _activate(self, request: Request) -> Iterator[Answer]:
        limits = [f"--{name}={int(request[name])}" for name in ("activate", "confirm")]
        who, seal = f"--who={request['who']}", f"--seal={request['seal']}"
        yield from self.follow("activate", [str(int(request["generation"])), who, seal, *limits])

    def _unit(self, request: Request) -> Iterator[Answer]:
        yield from self.follow(request["do"], _UNITS[request["do"]](request))

    def _pin(self, request: Request) -> Iterator[Answer]:
        """Generations that stay whatever is collected, or no longer."""
        paths = self.host.paths
        with files.locked(paths.lock, request["who"]):
            for number, pinned in request["pins"]:
                generations.pin(paths, int(number), bool(pinned))
        yield {"ok": True}

    def _confirm(self, request: Request) -> Iterator[Answer]:
        transaction.confirm(self.host, request["generation"], request["who"])
        yield {"ok": True}

    def _events(self, request: Request) -> Iterator[Answer]:
        """What transactions have told after the first `since` bytes."""
        try:
            with self.host.paths.events.open("rb") as told:
                told.seek(request["since"])
                yield from lines(told)
        except FileNotFoundError:
            pass
        yield {"ok": True}

    def _status(self, _request: Request) -> Iterator[Answer]:
        yield {"ok": True, "status": report.look(self.host)}


_UNITS: dict[str, Callable[[Request], list[str]]] = {
    "rollback": lambda request: [] if request["to"] is None else [str(int(request["to"]))],
    "repair": lambda _: [],
    "recover": lambda _: [],
    "remove": lambda _: [],
    "verify": lambda _: [],
    "gc": lambda request: ["--keep", str(int(request["keep"]))],
}
"""The commands that run as a unit of their own, with their arguments."""


def _say(answers: IO[bytes], answer: Answer) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()


def _told(journal: bytes) -> Answer:
    found = load_journal(journal)
    return {"generation": found.generation, "before": found.before, "stage": found.stage,
            "deadline": found.deadline, "who": found.why}  # fmt: skip


def _install(host: Host, program: Path) -> None:
    """Have the command be this program, unless it is an older one. The guard runs it too, so one
    that does not start is none."""
    if files.leads(host.paths.command) != str(program):
        if int(commands.run(str(program), "version")) < VERSION:
            return
        files.folder(host.paths.command.parent)
        files.link(host.paths.command, str(program))
