"""The schemas of configuration documents: what does not fit them, told as findings.

`jsonschema` judges; every error becomes one Finding with a stable code and a sentence for a person,
who reads what is expected and what was given. A schema says what it expects in its own words by
`x-expects`, beside any of its keywords.

Stricter than jsonschema, as JSON Schema itself is: `$` in a pattern is the end of the text (to
Python, also the place before a last line feed), `\\d` is 0 to 9, and 2.0 is no integer. `$ref`
points to a definition, and takes only annotations beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from builder.problems import Finding, Place, known
from builder.source import Data

if TYPE_CHECKING:
    from jsonschema import ValidationError, Validator

Schema: TypeAlias = Mapping[str, Any]

SCHEMAS = Path(__file__).parents[1] / "schema"
# Say something to people, and nothing of which values fit.
ANNOTATIONS = frozenset({"$schema", "$id", "$defs", "title", "description", "default", "examples"})
_TYPES = {
    "object": "a mapping",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
}
# What other readers of YAML, or other programs' files, take for a boolean.
_TRUE, _FALSE = frozenset({"on", "yes", "y", "true"}), frozenset({"off", "no", "n", "false"})
_LONGEST_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Shape:
    """A schema, ready to judge documents; made by `compiled` or `shipped`."""

    validator: Validator


@lru_cache(maxsize=16)
def shipped(name: str, folder: Path = SCHEMAS) -> Shape:
    """The shape of `folder`/NAME.schema.json, with the schemas beside it that it refers to."""
    schemas = {path.name: json.loads(path.read_text()) for path in folder.glob("*.schema.json")}
    return compiled(schemas[f"{name}.schema.json"], schemas)


def compiled(schema: Schema, others: Mapping[str, Schema] | None = None) -> Shape:
    """The shape of `schema`; `others` by the file names under which `$ref` means them."""
    from jsonschema import Draft202012Validator, FormatChecker, validators

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    checker = FormatChecker(formats=())
    for name in _FORMATS:
        checker.checks(name, raises=ValueError)(_FORMATS[name])
    strict = validators.extend(Draft202012Validator, {"pattern": _pattern}, type_checker=types)
    # Inlined, validation takes a third of the time that following each reference takes.
    return Shape(strict(_inlined(schema, schema, others or {}), format_checker=checker))


def findings(document: str, data: Data, shape: Shape) -> list[Finding]:
    """All that keeps `data` from being a document of this `shape`, each once.

    `document` is the id that places carry, such as "hosts/pve1".
    """
    told = (f for error in shape.validator.iter_errors(data) for f in _told(error, document, data))
    return list(dict.fromkeys(told))


def _inlined(node: Any, root: Schema, others: Mapping[str, Schema], depth: int = 0) -> Any:
    """`node` with each `$ref` replaced by what it refers to, and the annotations beside it."""
    assert depth < 100, "a schema that refers to itself can't be inlined"
    if isinstance(node, list):
        return [_inlined(item, root, others, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    if not isinstance(reference := node.get("$ref"), str):
        return {k: _inlined(v, root, others, depth + 1) for k, v in node.items() if k != "$defs"}
    beside = {key: value for key, value in node.items() if key != "$ref"}
    assert all(k in ANNOTATIONS or k.startswith("x-") for k in beside), f"beside $ref: {beside}"
    file, _, pointer = reference.partition("#")
    root = others[file] if file else root
    target: Any = root
    for step in pointer.strip("/").split("/"):
        target = target[step] if step else target
    return {**_inlined(target, root, others, depth + 1), **beside}


# Keywords that mean more here than in jsonschema.


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _pattern(_: object, pattern: str, value: object, schema: Schema) -> Iterator[ValidationError]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not expression(pattern).search(value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


@lru_cache(maxsize=512)
def expression(pattern: str) -> re.Pattern[str]:
    """A schema's pattern, with the meaning that ECMA-262 gives it."""
    parts = re.split(r"(\\.|\[(?:\\.|[^\]\\])*\])", pattern)
    # Odd parts are escapes and character classes, in which `$` is itself.
    ends = (part if at % 2 else part.replace("$", r"\Z") for at, part in enumerate(parts))
    return re.compile("".join(ends), re.ASCII)


