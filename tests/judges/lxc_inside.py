"""Runs in a space, by its python3-lxc: reads configs as liblxc does.

In: paths of configs and of a log as arguments, and on standard input JSON of the keys asked for.
Out: JSON, for each config null where liblxc refuses it, else the values by key; and the log.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import lxc  # type: ignore[import-not-found]


class _Log(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("name", "lxcpath", "file", "level", "prefix")),
        ("quiet", ctypes.c_bool),
    ]


def _values(container: Any, key: str) -> list[str]:
    try:
        value = container.get_config_item(key)
    except KeyError:
        return []
    return list(value) if isinstance(value, list | tuple) else str(value).splitlines()


def main() -> None:
    """Load each config and print what is asked."""
    log, *paths = sys.argv[1:]
    asked: list[list[str]] = json.load(sys.stdin)
    library = ctypes.CDLL("liblxc.so.1")
    setup = _Log(b"judge", b"/tmp/lxc", log.encode(), b"WARN", b"judge", True)
    library.lxc_log_init(ctypes.byref(setup))
    answers = list[Any]()
    for path, keys in zip(paths, asked, strict=True):
        Path(log).write_text("")
        container = lxc.Container("judge", "/tmp/lxc")
        loaded = container.load_config(path)
        values = {key: _values(container, key) for key in keys} if loaded else None
        answers.append([values, Path(log).read_text()])
    json.dump(answers, sys.stdout)


main()
