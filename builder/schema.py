"""The schemas of configuration documents: what does not fit them, told as findings.

`jsonschema` judges; every error becomes one Finding with a stable code and a sentence for a person,
who reads what is expected and what was given. A schema says what it expects in its own words by
`x-expects`, beside any of its keywords.

Stricter than jsonschema, as JSON Schema itself is: `$` in a pattern is the end of the text (to
Python, also the place before a last line feed), `\\d` is 0 to 9, and 2.0 is no integer. `$ref`
points to a definition, and what stands beside it adds to that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from builder.formats import FORMATS, expression, mapped
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
    schemas = _beside(folder)
    return compiled(schemas[f"{name}.schema.json"], schemas)


@lru_cache(maxsize=2)
def _beside(folder: Path) -> Mapping[str, Schema]:
    return {path.name: json.loads(path.read_bytes()) for path in folder.glob("*.schema.json")}


def compiled(schema: Schema, others: Mapping[str, Schema] | None = None) -> Shape:
    """The shape of `schema`; `others` by the file names under which `$ref` means them."""
    from jsonschema import FormatChecker

    checker = FormatChecker(formats=())
    for name in FORMATS:
        checker.checks(name, raises=ValueError)(FORMATS[name])
    # Inlined, validation takes a third of the time that following each reference takes.
    return Shape(_strict()(_inlined(schema, schema, others or {}), format_checker=checker))


@lru_cache(maxsize=1)
def _strict() -> Callable[..., Validator]:
    """The class of our validators: of JSON Schema, with what means more here."""
    from jsonschema import Draft202012Validator, validators

    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    extend: Any = validators.extend
    strict: Callable[..., Validator] = extend(
        Draft202012Validator, {"pattern": _pattern}, type_checker=types
    )
    return strict


def findings(document: str, data: Data, shape: Shape) -> list[Finding]:
    """All that keeps `data` from being a document of this `shape`, each once.

    `document` is the id that places carry, such as "hosts/pve1".
    """
    faults = (_Fault.of(error, document) for error in shape.validator.iter_errors(data))
    return list(dict.fromkeys(found for fault in faults for found in _told(fault, data)))


def _inlined(node: Any, root: Schema, others: Mapping[str, Schema], depth: int = 0) -> Any:
    """`node` with each `$ref` replaced by what it refers to, and what stands beside it."""
    assert depth < 100, "a schema that refers to itself can't be inlined"
    if isinstance(node, list):
        return [_inlined(item, root, others, depth + 1) for item in node]
    if not isinstance(node, dict):
        return node
    if not isinstance(reference := node.get("$ref"), str):
        return {k: _inlined(v, root, others, depth + 1) for k, v in node.items() if k != "$defs"}
    beside = {key: value for key, value in node.items() if key != "$ref"}
    file, _, pointer = reference.partition("#")
    root = others[file] if file else root
    target: Any = root
    for step in pointer.strip("/").split("/"):
        target = target[step] if step else target
    inlined = _inlined(target, root, others, depth + 1)
    twice = {k for k in beside if k in inlined and not k.startswith("x-")} - ANNOTATIONS
    assert not twice, f"{twice} of {reference} can't be given again beside $ref"
    return {**inlined, **beside}


# Keywords that mean more here than in jsonschema.


def _is_integer(_: object, value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _pattern(_: object, pattern: str, value: object, *_schema: object) -> Iterator[ValidationError]:
    from jsonschema import ValidationError

    if isinstance(value, str) and not expression(pattern).search(value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


# Errors → findings.


@dataclass(frozen=True, slots=True)
class _Fault:
    """One error of jsonschema: `keyword` of `schema`, which wants `wanted`, refuses `given`."""

    place: Place
    keyword: str
    wanted: Any
    given: Any
    schema: Any
    # The innermost key that leads to the value, as a sentence calls the value.
    name: str
    # Of `anyOf` and `oneOf`, the faults of each branch.
    branches: tuple[tuple[_Fault, ...], ...] = ()

    @staticmethod
    def of(error: ValidationError, document: str) -> _Fault:
        place = Place(document, tuple(error.absolute_path))
        branches: dict[str | int, list[_Fault]] = {}
        for inner in error.context or ():
            fault = _Fault.of(inner, document)
            branches.setdefault(inner.relative_schema_path[0], []).append(fault)
        return _Fault(
            place,
            str(error.validator),
            error.validator_value,
            error.instance,
            error.schema,
            _name(place),
            tuple(map(tuple, branches.values())),
        )

    def asks(self, keyword: str) -> bool:
        """Whether this keyword refuses the value, itself or in a branch."""
        return keyword in (self.keyword, *(f.keyword for branch in self.branches for f in branch))

    def finding(self, code: str, message: str) -> Finding:
        return Finding(self.place, message, code)

    def unexpected(self, code: str, expected: str, given: str = "") -> Finding:
        if self.given is None:
            return self.finding(code, f"{self.name} has no value; it must be {expected}")
        hint = ""
        if isinstance(self.given, str) and "true or false" in expected:
            lower = self.given.lower()
            hint = "; write true" if lower in _TRUE else "; write false" if lower in _FALSE else ""
        message = f"{self.name} must be {expected}, not {given or _shown(self.given)}{hint}"
        return self.finding(code, message)


def _name(place: Place) -> str:
    names = [step for step in place.path if isinstance(step, str)]
    if not names:
        return "the document"
    return f"'{names[-1]}'" if place.path[-1] == names[-1] else f"each item of '{names[-1]}'"


def _told(fault: _Fault, data: Data) -> Iterator[Finding]:
    """The findings of one fault in `data`."""
    if isinstance(fault.given, str) and isinstance(_at(data, fault.place.path), dict):
        # From `propertyNames`: what is judged is a key of the mapping at this place.
        message = f"'{fault.given}' can't be a key here; it must be {_expects(fault.schema)}"
        yield Finding((fault.place / fault.given).named(), message, "wrong-format")
    elif isinstance(fault.given, str) and fault.asks("format") and mapped(fault.given):
        message = f"{fault.given} is an IPv4 address in the clothes of IPv6"
        yield fault.finding("address-special", message)
    elif fault.keyword in ("anyOf", "oneOf"):
        yield from _told_of_branches(fault, data)
    else:
        yield from _TELLERS[fault.keyword](fault)


def _at(data: Data, path: Iterable[str | int]) -> Data:
    for step in path:
        data = data[step]  # type: ignore[index]
    return data


def _told_of_branches(fault: _Fault, data: Data) -> Iterator[Finding]:
    """Of alternatives, only what keeps the value from the one that it was meant for."""
    if not fault.branches:
        yield fault.finding("wrong-value", f"{fault.name} fits more than one of its forms")
        return
    typed = [b for b in fault.branches if not any(_is_whole(f, fault, "type") for f in b)]
    nearest = min(typed, key=_distance, default=())
    alone = len(typed) == 1 and nearest[0].keyword not in ("const", "enum")
    if nearest and (alone or not any(_is_whole(f, fault) for f in nearest)):
        for inner in nearest:
            yield from _told(inner, data)
        return
    forms = dict.fromkeys(_expects(branch[0].schema) for branch in fault.branches)
    expected = fault.schema.get("x-expects") or ", or ".join(forms)
    yield fault.unexpected("wrong-value" if typed else "wrong-type", expected)


def _is_whole(inner: _Fault, outer: _Fault, keyword: str = "") -> bool:
    """Whether a branch refuses the value itself, not an entry or item of it."""
    about_keys = inner.keyword in ("required", "additionalProperties")
    same = inner.place == outer.place and not about_keys
    return same and (not keyword or inner.keyword == keyword)


def _distance(faults: tuple[_Fault, ...]) -> tuple[int, int]:
    """How far a mapping is from a branch: keys too many or missing count most."""
    return sum(len(_extra(f)) + len(_missing(f)) for f in faults), len(faults)


def _expects(schema: Any) -> str:
    """What a value of `schema` is, in words."""
    if "x-expects" in schema:
        return str(schema["x-expects"])
    if "const" in schema:
        return _shown(schema["const"])
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    kinds = schema.get("type", "object")
    words = " or ".join(_TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds))
    return words + _range(schema.get("minimum"), schema.get("maximum"))


def _range(low: object, high: object) -> str:
    if high is None:
        return "" if low is None else f" of at least {low}"
    return f" of at most {high}" if low is None else f" from {low} to {high}"


def _shown(value: object) -> str:
    """A value as a person would write it, shortened."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if not isinstance(value, str):
        return json.dumps(value)
    line = " ".join(value.split("\n"))
    return f"'{line}'" if len(line) <= _LONGEST_SHOWN else f"'{line[:_LONGEST_SHOWN]}…'"


