"""Frozen dataclasses ⇄ plain JSON data, strictly, and the one way to write that data as bytes.

A field's type says how its value is read and checked: `Annotated[str, Text(…)]`, a dataclass,
`tuple[X, ...]` (with `SortedBy` a sorted set), or `X | None` for a key that may be absent. Reading
refuses a key too many or too few, a value of another type (a boolean is no integer), and what the
codec's rule forbids; the message names the place: `targets[3].mode`.

Canonical bytes: UTF-8, keys sorted, no space, one newline at the end; no floats, no nulls. A value
that is not there has no key. So equal values have equal bytes, and only those.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from operator import attrgetter
from types import UnionType
from typing import (
    Annotated,
    Any,
    NoReturn,
    Protocol,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from .problems import UserError

# The largest integer that every JSON reader keeps exactly.
LARGEST = 2**53 - 1
# What a reader takes at most, in bytes; an index of 30 000 files stays below it.
LONGEST = 16 << 20

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class ManifestError(UserError):
    """A document is not what this program writes: damaged, foreign, or of another version."""


def refuse(where: str, message: str) -> NoReturn:
    """Raise ManifestError about the value at `where` ("" is the document itself)."""
    raise ManifestError(f"{where or 'the document'}: {message}")


class Codec(Protocol):
    """Reads plain data into a value (raising ManifestError), and writes the value back."""

    def read(self, data: object, where: str) -> Any: ...

    def write(self, value: Any) -> object: ...


class _AsIs:
    """A codec whose values are plain data already."""

    __slots__ = ()

    def write(self, value: Any) -> object:
        return value


@dataclass(frozen=True, slots=True)
class Text(_AsIs):
    """A string that wholly matches `pattern`, of at most `longest` characters; never a control."""

    what: str
    pattern: str = r".*"
    longest: int = 255

    def read(self, data: object, where: str) -> str:
        if not isinstance(data, str):
            refuse(where, f"is not {self.what}, but {_shown(data)}")
        if len(data) > self.longest or _CONTROL.search(data):
            refuse(where, f"is not {self.what} (too long, or a control character): {_shown(data)}")
        if not re.fullmatch(self.pattern, data):
            refuse(where, f"is not {self.what}: {_shown(data)}")
        return data


@dataclass(frozen=True, slots=True)
class Number(_AsIs):
    """An integer from `low` to `high`, both included."""

    low: int = 0
    high: int = LARGEST

    def read(self, data: object, where: str) -> int:
        if type(data) is not int or not self.low <= data <= self.high:
            refuse(where, f"is not an integer from {self.low} to {self.high}: {_shown(data)}")
        return data


@dataclass(frozen=True, slots=True)
class Mode:
    """Permission bits among `legal`; written as four octal digits, `"0644"`."""

    legal: frozenset[int]

    def read(self, data: object, where: str) -> int:
        for mode in self.legal:
            if data == f"{mode:04o}":
                return mode
        legal = ", ".join(f"{mode:04o}" for mode in sorted(self.legal))
        refuse(where, f"is not a mode that is allowed here ({legal}): {_shown(data)}")

    def write(self, value: Any) -> object:
        return f"{value:04o}"


class SortedBy:
    """A mark on a tuple's type: a set, sorted by these attributes, or by the items themselves."""

    def __init__(self, *names: str) -> None:
        self.key: Callable[[Any], Any] = attrgetter(*names) if names else lambda item: item


@dataclass(frozen=True, slots=True)
class Items:
    """A list. With `key` it is a set: sorted by that key, which no two items share."""

    codec: Codec
    key: Callable[[Any], Any] | None = None

    def read(self, data: object, where: str) -> tuple[Any, ...]:
        if not isinstance(data, list):
            refuse(where, f"is not a list, but {_shown(data)}")
        items = tuple(self.codec.read(item, f"{where}[{i}]") for i, item in enumerate(data))
        if self.key is not None:
            ascending(where, [self.key(item) for item in items])
        return items

    def write(self, value: Any) -> object:
        return [self.codec.write(item) for item in value]


def ascending(where: str, keys: list[Any]) -> None:
    """Refuse keys that are not strictly ascending."""
    for before, after in pairwise(keys):
        if before == after:
            refuse(where, f"holds {_shown(after)} twice")
        if before > after:
            refuse(where, f"is not sorted: {_shown(after)} stands after {_shown(before)}")