def _network(version: int) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        import ipaddress

        if not isinstance(value, str):
            return True
        address, slash, length = value.partition("/")
        # ipaddress takes netmasks and leading zeros here; every target takes a plain length.
        if not slash or not re.fullmatch("0|[1-9][0-9]{0,2}", length):
            return False
        found = ipaddress.ip_interface(value)
        return _address(version)(address) and version in (0, found.version)

    return check


def _address(version: int) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        import ipaddress

        if not isinstance(value, str):
            return True
        found = ipaddress.ip_address(value)
        # A scope (fe80::1%eth0) names an interface of one machine only.
        return version in (0, found.version) and "%" not in value

    return check


_FORMATS: Mapping[str, Callable[[object], bool]] = {
    "ip": _address(0),
    "ipv4": _address(4),
    "ipv6": _address(6),
    "cidr": _network(0),
    "ipv4-cidr": _network(4),
    "ipv6-cidr": _network(6),
}


# Errors → findings. Each teller takes the error, the place of the value and its name.


def _told(error: ValidationError, document: str, data: Data) -> Iterator[Finding]:
    place = Place(document, tuple(error.absolute_path))
    holder = _at(data, place.path)
    if isinstance(holder, dict) and isinstance(error.instance, str):
        # From `propertyNames`: the value judged is a key of the mapping at this place.
        key = error.instance
        message = f"'{key}' can't be a key here; it must be {_expects(error.schema)}"
        yield Finding((place / key).named(), message, "wrong-format")
    elif error.validator in ("anyOf", "oneOf"):
        yield from _told_of_branches(error, document, data, place)
    else:
        yield from _TELLERS[str(error.validator)](error, place, _name(place))


def _at(data: Data, path: Iterable[str | int]) -> Data:
    for step in path:
        data = data[step]  # type: ignore[index,call-overload]
    return data


def _name(place: Place) -> str:
    """How a sentence calls the value at `place`."""
    names = [step for step in place.path if isinstance(step, str)]
    if not names:
        return "the document"
    return f"'{names[-1]}'" if place.path[-1] == names[-1] else f"each item of '{names[-1]}'"


def _told_of_branches(
    error: ValidationError, document: str, data: Data, place: Place
) -> Iterator[Finding]:
    """Of alternatives, only what keeps the value from the one it was meant for."""
    branches: dict[int, list[ValidationError]] = {}
    for inner in error.context or ():
        branches.setdefault(int(inner.relative_schema_path[0]), []).append(inner)
    if not branches:
        yield Finding(place, f"{_name(place)} fits more than one of its forms", "wrong-value")
        return
    meant = [b for b in branches.values() if not any(_is_whole(e, "type") for e in b)]
    nearest = min(meant, key=_distance, default=[])
    if nearest and not any(_is_whole(e, *_OF_SCALARS) for e in nearest):
        for inner in nearest:
            yield from _told(inner, document, data)
        return
    forms = dict.fromkeys(_expects(e.schema) for b in meant or branches.values() for e in b[:1])
    expected = ", or ".join(forms)
    yield _unexpected(error, place, expected, "wrong-value" if meant else "wrong-type")


_OF_SCALARS = ("const", "enum", "pattern", "format", "minimum", "maximum", "minLength", "maxLength")


def _is_whole(error: ValidationError, *keywords: str) -> bool:
    """Whether one of `keywords` judged the whole value of a branch, not a part of it."""
    return error.validator in keywords and not error.relative_path


def _distance(errors: list[ValidationError]) -> tuple[int, int]:
    """How far a mapping is from a branch: keys that are missing or too many count most."""
    keys = [e for e in errors if e.validator in ("required", "additionalProperties")]
    return sum(len(_extra(e)) or 1 for e in keys), len(errors)