def _extra(fault: _Fault) -> list[str]:
    """The keys that `additionalProperties: false` refuses; none for another keyword."""
    if fault.keyword != "additionalProperties":
        return []
    return [key for key in fault.given if key not in fault.schema.get("properties", {})]


def _missing(fault: _Fault) -> list[str]:
    """The keys that `required` misses; none for another keyword."""
    return [k for k in fault.wanted if k not in fault.given] if fault.keyword == "required" else []


Teller: TypeAlias = Callable[[_Fault], Iterator[Finding]]


def _told_type(fault: _Fault) -> Iterator[Finding]:
    given = _shown(fault.given)
    if isinstance(fault.given, str):
        given = f"the string {given}"
    elif fault.wanted == "string" and isinstance(fault.given, bool | int | float):
        given += "; put it in quotes"
    yield fault.unexpected("wrong-type", _expects(fault.schema), given)


def _told_unknown(fault: _Fault) -> Iterator[Finding]:
    for key in _extra(fault):
        message = f"'{key}' is not known here; {known(key, fault.schema.get('properties', {}))}"
        yield Finding((fault.place / key).named(), message, "unknown-key")


def _told_missing(fault: _Fault) -> Iterator[Finding]:
    for key in _missing(fault):
        yield Finding(fault.place.named(), f"{fault.name} lacks '{key}'", "missing-key")