def distinct(where: str, keys: Iterable[object]) -> None:
    """Refuse a key that stands twice, in whatever order."""
    seen = set()
    for key in keys:
        if key in seen:
            refuse(where, f"holds {_shown(key)} twice")
        seen.add(key)


Plain = str | int | bool | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    """A flat object of strings, integers, booleans and lists of strings, as sorted pairs."""

    name: Text
    text: Text

    def read(self, data: object, where: str) -> tuple[tuple[str, Plain], ...]:
        if not isinstance(data, dict):
            refuse(where, f"is not an object, but {_shown(data)}")
        return tuple((key, self._value(key, data[key], where)) for key in sorted(data))

    def _value(self, key: str, data: object, where: str) -> Plain:
        self.name.read(key, f"{where}: the key {_shown(key)}")
        where = f"{where}.{key}"
        if isinstance(data, bool):
            return data
        if isinstance(data, int):
            return Number().read(data, where)
        if isinstance(data, list):
            return tuple(self.text.read(item, f"{where}[{i}]") for i, item in enumerate(data))
        return self.text.read(data, where)

    def write(self, value: Any) -> object:
        assert len(dict(value)) == len(value), f"a key twice in {value}"
        return {key: list(item) if isinstance(item, tuple) else item for key, item in value}


@dataclass(frozen=True, slots=True)
class Node:
    """An object with exactly the fields of a dataclass; one that is None has no key."""

    cls: type[Any]

    def read(self, data: object, where: str) -> Any:
        if not isinstance(data, dict):
            refuse(where, f"is not an object, but {_shown(data)}")
        fields = _fields(self.cls)
        for key in sorted(data.keys() - fields.keys()):
            refuse(where, f"has the unknown key {_shown(key)}")
        values = {}
        for name, (codec, needed) in fields.items():
            if name in data:
                values[name] = codec.read(data[name], f"{where}.{name}" if where else name)
            elif needed:
                refuse(where, f"lacks the key {name!r}")
        return self.cls(**values)

    def write(self, value: Any) -> object:
        fields = _fields(self.cls).items()
        found = ((name, codec, getattr(value, name)) for name, (codec, _) in fields)
        return {name: codec.write(item) for name, codec, item in found if item is not None}


_CODECS: dict[type[Any], dict[str, tuple[Codec, bool]]] = {}


def _fields(cls: type[Any]) -> dict[str, tuple[Codec, bool]]:
    """Each field's codec, and whether it must be there. Asked for often, so kept."""
    if cls not in _CODECS:
        hints = get_type_hints(cls, include_extras=True)
        _CODECS[cls] = {name: _codec(hint) for name, hint in hints.items()}
    return _CODECS[cls]


def _codec(hint: Any) -> tuple[Codec, bool]:
    """The codec that a field's type asks for, and whether the field must be there."""
    if get_origin(hint) is Annotated:
        first, rule = get_args(hint)
        if isinstance(rule, SortedBy):
            return Items(_codec(get_args(first)[0])[0], rule.key), True
        return cast(Codec, rule), True
    if get_origin(hint) is tuple:
        return Items(_codec(get_args(hint)[0])[0]), True
    if get_origin(hint) is UnionType:
        return _codec(get_args(hint)[0])[0], False
    assert dataclasses.is_dataclass(hint), f"no codec for {hint}"
    return Node(cast("type[Any]", hint)), True


def canonical(plain: object) -> bytes:
    """The canonical bytes of plain data."""
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode() + b"\n"


def load(data: bytes) -> object:
    """The plain data of canonical bytes; ManifestError for any other bytes."""
    if len(data) > LONGEST:
        refuse("", f"is over {LONGEST >> 20} MiB long")
    try:
        plain: object = json.loads(data.decode(), parse_float=_no_number, parse_constant=_no_number)
        same = canonical(plain) == data
    except (ValueError, RecursionError) as error:
        # ValueError covers bad UTF-8, bad JSON, lone surrogates, and integers without end.
        raise ManifestError(f"the document is not canonical JSON: {error}") from error
    if not same:
        refuse("", "is not canonical JSON: its bytes differ from how its own data is written")
    return plain


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not an integer")


def _shown(value: object) -> str:
    """A value in a message: JSON where possible, shortened, never with a raw control character."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."
