"""A schema that uses each keyword, for tests."""

from __future__ import annotations

from typing import Any

from builder.schema import ANNOTATIONS, Schema, compiled

COMMON: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "common.schema.json",
    "$defs": {
        "name": {"type": "string", "pattern": "^[a-z]+$", "x-expects": "a lower-case name"},
        "port": {"type": "integer", "minimum": 1, "maximum": 65535},
        "reason": {"type": "string", "x-expects": "a line of text"},
    },
}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"common.schema.json#/$defs/{name}", "description": "A word about it."}


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "properties": properties}


SCHEMA: Schema = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "$id": "host.schema.json",
    "$defs": {"size": {"type": "string", "pattern": r"^\d+GiB$", "x-expects": "a size, as 8GiB"}},
    **closed(
        host=ref("name"),
        cores={"type": "integer", "minimum": 1, "maximum": 512},
        weight={"type": "integer", "minimum": 1},
        nice={"type": "integer", "maximum": 19},
        onboot={"type": "boolean"},
        role={"type": "string", "enum": ["gateway", "mesh", "service"]},
        kind={"const": "lxc", "type": "string"},
        port=ref("port"),
        why={**ref("reason"), "minLength": 8, "maxLength": 12},
        dns={
            "type": "array",
            "items": {"type": "string", "format": "ip", "x-expects": "an IP address"},
            "minItems": 1,
            "maxItems": 2,
            "uniqueItems": True,
        },
        guests={
            "type": "object",
            "propertyNames": ref("name"),
            "additionalProperties": {**closed(id=ref("port"), net={}), "required": ["id", "net"]},
            "minProperties": 1,
            "maxProperties": 2,
        },
        body={"anyOf": [{"$ref": "#/$defs/size"}, {"const": "unlimited", "type": "string"}]},
        swap={"anyOf": [{"$ref": "#/$defs/size"}, {"const": 0, "type": "integer"}]},
        sticky={
            "anyOf": [
                {"type": "boolean"},
                {**closed(cookie=ref("name")), "required": ["cookie"]},
            ]
        },
        backends={
            "type": "array",
            "items": {"anyOf": [ref("name"), closed(name=ref("name"), port=ref("port"))]},
        },
        certificate={
            "anyOf": [
                {"const": "site", "type": "string"},
                {**closed(acme=ref("name")), "required": ["acme"]},
                {**closed(files=closed(key=ref("name"))), "required": ["files"]},
            ]
        },
        given={
            "x-expects": "a size or nothing at all",
            "anyOf": [{"$ref": "#/$defs/size"}, {"type": "null"}],
        },
        single={"oneOf": [{"type": "integer"}, {"type": "integer", "minimum": 5}]},
        either={"type": ["string", "integer"]},
    ),
}  # fmt: skip
SHAPE = compiled(SCHEMA, {"common.schema.json": COMMON})


def keywords(schema: Any) -> set[str]:
    """Every keyword that `schema` judges values by, at any depth."""
    if isinstance(schema, list):
        return {found for item in schema for found in keywords(item)}
    if not isinstance(schema, dict):
        return set()
    own = {key for key in schema if key not in ANNOTATIONS and not key.startswith("x-")}
    below = [schema[key] for key in own - {"properties", "enum", "const", "required"}]
    below += [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
    return own.union(*map(keywords, below))
