"""A connection to the host program, by the system's own ssh and all of the user's configuration.

What runs on the host is `phoenix serve` where it is installed; else a few lines of Python that read
the program from the connection, check its digest and run it from memory. Nothing is written on the
host for it.

Which ssh that is may be said, with options of its own: PHOENIX_SSH="ssh -F lab/ssh_config".
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import subprocess
import tempfile
import threading
import zlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from builder.problems import UserError, visible

from .memory import Memory, Place

VARIABLE = "PHOENIX_SSH"
_COMMAND = "/usr/local/sbin/phoenix"
# Reads as much as it was told and no byte more, since the requests come after it.
_LOADER = """\
import hashlib, os, sys, zlib
digest, size = sys.argv[1], int(sys.argv[2])
os.write(1, b'{"loader": 1}\\n')
data = b""
while len(data) < size:
    part = os.read(0, size - len(data))
    if not part:
        sys.exit("the connection ended in the middle of the program")
    data += part
data = zlib.decompress(data)
if hashlib.sha256(data).hexdigest() != digest:
    sys.exit("what came is not the program")
held = os.memfd_create("phoenix", 0)
while data:
    data = data[os.write(held, data):]
os.execv(sys.executable, ["python3", "-I", "-S", f"/proc/self/fd/{held}", "serve"])
"""
_OPTIONS = (
    # Nothing of the user's configuration that belongs to a person's own session.
    "ForwardAgent=no", "ForwardX11=no", "ClearAllForwardings=yes", "PermitLocalCommand=no",
    "RequestTTY=no", "RemoteCommand=none",
    # A connection that is gone is noticed within a quarter of a minute.
    "ConnectTimeout=10", "ServerAliveInterval=5", "ServerAliveCountMax=3",
)  # fmt: skip
_PATIENCE = 300.0
"""Seconds until the host program has spoken: in some, sshd gives a person two minutes to log in."""
# -S, unlike an option, counts also where PHOENIX_SSH has said something else before.
_ALONE = ("-S", "none", "-o", "ControlMaster=no")


class LostError(Exception):
    """There is no connection, or none any more; the text says what ssh said."""


class Link(Protocol):
    """A connection: what goes to the host program, and what comes from it."""

    requests: IO[bytes]
    answers: IO[bytes]

    def close(self) -> str:
        """End it; what its program said at last."""


class Connect(Protocol):
    """Makes connections; LostError where there is none."""

    def __call__(self, at: Place, fresh: bool = False) -> Link:
        """With `fresh` a new one, never a shared one."""


@contextlib.contextmanager
def watched(link: Link, seconds: float) -> Iterator[None]:
    """End a connection that says nothing for so long: one that is shared may be dead, and of that
    only its master hears; and a host may take one and go silent."""
    timer = threading.Timer(seconds, link.close)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class _Running:
    """ssh as it runs."""

    def __init__(self, command: Sequence[str], hidden: frozenset[str]) -> None:
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={name: value for name, value in os.environ.items() if name not in hidden},
            )
        except OSError as error:
            hint = f"apt-get install openssh-client, or mend {VARIABLE}"
            raise UserError(f"{command[0]} does not run: {error.strerror}", hint) from error
        assert self.process.stdin
        assert self.process.stdout
        self.requests, self.answers = self.process.stdin, self.process.stdout
        self.said: deque[str] = deque(maxlen=5)
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()

    def close(self) -> str:
        with contextlib.suppress(OSError):
            self.requests.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.listener.join(timeout=1)
        self.answers.close()
        return "; ".join(self.said)

    def _listen(self) -> None:
        assert self.process.stderr
        with self.process.stderr as stream:
            for line in stream:
                text = visible(line.decode("utf-8", "replace").strip(" \r\n"))
                if text and not set(text) <= {"@"}:
                    self.said.append(text)


def chosen(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The ssh to run: the system's, or the one that PHOENIX_SSH says."""
    return tuple(shlex.split(environment.get(VARIABLE, ""))) or ("ssh",)


