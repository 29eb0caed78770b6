"""Whether plain data is as the release's schema says; the schema is the builder's own file.

Just the keywords that `manifest.schema.json` uses, as JSON Schema 2020-12 means them; another one
is refused, so that a schema which says more is never read as saying less.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

Schema = dict[str, Any]

_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda data: isinstance(data, dict),
    "array": lambda data: isinstance(data, list),
    "string": lambda data: isinstance(data, str),
    "boolean": lambda data: isinstance(data, bool),
    "integer": lambda data: type(data) is int,
}
_SILENT = {"$schema", "$id", "$defs", "title", "description", "then", "else"}
_OBJECT = {"properties", "additionalProperties", "propertyNames"}
_ELSEWHERE = _SILENT | _OBJECT


class RefusedError(Exception):
    """A document, a file or a state that is not to be worked with; the text says why."""


def check(schema: Schema, data: Any, root: Schema, where: str = "") -> None:
    """Raise RefusedError, with the place, where `data` breaks `schema`; `root` holds its $defs."""
    if not _OBJECT.isdisjoint(schema):
        _object(schema, data, root, where)
    for keyword, value in schema.items():
        if keyword == "$ref":
            check(_definition(root, value), data, root, where)
        elif keyword in _STRUCTURE:
            _STRUCTURE[keyword](schema, data, root, where)
        elif keyword in _RULES:
            if not _RULES[keyword](value, data):
                raise RefusedError(
                    f"{where or 'the document'}: {data!r:.80} breaks {keyword} {value}"
                )
        elif keyword not in _ELSEWHERE:
            raise RefusedError(f"the schema uses {keyword!r}, which this program does not know")


def _definition(root: Schema, reference: str) -> Schema:
    found: Schema = root["$defs"][reference.removeprefix("#/$defs/")]
    return found


def _holds(schema: Schema, data: Any, root: Schema) -> bool:
    try:
        check(schema, data, root)
    except RefusedError:
        return False
    return True


def _object(schema: Schema, data: Any, root: Schema, where: str) -> None:
    if not isinstance(data, dict):
        return
    known = schema.get("properties", {})
    for key, value in data.items():
        if "propertyNames" in schema:
            check(schema["propertyNames"], key, root, f"{where}: the key {key!r:.80}")
        rule = known.get(key, schema.get("additionalProperties", True))
        if rule is False:
            raise RefusedError(f"{where or 'the document'}: has the unknown key {key!r:.80}")
        if isinstance(rule, dict):
            check(rule, value, root, f"{where}.{key}" if where else key)


def _items(schema: Schema, data: Any, root: Schema, where: str) -> None:
    if isinstance(data, list):
        for number, item in enumerate(data):
            check(schema["items"], item, root, f"{where}[{number}]")


def _not(schema: Schema, data: Any, root: Schema, where: str) -> None:
    if _holds(schema["not"], data, root):
        raise RefusedError(f"{where}: {data!r:.80} is what may not be")


def _any(schema: Schema, data: Any, root: Schema, where: str) -> None:
    if not any(_holds(each, data, root) for each in schema["anyOf"]):
        raise RefusedError(f"{where}: {data!r:.80} is none of what may be")


def _if(schema: Schema, data: Any, root: Schema, where: str) -> None:
    branch = "then" if _holds(schema["if"], data, root) else "else"
    check(schema.get(branch, {}), data, root, where)


_STRUCTURE: dict[str, Callable[[Schema, Any, Schema, str], None]] = {
    "items": _items,
    "not": _not,
    "anyOf": _any,
    "if": _if,
}
_RULES: dict[str, Callable[[Any, Any], bool]] = {
    "type": lambda value, data: _TYPES[value](data),
    "const": lambda value, data: type(data) is type(value) and data == value,
    "enum": lambda value, data: isinstance(data, str) and data in value,
    "required": lambda value, data: not isinstance(data, dict) or all(key in data for key in value),
    "pattern": lambda value, data: not isinstance(data, str) or re.search(value, data) is not None,
    "minLength": lambda value, data: not isinstance(data, str) or len(data) >= value,
    "maxLength": lambda value, data: not isinstance(data, str) or len(data) <= value,
    "minimum": lambda value, data: type(data) is not int or data >= value,
    "maximum": lambda value, data: type(data) is not int or data <= value,
    "multipleOf": lambda value, data: type(data) is not int or data % value == 0,
    "uniqueItems": lambda value, data: not (value and isinstance(data, list) and _repeats(data)),
}


def _repeats(items: list[Any]) -> bool:
    texts = [repr(item) for item in items]
    return len(set(texts)) != len(texts)