def _told_value(fault: _Fault) -> Iterator[Finding]:
    legal = fault.wanted if fault.keyword == "enum" else [fault.wanted]
    hint = known(str(fault.given), map(str, legal))
    yield fault.finding("wrong-value", f"{fault.name} can't be {_shown(fault.given)}; {hint}")


def _told_duplicate(fault: _Fault) -> Iterator[Finding]:
    seen: list[object] = []
    for at, item in enumerate(fault.given):
        if item in seen:
            message = f"{_shown(item)} is in {fault.name} already"
            yield Finding(fault.place / at, message, "duplicate-item")
        seen.append(item)


def _expected(code: str) -> Teller:
    return lambda fault: iter([fault.unexpected(code, _expects(fault.schema))])


def _counted(code: str, bound: str, unit: str, units: str) -> Teller:
    def tell(fault: _Fault) -> Iterator[Finding]:
        count = f"{bound} {fault.wanted} {unit if fault.wanted == 1 else units}"
        yield fault.finding(code, f"{fault.name} takes {count}, not {len(fault.given)}")

    return tell


_TELLERS: Mapping[str, Teller] = {
    "type": _told_type,
    "additionalProperties": _told_unknown,
    "required": _told_missing,
    "enum": _told_value,
    "const": _told_value,
    "uniqueItems": _told_duplicate,
    "pattern": _expected("wrong-format"),
    "format": _expected("wrong-format"),
    "minimum": _expected("out-of-range"),
    "maximum": _expected("out-of-range"),
    "minLength": _counted("out-of-range", "at least", "character", "characters"),
    "maxLength": _counted("out-of-range", "at most", "character", "characters"),
    "minItems": _counted("too-few", "at least", "item", "items"),
    "maxItems": _counted("too-many", "at most", "item", "items"),
    "minProperties": _counted("too-few", "at least", "entry", "entries"),
    "maxProperties": _counted("too-many", "at most", "entry", "entries"),
}
# Every keyword that a schema may use: what is judged, and told, and how it is composed.
KEYWORDS = frozenset(_TELLERS) | {"$ref", "anyOf", "oneOf", "items", "properties", "propertyNames"}