@dataclass(frozen=True, slots=True)
class Ssh:
    """Connects to one host. `program` is what runs where none is installed; `asks` says whether a
    person is there to be asked for a password or about a new key; `hidden` are the variables that
    hold secrets, which ssh need not know: a SendEnv might send them. `command` is ssh itself."""

    memory: Memory
    program: bytes
    asks: bool
    hidden: frozenset[str] = frozenset()
    command: tuple[str, ...] = ("ssh",)

    def __call__(self, at: Place, fresh: bool = False) -> Link:
        with tempfile.TemporaryDirectory(prefix="phoenix-") as folder:
            seen = Path(folder, "keys")
            pinned = self.memory.pinned()
            options = self._pins() if pinned else _recording(seen)
            running = _Running(self._command(at, options, fresh or not pinned), self.hidden)
            with watched(running, _PATIENCE):
                first = self._first(running)
            if not pinned and seen.exists():
                self.memory.pin(_plain(seen.read_text(encoding="utf-8")))
        running.answers = _Unread(first, running.answers)  # type: ignore[assignment]
        return running

    def _command(self, at: Place, options: Sequence[str], alone: bool) -> list[str]:
        held = (*_OPTIONS, *options, *(() if self.asks else ("BatchMode=yes",)))
        named = [*(_ALONE if alone else ())]
        named += [word for option in held for word in ("-o", option)]
        return [*self.command, *named, "-l", at.user, "--", at.address, self._remote()]

    def _pins(self) -> tuple[str, ...]:
        path = str(self.memory.known_hosts).replace("%", "%%").replace('"', "")
        return (
            f"HostKeyAlias={self.memory.alias}",
            f'UserKnownHostsFile="{path}"',
            "StrictHostKeyChecking=yes",
            "CheckHostIP=no",
            "UpdateHostKeys=no",
        )

    def _remote(self) -> str:
        """What the login shell on the host, whichever it is, runs."""
        digest, size = hashlib.sha256(self.program).hexdigest(), len(self._packed())
        script = (
            'if [ "$(id -u)" = 0 ]; then as=; else as="sudo -n --"; fi; '
            f"if [ -x {_COMMAND} ]; then exec $as {_COMMAND} serve; fi; "
            f"exec $as python3 -I -S -c {shlex.quote(_LOADER)} {digest} {size}"
        )
        return f"exec sh -c {shlex.quote(script)}"

    def _packed(self) -> bytes:
        return zlib.compress(self.program, 6)

    def _first(self, running: _Running) -> bytes:
        """The host program's first line; the program itself is sent where it is not installed."""
        line = running.answers.readline()
        if line == b'{"loader": 1}\n':
            with contextlib.suppress(BrokenPipeError):
                running.requests.write(self._packed())
                running.requests.flush()
            line = running.answers.readline()
        if not line:
            said = running.close()
            raise LostError(self._explained(said or f"ssh ended with {running.process.returncode}"))
        try:
            json.loads(line)
        except ValueError:
            running.close()
            text = visible(line.decode("utf-8", "replace").strip())
            raise LostError(f"what answers is not the host program: {text[:200]}") from None
        return line

    def _explained(self, said: str) -> str:
        if "HOST IDENTIFICATION HAS CHANGED" in said or "Host key verification failed" in said:
            how = f"ssh-keygen -R {self.memory.alias} -f {self.memory.known_hosts}"
            return f"{said}. If the host was installed anew: {how}"
        return said


class _Unread:
    """A stream of which a line was read already."""

    def __init__(self, first: bytes, rest: IO[bytes]) -> None:
        self.first, self.rest = first, rest

    def readline(self, limit: int = -1) -> bytes:
        first, self.first = self.first, b""
        return first or self.rest.readline(limit)

    def close(self) -> None:
        self.rest.close()


def _recording(seen: Path) -> tuple[str, ...]:
    """Have ssh note the key that a host shows, while it checks it as the user's ssh does.

    ssh_config(5), KnownHostsCommand: runs with the key before it is checked; it prints none, so
    what is known stays as it is. ssh does not go on with a key that it did not accept.
    """
    return (f"KnownHostsCommand=/bin/sh -c \"echo '%t %K' >>{shlex.quote(str(seen))}\"",)


def _plain(seen: str) -> list[str]:
    """The keys among what ssh noted, each once; a certificate is no key, and is not pinned. Before
    it knows a key, ssh says NONE."""
    pairs = [line.split() for line in seen.splitlines()]
    keys = {(kind, key) for kind, key in pairs if key != "NONE" and "-cert-" not in kind}
    return [f"{kind} {key}" for kind, key in sorted(keys)]
