"""Addresses that a user has given: http, https and file."""

from __future__ import annotations

import http.client
import ssl
import time
import urllib.error
import urllib.request
from pathlib import Path

from builder.inputs.cache import Progress
from builder.inputs.clients import TICK, RefusalError

_CHUNK = 1 << 20
_TIMEOUT = 60.0
_BROKEN = (
    urllib.error.URLError,
    http.client.HTTPException,
    ssl.SSLError,
    ConnectionError,
    TimeoutError,
)


def fetch(url: str, folder: Path, label: str, progress: Progress) -> Path:
    """Download `url` into `folder`, with the proxies that the environment names.

    Raises RefusalError: no answer in 60 s, an error of the server, fewer bytes than were announced.
    """
    target = folder / "download"
    progress(f"{label}: downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, target.open("wb") as out:
            size, told = 0, time.monotonic()
            while chunk := answer.read(_CHUNK):
                out.write(chunk)
                size += len(chunk)
                if time.monotonic() - told >= TICK:
                    told = time.monotonic()
                    progress(f"{label}: downloading {url}, {size >> 20} MiB")
            announced = answer.headers.get("Content-Length")
    except _BROKEN as error:
        raise RefusalError(str(error)) from error
    if announced is not None and int(announced) != size:
        raise RefusalError(f"broke off after {size} of {announced} bytes")
    return target
