"""Secrets that were written down where only a reference to them belongs, or nothing at all."""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.problems import Finding, Place
from builder.source import Data

_VALUES = (
    (re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----"), "a private key"),
    (re.compile(r"\b(gh[pousr]_[A-Za-z0-9]{20,}|glpat-[A-Za-z0-9_-]{16,})"), "an access token"),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), "an access key"),
    (re.compile(r"\b(sk|hf|xox[abp])[-_][A-Za-z0-9_-]{20,}"), "an access token"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}\."), "a signed token"),
)
_KEYS = re.compile(
    r"(^|[_-])(token|password|passwd|secret|apikey|api[_-]key|private[_-]key)$", re.IGNORECASE
)
_HEADERS = re.compile(r"(proxy-)?authorization|cookie|set-cookie", re.IGNORECASE)
_REFERENCE = re.compile(r"^(file|env|command):\S")
_REFER = "write `file:PATH`, `env:NAME` or `command:COMMAND` where a secret is meant"
_NEVER = "a header is part of the release; let the program get its secret another way"


def literal_secrets(document: str, data: Data) -> list[Finding]:
    """Every value that looks like a secret itself, anywhere in a document."""
    return list(_within(Place(document), "", data))


def _within(place: Place, key: str, data: Data) -> Iterator[Finding]:
    if isinstance(data, dict):
        for name, value in data.items():
            yield from _within(place / name, name, value)
    elif isinstance(data, list):
        for i, value in enumerate(data):
            yield from _within(place / i, key, value)
    elif isinstance(data, str) and data:
        header = "headers" in place.path
        what = _looks_like(key, data, header=header)
        if what and (header or not _REFERENCE.match(data)):
            message = f"this looks like {what}; {_NEVER if header else _REFER}"
            yield Finding(place, message, "literal-secret")


def _looks_like(key: str, value: str, *, header: bool) -> str:
    """What of a secret's kind a value seems to be, "" if nothing."""
    for shape, what in _VALUES:
        if shape.search(value):
            return what
    named = _KEYS.search(key) or (header and _HEADERS.fullmatch(key))
    return f"the value of a secret, '{key}'" if named else ""
