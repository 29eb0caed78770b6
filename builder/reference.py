"""docs/reference.md, made from the schemas: every key of the language, what it takes and means."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Schema = Mapping[str, Any]

_HEAD = """\
# Reference

Every key of the configuration language, made from `schema/` by `./invoke docs`.

YAML is read strictly: only `true` and `false` are booleans, numbers are decimal, `on`, `yes` and
`52:54:00:12:34:56` are text; duplicate keys, anchors, merges and tags are refused. The order of
keys in a mapping means nothing.
"""


def render(folder: Path) -> str:
    """The page, from the schemas in `folder`."""
    schemas = {p.name: json.loads(p.read_bytes()) for p in sorted(folder.glob("*.schema.json"))}
    lines = [_HEAD]
    for name in ("site", "host"):
        schema = schemas[f"{name}.schema.json"]
        lines.append(f"\n## {schema['title']}\n\n{schema['description']}\n")
        lines += _object("", schema, schemas["common.schema.json"]["$defs"])
    return "\n".join(lines) + "\n"


def _object(path: str, schema: Schema, common: Schema) -> Iterator[str]:
    """The table of one mapping, then those of the mappings in it."""
    required = schema.get("required", ())
    yield "| key | takes | default | meaning |\n|---|---|---|---|"
    below: list[tuple[str, Schema]] = []
    for key, value in schema["properties"].items():
        resolved = _resolved(value, common)
        below += _below(f"{path}{key}", resolved, common)
        default = "required" if key in required else _default(resolved)
        meaning = _cell(resolved.get("description", ""))
        yield f"| `{key}` | {_cell(_takes(resolved, common))} | {default} | {meaning} |"
    for inner, value in below:
        yield f"\n### `{inner}`\n"
        if "description" in value:
            yield f"{value['description']}\n"
        yield from _object(f"{inner}.", value, common)


def _below(path: str, schema: Schema, common: Schema) -> list[tuple[str, Schema]]:
    found: list[tuple[str, Schema]] = []
    if "properties" in schema:
        found.append((path, schema))
    if isinstance(schema.get("additionalProperties"), Mapping):
        inner = _resolved(schema["additionalProperties"], common)
        found += _below(f"{path}.NAME", inner, common)
    if "items" in schema:
        found += _below(f"{path}[]", _resolved(schema["items"], common), common)
    for branch in schema.get("anyOf", ()):
        found += _below(path, _resolved(branch, common), common)
    return found


def _resolved(schema: Schema, common: Schema) -> Schema:
    """The schema with a reference to a shared type laid open; what stands beside it wins."""
    reference = schema.get("$ref")
    if reference is None:
        return schema
    return {**common[reference.rpartition("/")[2]], **schema}


def _takes(schema: Schema, common: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(
            dict.fromkeys(_takes(_resolved(b, common), common) for b in schema["anyOf"])
        )
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if "x-expects" in schema:
        return str(schema["x-expects"])
    return _by_type(schema, common)


def _by_type(schema: Schema, common: Schema) -> str:
    kind = schema.get("type")
    if kind == "boolean":
        return "`true` or `false`"
    if kind == "integer":
        return f"a number from {schema['minimum']} to {schema['maximum']}"
    if kind == "array":
        return f"a list: {_takes(_resolved(schema['items'], common), common)}"
    if kind == "object" and "properties" not in schema:
        return "a mapping by name"
    return "a mapping" if kind == "object" else "text"


def _default(schema: Schema) -> str:
    if "default" not in schema:
        return ""
    value = schema["default"]
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
