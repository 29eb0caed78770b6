"""Signatures of releases, by ssh-keygen."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from . import commands
from .commands import FailedError
from .schema import RefusedError

NAMESPACE = "phoenix-release"


def verify(data: bytes, signature: bytes, signers: Path) -> str:
    """Who signed these bytes, of those in `signers`; raises RefusedError for anybody else."""
    with _held(data) as manifest, _held(signature) as file:
        named = ("-f", str(signers), "-s", f"/proc/{os.getpid()}/fd/{file.fileno()}")
        try:
            said = commands.run("ssh-keygen", "-Y", "find-principals", *named)
            found = said.split("\n")[0]
            commands.run("ssh-keygen", "-Y", "verify", *named, "-I", found, "-n", NAMESPACE,
                         given=manifest)  # fmt: skip
        except FailedError as error:
            raise RefusedError(f"the release is not signed by one of {signers}: {error}") from error
    return found


@contextlib.contextmanager
def _held(data: bytes) -> Iterator[IO[bytes]]:
    """A file with these bytes that has no name."""
    with open(os.memfd_create("phoenix"), "w+b", buffering=0) as stream:
        stream.write(data)
        stream.seek(0)
        yield stream
