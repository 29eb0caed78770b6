"""A folder dist/ with small signed releases, and hosts to deploy them to: in this process, their
files below a folder, or behind a real sshd (`sshd.py`)."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from builder import keys, manifest, tree
from builder.deploy.deploy import Deployer, Order, Outcome
from builder.deploy.held import ready
from builder.deploy.memory import Memory, Place
from builder.deploy.ssh import LostError
from builder.dist import MANIFEST
from builder.host import back, files, transaction
from builder.host.host import DegradedError, UndoneError
from builder.host.schema import RefusedError
from builder.host.serve import Session
from builder.host.transaction import Limits
from builder.manifest import Object
from builder.program import host_program
from tests.host.making import INTERFACES, INTERFACES_PATH, SYSCTL, Stage

HOST = "lab"
ADDRESS = "198.18.0.10"


@dataclass
class Project:
    """A project of which only dist/ is there."""

    root: Path
    key: keys.Key
    serial: int = 0

    def release(
        self,
        *,
        sysctl: str = "a = 1\n",
        interfaces: bytes = INTERFACES,
        guests: Mapping[int, Mapping[str, bytes]] | None = None,
        secrets: Mapping[str, str] | None = None,
        network: Mapping[str, Any] | None = None,
        address: str = ADDRESS,
        unready: tuple[str, ...] = (),
        signed: bool = True,
        program: bytes | None = None,
    ) -> str:
        """Make the host's newest release; its id. `secrets` are guest 103's, references by file."""
        targets = [
            self._target(INTERFACES_PATH, "interfaces", interfaces),
            self._target(SYSCTL, "replace", sysctl.encode()),
        ]
        refs = []
        for number, held in (guests or {}).items():
            conf = f"lxc.uts.name = g{number}\n".encode()
            targets.append(self._target(f"/var/lib/lxc/{number}/config", "lxc-conf", conf))
            refs.append(manifest.GuestRef(f"g{number}", number, self._guest(number, held)))
        program = program or host_program()
        made = manifest.Release(
            site="phoenix",
            host=HOST,
            domain="phoenix.internal",
            platform=manifest.Platform("lxc", 0),
            reach=manifest.Reach(address, "root"),
            management=(address,) if address[0].isdigit() else (),
            targets=tuple(sorted(targets, key=lambda target: target.path)),
            guests=tuple(refs),
            kits=(),
            inputs=(),
            secrets=tuple(
                manifest.Secret("g103", file, 0o400, source)
                for file, source in sorted((secrets or {}).items())
            ),
            network=self.put("network.json", json.dumps(network or {}).encode()),
            unready=unready,
            program=self.put("phoenix", program),
        )
        return self._released(manifest.dump(made), signed)

    def put(self, name: str, data: bytes) -> Object:
        """A file of dist/store."""
        made = Object(tree.digest(data), name, len(data))
        path = self.root / "dist/store" / made.stored()
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(data)
        return made

    def newest(self) -> Path:
        """The folder of the newest release."""
        return self.root / "dist" / os.readlink(self.root / "dist" / HOST)

    def _released(self, data: bytes, signed: bool) -> str:
        self.serial += 1
        name = manifest.identity(data)
        folder = self.root / f"dist/releases/{HOST}/{self.serial:04d}-{name[:12]}"
        folder.mkdir(parents=True)
        (folder / MANIFEST).write_bytes(data)
        if signed:
            self.key.sign([folder / MANIFEST])
        link = self.root / "dist" / HOST
        link.unlink(missing_ok=True)
        link.symlink_to(folder.relative_to(link.parent))
        return name

    def _target(self, path: str, how: str, data: bytes) -> manifest.Target:
        return manifest.Target(path, "interfaces", how, 0o644, "root:root", self.put("t", data))

    def _guest(self, number: int, held: Mapping[str, bytes]) -> Object:
        out = io.BytesIO()
        mode = {True: 0o755, False: 0o644}
        entries = [
            tree.File(path, data, mode[path.startswith("bin/")]) for path, data in held.items()
        ]
        packed = tree.pack(tree.Tree.of(entries), out)
        index = manifest.dump_index(manifest.LayerIndex(packed.index))
        layer = manifest.Layer(
            "names", self.put("names.tar", out.getvalue()), self.put("names.index.json", index)
        )
        node = manifest.GuestNode(
            name=f"g{number}",
            id=number,
            role="service",
            restart="allow",
            layers=(layer,),
            daemons=(manifest.Daemon("nginx", ()),) if any("nginx/" in p for p in held) else (),
            creation=(("template", "debian-12.tar"),),
        )
        return self.put("node.json", manifest.dump_guest(node))


def project(root: Path) -> Project:
    """An empty project with a signing key of its own."""
    root.mkdir(exist_ok=True)
    return Project(root, keys.init(root / "key" / "signing_key", passphrase=False))


class Staged(Stage):
    """A host below a folder whose guests' root is whoever runs this."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.platform.root = lambda _guest: os.geteuid()  # type: ignore[attr-defined]
        for guest in self.paths.at("/var/lib/lxc").iterdir():
            self.platform.running[int(guest.name)] = True

    def follow(self, verb: str, arguments: list[str]) -> Iterator[dict[str, Any]]:
        """Do what the host's own unit does, here; the events lie in the host's file."""
        begin = self.paths.events.stat().st_size if self.paths.events.exists() else 0
        code = self._do(verb, arguments)
        with self.paths.events.open("rb") as told:
            told.seek(begin)
            yield from map(json.loads, told)
        yield {"ok": code == 0, "code": code}

    def _do(self, verb: str, arguments: list[str]) -> int:
        given = dict(word[2:].split("=", 1) for word in arguments if word.startswith("--"))
        number = int(arguments[0]) if arguments and arguments[0].isdecimal() else 0
        limits = Limits(int(given.get("activate", 300)), confirm=None)
        if verb == "activate":
            limits = Limits(limits.activate, int(given["confirm"]))
        if verb == "recover":
            return int(not back.take_back(self.host(), verb))
        try:
            changed = transaction.activate(
                self.host(), number, given.get("who", verb), limits, given.get("seal", ""),
                settle=verb != "activate",
            )  # fmt: skip
            self._tell("active", {"generation": number, "changed": changed})
        except (RefusedError, UndoneError, DegradedError, files.BusyError) as error:
            kind = type(error).__name__.removesuffix("Error").lower()
            self._tell("ended", {"kind": kind, "why": str(error)})
            return 2
        return 0

    def _tell(self, event: str, facts: Mapping[str, Any]) -> None:
        super()._tell(event, facts)
        line = json.dumps({"event": event, "at": len(self.events), **facts}) + "\n"
        with self.paths.events.open("a") as told:
            told.write(line)


