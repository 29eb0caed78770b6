"""Addresses that a user has given: http, https and file."""

from __future__ import annotations

import http.client
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from builder.inputs.cache import Progress
from builder.inputs.clients import TICK, RefusalError

_CHUNK = 1 << 20
_TIMEOUT = 60.0
# OSErrors are of the network here: what is written, is written outside of `_reading`. ValueError is
# an address that is none.
_BROKEN = (OSError, http.client.HTTPException, ValueError)


def fetch(url: str, folder: Path, label: str, progress: Progress) -> Path:
    """Download `url` into `folder`, with the proxies that the environment names.

    Raises RefusalError: no answer in 60 s, an error of the server, fewer bytes than were announced.
    """
    target, size, told = folder / "download", 0, time.monotonic()
    progress(f"{label}: downloading {url}")
    with target.open("wb") as out:
        for chunk in _reading(url):
            out.write(chunk)
            size += len(chunk)
            if time.monotonic() - told >= TICK:
                told = time.monotonic()
                progress(f"{label}: downloading {url}, {size >> 20} MiB")
    return target


def _reading(url: str) -> Iterator[bytes]:
    """The bytes behind `url`, chunk by chunk; RefusalError where they do not all come."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer:
            size = 0
            while chunk := answer.read(_CHUNK):
                size += len(chunk)
                yield chunk
            announced = answer.headers.get("Content-Length")
    except _BROKEN as error:
        raise RefusalError(str(error)) from error
    if announced is not None and int(announced) != size:
        raise RefusalError(f"broke off after {size} of {announced} bytes")
