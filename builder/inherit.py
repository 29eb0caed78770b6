"""`like:`: a host document takes over another's, and says only what differs.

Its name is its own: `host` and `like` are never taken over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.problems import Finding, Place, known
from builder.source import Data

Document = dict[str, Data]

_OWN = ("host", "like")


def merged(base: Document, over: Document) -> Document:
    """`base` with `over` laid on it: mappings key by key, all else replaced, null removed."""
    result = dict(base)
    for key, value in over.items():
        below = result.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            result[key] = merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = value
    return result


def chain(name: str, documents: Mapping[str, Document]) -> tuple[str, ...]:
    """The hosts that `name` takes over from, nearest first; ends at an unknown or repeated one."""
    found: list[str] = []
    while isinstance(like := documents[found[-1] if found else name].get("like"), str):
        if like not in documents or like == name or like in found:
            break
        found.append(like)
    return tuple(found)


def findings(name: str, documents: Mapping[str, Document]) -> list[Finding]:
    """What is wrong with the `like` of one host document itself, and what it takes away."""
    like, place = documents[name].get("like"), Place(f"hosts/{name}", ("like",))
    if not isinstance(like, str):
        return []
    if like not in documents:
        others = [other for other in documents if other != name]
        return [
            Finding(place, f"host '{like}' is not there; {known(like, others)}", "unknown-host")
        ]
    lineage = chain(name, documents)
    last = documents[lineage[-1] if lineage else name].get("like")
    if last == name:
        path = " → ".join((name, *lineage, name))
        return [Finding(place, f"hosts take over from each other: {path}", "like-cycle")]
    return list(_nothing(documents[name], _below(name, documents), Place(f"hosts/{name}"), like))


def _below(name: str, documents: Mapping[str, Document]) -> Document:
    """What `name` takes over."""
    result: Document = {}
    for one in reversed(chain(name, documents)):
        own = {key: value for key, value in documents[one].items() if key not in _OWN}
        result = merged(result, own)
    return result


def _nothing(own: Document, below: Document, place: Place, like: str) -> Iterator[Finding]:
    """A null that takes away what is not there: a misspelt key would stay unnoticed."""
    for key, value in own.items():
        under = below.get(key)
        if value is None and key not in below:
            message = f"null takes '{key}' away, but '{like}' has none"
            legal = [other for other in below if other not in own]
            hint = f"; {known(key, legal)}" if legal else ""
            yield Finding((place / key).named(), message + hint, "nothing-to-remove")
        elif isinstance(value, dict):
            yield from _nothing(value, under if isinstance(under, dict) else {}, place / key, like)


def whole(name: str, documents: Mapping[str, Document]) -> Document:
    """The document of `name` with everything that it takes over merged in.

    Where it takes over nothing, a null has nothing to take away and stays, for the schema to tell.
    """
    own = documents[name]
    return merged(_below(name, documents), own) if own.get("like") else own