@dataclass
class Wire:
    """Connections to a host in this process. `cut` ends one after so many bytes were sent on it;
    `gone` are the addresses at which nothing answers; `sent` is all that went to the host."""

    stage: Staged
    cut: int | None = None
    gone: set[str] = field(default_factory=set)
    places: list[tuple[Place, bool]] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    threads: list[threading.Thread] = field(default_factory=list)

    def __call__(self, at: Place, fresh: bool = False) -> Piped:
        self.places.append((at, fresh))
        if at.address in self.gone:
            raise LostError("no route to host")
        cut, self.cut = self.cut, None
        return Piped(self, cut)

    def bytes(self) -> int:
        return sum(map(len, self.sent))

    def join(self) -> None:
        """Await that no host program runs any more."""
        for thread in self.threads:
            thread.join(10)


class Piped:
    """One of them."""

    def __init__(self, wire: Wire, cut: int | None) -> None:
        mine, theirs = socket.socketpair()
        self.mine, self.wire, self.cut = mine, wire, cut
        self.answers: IO[bytes] = mine.makefile("rb")
        self.requests: IO[bytes] = self  # type: ignore[assignment]
        thread = threading.Thread(target=self._serve, args=(theirs,), daemon=True)
        wire.threads.append(thread)
        thread.start()

    def write(self, data: bytes) -> int:
        self.wire.sent.append(data)
        if self.cut is not None:
            self.cut -= len(data)
            if self.cut < 0:
                with contextlib.suppress(OSError):
                    self.mine.sendall(data[: self.cut])
                self.mine.shutdown(socket.SHUT_RDWR)
                raise BrokenPipeError
        self.mine.sendall(data)
        return len(data)

    def flush(self) -> None:
        return

    def close(self) -> str:
        with contextlib.suppress(OSError):
            self.mine.shutdown(socket.SHUT_RDWR)
        self.mine.close()
        return "cut"

    def _serve(self, theirs: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            theirs,
            theirs.makefile("rb") as asked,
            theirs.makefile("wb") as answers,
        ):
            Session(self.wire.stage.host(), self.wire.stage.follow).run(asked, answers)


def deployed(
    project: Project, connect: Any, memory: Memory, answer: bool = True, **order: Any
) -> Outcome:
    """Deploy the newest release, as `invoke deploy` does."""
    held = ready(project.root, HOST)
    return Deployer(Order(**order), held, connect, memory, lambda _: answer, "me since now").run()
