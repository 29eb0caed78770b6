"""This program with its bytecode beside its source: Python then starts it in half the time.

Bytecode belongs to one version of Python, so it is made on the host, by the Python that is there;
another version passes it over and takes the source.
"""

from __future__ import annotations

import io
import zipfile
from importlib import _bootstrap_external, util


def compiled(program: bytes) -> bytes | None:
    """The zip with bytecode for each module; None for a program of another kind."""
    start = program[: program.find(b"\n") + 1]
    out = io.BytesIO(start)
    out.seek(0, io.SEEK_END)
    try:
        with zipfile.ZipFile(io.BytesIO(program)) as plain, zipfile.ZipFile(out, "a") as made:
            for name in plain.namelist():
                data = plain.read(name)
                made.writestr(zipfile.ZipInfo(name), data)
                if name.endswith(".py"):
                    made.writestr(zipfile.ZipInfo(f"{name}c"), _bytecode(name, data))
    except (zipfile.BadZipFile, SyntaxError):
        return None
    return out.getvalue()


def _bytecode(name: str, source: bytes) -> bytes:
    code = compile(source, name, "exec", dont_inherit=True)
    # Found by the source's digest that stands in it, and not by a time: it is never compared.
    made = _bootstrap_external._code_to_hash_pyc(code, util.source_hash(source), False)  # type: ignore[attr-defined]
    return bytes(made)
