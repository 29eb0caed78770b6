"""Secrets as the description names them: read here, where the deploy runs, and handed on as bytes.

They are in no argument list, in no environment that is passed on, in no file of ours and in no
message; what goes wrong is told by the reference.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from builder.manifest import Secret
from builder.problems import UserError

_LONGEST = 1 << 19


def resolve(
    secrets: Iterable[Secret], root: Path, environment: Mapping[str, str] = os.environ
) -> dict[str, bytes]:
    """The bytes of a guest's secrets by file name; UserError with all that can't be read.

    `root` is the project: relative files count from there, and commands run there.
    """
    found, faults = {}, []
    for secret in secrets:
        try:
            found[secret.file] = _bounded(_value(secret.source, root, environment))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            faults.append(f"{secret.guest} needs {secret.file} from {secret.source}: {reason}")
    if faults:
        raise UserError("\n".join(faults), "./invoke ca.init makes an intermediate's key")
    return found


def variables(secrets: Iterable[Secret]) -> frozenset[str]:
    """The variables of the environment that hold secrets."""
    return frozenset(s.source[4:] for s in secrets if s.source.startswith("env:"))


def _value(source: str, root: Path, environment: Mapping[str, str]) -> bytes:
    kind, _, rest = source.partition(":")
    if kind == "file":
        return (root / Path(rest).expanduser()).read_bytes()
    if kind == "env":
        if rest not in environment:
            raise ValueError("the variable is not set")
        return os.fsencode(environment[rest])
    assert kind == "command", kind
    # Its standard error is the person's own: it may ask for a passphrase, and says what fails.
    done = subprocess.run(["/bin/sh", "-c", rest], cwd=root, stdout=subprocess.PIPE)
    if done.returncode:
        raise ValueError(f"the command ended with {done.returncode}")
    return done.stdout.removesuffix(b"\n")


def _bounded(data: bytes) -> bytes:
    if not data:
        raise ValueError("it is empty")
    if len(data) > _LONGEST:
        raise ValueError("it is over 512 KiB")
    return data
