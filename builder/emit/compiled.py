"""Compiled templates, kept in `__pycache__` beside them, as Python keeps its compiled modules.

Compiling them would take an eighth of a cold build. An entry is taken only if the
digest at its beginning is that of its code and of all that the code follows from: the template,
this package, Jinja2 and Python. What is damaged or of another version is none, and is made anew;
where nothing can be kept, nothing is. Writing and its place follow Python's own settings.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import marshal
import os
import sys
from pathlib import Path

import jinja2
from jinja2.bccache import Bucket

_DIGEST = hashlib.sha256().digest_size
# All of this package: Jinja2 works out filters of constants as it compiles.
_HERE = Path(__file__).parent


class Beside(jinja2.BytecodeCache):
    """The compiled templates of the folder `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        code = [path.read_bytes() for path in sorted(_HERE.glob("*.py"))]
        versions = [jinja2.__version__.encode(), sys.version.encode()]
        self.made_by = hashlib.sha256(b"\0".join([*versions, *code])).digest()

    def load_bytecode(self, bucket: Bucket) -> None:
        """Take the entry of the template, if there is one that was made from it as it is."""
        with contextlib.suppress(OSError):
            entry = self._entry(bucket).read_bytes()
            code = entry[_DIGEST:]
            if entry[:_DIGEST] == self._digest(bucket, code):
                bucket.code = marshal.loads(code)

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled: whole, or not at all."""
        if sys.dont_write_bytecode:
            return
        code = marshal.dumps(bucket.code)
        entry = self._entry(bucket)
        temp = entry.with_suffix(f".{os.getpid()}.pyc")
        with contextlib.suppress(OSError):
            entry.parent.mkdir(parents=True, exist_ok=True)
            try:
                temp.write_bytes(self._digest(bucket, code) + code)
                temp.replace(entry)
            except OSError:
                temp.unlink()

    def _entry(self, bucket: Bucket) -> Path:
        return Path(importlib.util.cache_from_source(str(self.root / f"{bucket.key}.j2")))

    def _digest(self, bucket: Bucket, code: bytes) -> bytes:
        follows = f"{bucket.key} {bucket.checksum} ".encode()
        return hashlib.sha256(self.made_by + follows + code).digest()
