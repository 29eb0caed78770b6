"""Signatures of releases, by ssh-keygen."""

from __future__ import annotations

import tempfile
from pathlib import Path

from . import commands
from .commands import FailedError
from .schema import RefusedError

NAMESPACE = "phoenix-release"


def verify(data: bytes, signature: bytes, signers: Path) -> str:
    """Who signed these bytes, of those in `signers`; raises RefusedError for anybody else."""
    with tempfile.TemporaryDirectory(prefix="phoenix-") as folder:
        manifest, file = Path(folder, "manifest"), Path(folder, "signature")
        manifest.write_bytes(data)
        file.write_bytes(signature)
        try:
            found = commands.run("ssh-keygen", "-Y", "find-principals", "-f", str(signers),
                                 "-s", str(file)).split("\n")[0]  # fmt: skip
            with manifest.open("rb") as stream:
                commands.run("ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", found,
                             "-n", NAMESPACE, "-s", str(file), given=stream)  # fmt: skip
        except FailedError as error:
            raise RefusedError(f"the release is not signed by one of {signers}: {error}") from error
    return found