def _expects(schema: Any) -> str:
    """What a value of `schema` is, in words."""
    if "x-expects" in schema:
        return str(schema["x-expects"])
    if "const" in schema:
        return _shown(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "minimum" in schema or "maximum" in schema:
        return _range(schema)
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join(_TYPES[kind] for kind in kinds) or "another value"


def _range(schema: Any) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if high is None:
        return f"a number of at least {low}"
    return f"a number of at most {high}" if low is None else f"a number from {low} to {high}"


def _shown(value: object) -> str:
    """A value as a person would write it, shortened."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if not isinstance(value, str):
        return json.dumps(value)
    return f"'{value}'" if len(value) <= _LONGEST_SHOWN else f"'{value[:_LONGEST_SHOWN]}…'"


def _unexpected(error: ValidationError, place: Place, expected: str, code: str) -> Finding:
    given = error.instance
    if given is None:
        return Finding(place, f"{_name(place)} has no value; it must be {expected}", code)
    shown = f"the string {_shown(given)}" if _is_misread(given, expected) else _shown(given)
    message = f"{_name(place)} must be {expected}, not {shown}"
    return Finding(place, message, code)


def _is_misread(given: object, expected: str) -> bool:
    """Whether text was given where another type is expected, which its quotes don't tell."""
    return isinstance(given, str) and expected.startswith(("a number", "a whole", "true or", "a p"))


def _told_type(error: ValidationError, place: Place, _: str) -> Iterator[Finding]:
    finding = _unexpected(error, place, _expects(error.schema), "wrong-type")
    given, kind = error.instance, error.validator_value
    hint = ""
    if kind == "boolean" and isinstance(given, str):
        lower = given.lower()
        hint = "; write true" if lower in _TRUE else "; write false" if lower in _FALSE else ""
    elif kind == "string" and isinstance(given, bool | int | float):
        hint = "; put it in quotes"
    yield Finding(finding.place, finding.message + hint, finding.code)


def _told_unknown(error: ValidationError, place: Place, _: str) -> Iterator[Finding]:
    legal = error.schema.get("properties", {}) if isinstance(error.schema, dict) else {}
    for key in _extra(error):
        message = f"'{key}' is not known here; {known(key, legal)}"
        yield Finding((place / key).named(), message, "unknown-key")


def _extra(error: ValidationError) -> list[str]:
    """The keys that `additionalProperties: false` refuses; none for another error."""
    if error.validator != "additionalProperties" or not isinstance(error.schema, dict):
        return []
    return [key for key in error.instance if key not in error.schema.get("properties", {})]


def _told_missing(error: ValidationError, place: Place, name: str) -> Iterator[Finding]:
    assert isinstance(error.validator_value, list)
    for key in error.validator_value:
        if key not in error.instance:
            yield Finding(place.named(), f"{name} lacks '{key}'", "missing-key")


def _told_value(error: ValidationError, place: Place, name: str) -> Iterator[Finding]:
    legal = error.validator_value if error.validator == "enum" else [error.validator_value]
    assert isinstance(legal, list)
    hint = known(str(error.instance), map(str, legal))
    yield Finding(place, f"{name} can't be {_shown(error.instance)}; {hint}", "wrong-value")


def _told_expected(code: str) -> Callable[[ValidationError, Place, str], Iterator[Finding]]:
    def tell(error: ValidationError, place: Place, _: str) -> Iterator[Finding]:
        yield _unexpected(error, place, _expects(error.schema), code)

    return tell


def _told_count(
    code: str, least: str, unit: str
) -> Callable[[ValidationError, Place, str], Iterator[Finding]]:
    def tell(error: ValidationError, place: Place, name: str) -> Iterator[Finding]:
        units = (
            unit
            if error.validator_value == 1
            else f"{unit[:-1]}ies"
            if unit[-1] == "y"
            else f"{unit}s"
        )
        message = f"{name} takes {least} {error.validator_value} {units}, not {len(error.instance)}"
        yield Finding(place, message, code)

    return tell


def _told_duplicate(error: ValidationError, place: Place, name: str) -> Iterator[Finding]:
    seen: list[object] = []
    for at, item in enumerate(error.instance):
        if item in seen:
            message = f"{name} has {_shown(item)} twice"
            yield Finding(place / at, message, "duplicate-item")
        seen.append(item)


_TELLERS: Mapping[str, Callable[[ValidationError, Place, str], Iterator[Finding]]] = {
    "type": _told_type,
    "additionalProperties": _told_unknown,
    "required": _told_missing,
    "enum": _told_value,
    "const": _told_value,
    "pattern": _told_expected("wrong-format"),
    "format": _told_expected("wrong-format"),
    "minimum": _told_expected("out-of-range"),
    "maximum": _told_expected("out-of-range"),
    "minLength": _told_count("out-of-range", "at least", "character"),
    "maxLength": _told_count("out-of-range", "at most", "character"),
    "minItems": _told_count("too-few", "at least", "item"),
    "maxItems": _told_count("too-many", "at most", "item"),
    "minProperties": _told_count("too-few", "at least", "entry"),
    "maxProperties": _told_count("too-many", "at most", "entry"),
    "uniqueItems": _told_duplicate,
}
