"""`like:`: a host document takes over another's, and says only what differs."""

from __future__ import annotations

from collections.abc import Mapping

from builder.problems import Finding, Place, known
from builder.source import Data

Document = dict[str, Data]


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
    """What is wrong with the `like` of one host document itself."""
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
    return []


def whole(name: str, documents: Mapping[str, Document]) -> Document:
    """The document of `name` with everything that it takes over merged in, and no `like`."""
    result: Document = {}
    for one in (*reversed(chain(name, documents)), name):
        result = merged(result, documents[one])
    result.pop("like", None)
    return result
