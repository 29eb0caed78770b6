"""The host program as one file: a zip of builder/host/ that Python runs, the same bytes everywhere.

Entries are stored, not compressed, since compressors differ between versions; in names' order, with
a fixed time and mode. What goes over the wire is compressed as everything else.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

_HOST = Path(__file__).with_name("host")
# -I: no environment, no current folder; -S: no site packages. One argument, as a shebang has it.
_START = b"#!/usr/bin/python3 -IS\n"
_MAIN = b"import sys\nfrom host.__main__ import main\nsys.exit(main(sys.argv[1:]))\n"
_TIME = (1980, 1, 1, 0, 0, 0)


def host_program(folder: Path = _HOST) -> bytes:
    """The program's bytes, of the modules and the schema in `folder`."""
    files = {"__main__.py": _MAIN}
    for path in folder.iterdir():
        if path.suffix in (".py", ".json"):
            files[f"host/{path.name}"] = path.read_bytes()
    out = io.BytesIO(_START)
    out.seek(0, io.SEEK_END)
    with zipfile.ZipFile(out, "a", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, files[name])
    return out.getvalue()
