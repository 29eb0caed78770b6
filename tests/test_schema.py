"""builder/schema.py: each way not to fit a schema, as a person sees it."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from builder.problems import Place
from builder.schema import (
    ANNOTATIONS,
    KEYWORDS,
    SCHEMAS,
    Schema,
    compiled,
    expression,
    findings,
    shipped,
)
from builder.source import Sources, read

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


def told(text: str) -> str:
    """All that keeps `text` from fitting SCHEMA, as a person sees it."""
    sources = Sources({"hosts/a": ("a.yaml", text)})
    problems = sources.problems(findings("hosts/a", read("a.yaml", text), SHAPE))
    return "\n".join(problem.render() for problem in sorted(problems))


def test_what_fits_has_no_findings() -> None:
    text = """\
        {host: web, cores: 4, weight: 1000, nice: -5, onboot: true, role: mesh, kind: lxc,
        port: 443, why: because it, dns: [10.0.0.1, 'fd00::1'], body: 8GiB, swap: 0,
        sticky: {cookie: a}, backends: [a, {name: b, port: 1}], certificate: {files: {key: a}},
        given: null, single: 4, either: 1}
        """
    assert told(text) == ""


CASES = [
    (
        "hsot: web",
        """
        a.yaml:1:1: 'hsot' is not known here; did you mean 'host'? [unknown-key]
            hsot: web
            ^
        """,
    ),
    (
        "guests: {web: {id: 1, x: 1, net: 1, sp: 2}}",
        """
        a.yaml:1:23: 'x' is not known here; known: id, net [unknown-key]
            guests: {web: {id: 1, x: 1, net: 1, sp: 2}}
                                  ^
        a.yaml:1:37: 'sp' is not known here; known: id, net [unknown-key]
            guests: {web: {id: 1, x: 1, net: 1, sp: 2}}
                                                ^
        """,
    ),
    (
        "guests:\n  web: {}",
        """
        a.yaml:2:3: 'web' lacks 'id' [missing-key]
              web: {}
              ^
        a.yaml:2:3: 'web' lacks 'net' [missing-key]
              web: {}
              ^
        """,
    ),
    (
        "cores: four",
        """
        a.yaml:1:8: 'cores' must be a whole number from 1 to 512, not the string 'four' [wrong-type]
            cores: four
                   ^
        """,
    ),
    (
        "cores: 2.0",
        """
        a.yaml:1:8: 'cores' must be a whole number from 1 to 512, not 2.0 [wrong-type]
            cores: 2.0
                   ^
        """,
    ),
    (
        "cores: true",
        """
        a.yaml:1:8: 'cores' must be a whole number from 1 to 512, not true [wrong-type]
            cores: true
                   ^
        """,
    ),
    (
        "onboot: on",
        """
        a.yaml:1:9: 'onboot' must be true or false, not the string 'on'; write true [wrong-type]
            onboot: on
                    ^
        """,
    ),
    (
        "onboot: No",
        """
        a.yaml:1:9: 'onboot' must be true or false, not the string 'No'; write false [wrong-type]
            onboot: No
                    ^
        """,
    ),
    (
        "onboot: maybe",
        """
        a.yaml:1:9: 'onboot' must be true or false, not the string 'maybe' [wrong-type]
            onboot: maybe
                    ^
        """,
    ),
    (
        "host: 80",
        """
        a.yaml:1:7: 'host' must be a lower-case name, not 80; put it in quotes [wrong-type]
            host: 80
                  ^
        """,
    ),
    (
        "host:",
        """
        a.yaml:1:6: 'host' has no value; it must be a lower-case name [wrong-type]
            host:
                 ^
        """,
    ),
    (
        "guests: [web]",
        """
        a.yaml:1:9: 'guests' must be a mapping, not a list [wrong-type]
            guests: [web]
                    ^
        """,
    ),
    (
        "dns: {a: 1}",
        """
        a.yaml:1:6: 'dns' must be a list, not a mapping [wrong-type]
            dns: {a: 1}
                 ^
        """,
    ),
    (
        "either: []",
        """
        a.yaml:1:9: 'either' must be text or a whole number, not a list [wrong-type]
            either: []
                    ^
        """,
    ),
    (
        "role: gatewy",
        """
        a.yaml:1:7: 'role' can't be 'gatewy'; did you mean 'gateway'? [wrong-value]
            role: gatewy
                  ^
        """,
    ),
    (
        "role: x",
        """
        a.yaml:1:7: 'role' can't be 'x'; known: gateway, mesh, service [wrong-value]
            role: x
                  ^
        """,
    ),
    (
        "kind: vm",
        """
        a.yaml:1:7: 'kind' can't be 'vm'; known: lxc [wrong-value]
            kind: vm
                  ^
        """,
    ),
    (
        "cores: 513\nport: 0\nweight: 0\nnice: 20",
        """
        a.yaml:1:8: 'cores' must be a whole number from 1 to 512, not 513 [out-of-range]
            cores: 513
                   ^
        a.yaml:2:7: 'port' must be a whole number from 1 to 65535, not 0 [out-of-range]
            port: 0
                  ^
        a.yaml:3:9: 'weight' must be a whole number of at least 1, not 0 [out-of-range]
            weight: 0
                    ^
        a.yaml:4:7: 'nice' must be a whole number of at most 19, not 20 [out-of-range]
            nice: 20
                  ^
        """,
    ),
    (
        "why: so",
        """
        a.yaml:1:6: 'why' takes at least 8 characters, not 2 [out-of-range]
            why: so
                 ^
        """,
    ),
    (
        "why: because we want it",
        """
        a.yaml:1:6: 'why' takes at most 12 characters, not 18 [out-of-range]
            why: because we want it
                 ^
        """,
    ),
    (
        "host: Web",
        """
        a.yaml:1:7: 'host' must be a lower-case name, not 'Web' [wrong-format]
            host: Web
                  ^
        """,
    ),
    (
        'host: "web\\n"',
        """
        a.yaml:1:7: 'host' must be a lower-case name, not 'web ' [wrong-format]
            host: "web\\n"
                  ^
        """,
    ),
    (
        "guests: {Web: {id: 1}}",
        """
        a.yaml:1:10: 'Web' can't be a key here; it must be a lower-case name [wrong-format]
            guests: {Web: {id: 1}}
                     ^
        a.yaml:1:10: 'Web' lacks 'net' [missing-key]
            guests: {Web: {id: 1}}
                     ^
        """,
    ),
    (
        "dns: [10.0.0.1, 10.0.0.256]",
        """
        a.yaml:1:17: each item of 'dns' must be an IP address, not '10.0.0.256' [wrong-format]
            dns: [10.0.0.1, 10.0.0.256]
                            ^
        """,
    ),
    (
        "dns: []",
        """
        a.yaml:1:6: 'dns' takes at least 1 item, not 0 [too-few]
            dns: []
                 ^
        """,
    ),
    (
        "dns: [10.0.0.1, 10.0.0.2, 10.0.0.1]",
        """
        a.yaml:1:6: 'dns' takes at most 2 items, not 3 [too-many]
            dns: [10.0.0.1, 10.0.0.2, 10.0.0.1]
                 ^
        a.yaml:1:27: '10.0.0.1' is in 'dns' already [duplicate-item]
            dns: [10.0.0.1, 10.0.0.2, 10.0.0.1]
                                      ^
        """,
    ),
    (
        "guests: {}",
        """
        a.yaml:1:9: 'guests' takes at least 1 entry, not 0 [too-few]
            guests: {}
                    ^
        """,
    ),
    (
        "guests: {a: &, b: &, c: &}".replace("&", "{id: 1, net: 1}"),
        """
        a.yaml:1:9: 'guests' takes at most 2 entries, not 3 [too-many]
            guests: {a: {id: 1, net: 1}, b: {id: 1, net: 1}, c: {id: 1, net: 1}}
                    ^
        """,
    ),
    (
        "body: huge\nswap: 1",
        """
        a.yaml:1:7: 'body' must be a size, as 8GiB, or 'unlimited', not 'huge' [wrong-value]
            body: huge
                  ^
        a.yaml:2:7: 'swap' must be a size, as 8GiB, or 0, not 1 [wrong-value]
            swap: 1
                  ^
        """,
    ),
    (
        "body: 8\nswap: 8GB",
        """
        a.yaml:1:7: 'body' must be a size, as 8GiB, or 'unlimited', not 8 [wrong-type]
            body: 8
                  ^
        a.yaml:2:7: 'swap' must be a size, as 8GiB, not '8GB' [wrong-format]
            swap: 8GB
                  ^
        """,
    ),
    (
        "sticky: yes",
        """
        a.yaml:1:9: 'sticky' must be true or false, or a mapping, not 'yes'; write true [wrong-type]
            sticky: yes
                    ^
        """,
    ),
    (
        "sticky: {}",
        """
        a.yaml:1:1: 'sticky' lacks 'cookie' [missing-key]
            sticky: {}
            ^
        """,
    ),
    (
        "sticky: {cookie: 5}",
        """
        a.yaml:1:18: 'cookie' must be a lower-case name, not 5; put it in quotes [wrong-type]
            sticky: {cookie: 5}
                             ^
        """,
    ),
    (
        "backends: [a, B, 5, {name: B, prot: 1}]",
        """
        a.yaml:1:15: each item of 'backends' must be a lower-case name, not 'B' [wrong-format]
            backends: [a, B, 5, {name: B, prot: 1}]
                          ^
        a.yaml:1:18: each item of 'backends' must be a lower-case name, or a mapping, not 5
        … [wrong-type]
            backends: [a, B, 5, {name: B, prot: 1}]
                             ^
        a.yaml:1:28: 'name' must be a lower-case name, not 'B' [wrong-format]
            backends: [a, B, 5, {name: B, prot: 1}]
                                       ^
        a.yaml:1:31: 'prot' is not known here; did you mean 'port'? [unknown-key]
            backends: [a, B, 5, {name: B, prot: 1}]
                                          ^
        """,
    ),
    (
        "certificate: {files: {kay: a}}",
        """
        a.yaml:1:23: 'kay' is not known here; did you mean 'key'? [unknown-key]
            certificate: {files: {kay: a}}
                                  ^
        """,
    ),
    (
        "certificate: sit",
        """
        a.yaml:1:14: 'certificate' must be 'site', or a mapping, not 'sit' [wrong-value]
            certificate: sit
                         ^
        """,
    ),
    (
        "given: []",
        """
        a.yaml:1:8: 'given' must be a size or nothing at all, not a list [wrong-type]
            given: []
                   ^
        """,
    ),
    (
        "single: 6",
        """
        a.yaml:1:9: 'single' fits more than one of its forms [wrong-value]
            single: 6
                    ^
        """,
    ),
]


TOLD = re.compile(r"^ +(?:a\.yaml|…).* \[([a-z-]+)\]$", re.MULTILINE)
CODES = {code for _, text in CASES for code in TOLD.findall(text)}


@pytest.mark.parametrize(("text", "expected"), CASES, ids=[text for text, _ in CASES])
def test_what_does_not_fit_is_told_in_plain_words(text: str, expected: str) -> None:
    assert told(text) == textwrap.dedent(expected).replace("\n…", "").strip("\n")


def test_every_code_and_keyword_has_a_case() -> None:
    codes = "unknown-key missing-key wrong-type wrong-value out-of-range wrong-format"
    assert {*codes.split(), "too-few", "too-many", "duplicate-item"} == CODES
    assert keywords(SCHEMA) | keywords(COMMON) == KEYWORDS


def test_the_whole_document_has_a_name_and_a_place() -> None:
    shape = compiled({"type": "object", "required": ["host"]})
    (finding,) = findings("site", {}, shape)
    assert finding.message == "the document lacks 'host'"
    assert finding.place == Place("site", (), key=True)


def test_a_long_value_is_shortened() -> None:
    shape = compiled({"type": "integer"})
    (finding,) = findings("site", "x" * 100, shape)
    assert finding.message.endswith(f"not the string '{'x' * 60}…'")


def test_a_pattern_means_what_json_schema_says() -> None:
    assert not expression("^a$|^b$").search("a\n")
    assert expression(r"^[$]\$[\]$]$").search("$$$")
    assert not expression(r"^\d$").search("٣")
    assert not expression(r"^\w$").search("é")


@pytest.mark.parametrize(
    ("format_", "good", "bad"),
    [
        ("ip", ["10.0.0.1", "fd00::1"], ["10.0.0", "010.0.0.1", "10.0.0.1/24", "x", "fe80::1%e"]),
        ("ipv4", ["10.0.0.1"], ["fd00::1", "10.0.0.1\n", " 10.0.0.1", "１0.0.0.1"]),
        ("ipv6", ["fd00::1", "::"], ["10.0.0.1", "fd00::1::", "fe80::1%eth0"]),
        ("cidr", ["10.0.0.1/24", "fd00::/8"], ["10.0.0.1", "10.0.0.0/33", "fd00::/129"]),
        (
            "ipv4-cidr",
            ["10.0.0.1/24", "0.0.0.0/0"],
            ["fd00::1/64", "10.0.0.1", "10.0.0.1/255.255.255.0", "10.0.0.1/024", "10.0.0.1/"],
        ),
        ("ipv6-cidr", ["fd00::1/64"], ["10.0.0.1/24", "fd00::1", "fe80::1%e/64", "fd00::1/+1"]),
    ],
)
def test_formats(format_: str, good: list[str], bad: list[str]) -> None:
    shape = compiled({"type": "string", "format": format_, "x-expects": "it"})
    assert [value for value in good if findings("site", value, shape)] == []
    assert [value for value in bad if not findings("site", value, shape)] == []
    (finding,) = findings("site", 5, shape)
    assert finding.code == "wrong-type"


def test_a_reference_in_a_circle_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="refers to itself"):
        compiled({"$defs": {"a": {"items": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"})


def test_what_a_reference_says_can_t_be_said_again() -> None:
    with pytest.raises(AssertionError, match=r"minimum.*can't be given again"):
        compiled({**ref("port"), "minimum": 5}, {"common.schema.json": COMMON})


# The shipped schemas


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


SHIPPED = sorted(path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.schema.json"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_schema_uses_only_what_can_be_told(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    if name != "manifest":  # judged by the host program, which has no jsonschema
        assert keywords(schema) <= KEYWORDS
        assert shipped(name) is shipped(name)


JUNK = st.recursive(
    st.sampled_from(
        [None, True, 0, 1, -5, 1.5, "", "a", "8GiB", "unlimited", "site", "on", "10.0.0.1"]
    ),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*SCHEMA["properties"], "id", "A"]), inner, max_size=4)
    ),
    max_leaves=12,
)


DOCUMENTS = st.dictionaries(st.sampled_from([*SCHEMA["properties"]]), JUNK, max_size=6)


@given(DOCUMENTS)
def test_there_is_a_finding_wherever_jsonschema_has_an_error(data: dict[str, Any]) -> None:
    found = findings("hosts/a", data, SHAPE)
    errors = list(SHAPE.validator.iter_errors(data))
    assert bool(found) == bool(errors)
    for finding in found:
        assert finding.code in CODES
        assert "{" not in finding.message.replace("'{'", "")


@given(DOCUMENTS)
def test_whatever_jsonschema_refuses_has_a_finding(data: dict[str, Any]) -> None:
    from referencing import Registry, Resource

    registry: Any = Registry().with_resource("common.schema.json", Resource.from_contents(COMMON))
    if not Draft202012Validator(SCHEMA, registry=registry).is_valid(data):
        assert findings("site", data, SHAPE)


def test_schemas_are_read_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "a.schema.json").write_text('{"$ref": "b.schema.json#/$defs/x"}', encoding="utf-8")
    (tmp_path / "b.schema.json").write_text('{"$defs": {"x": {"const": "ü"}}}', encoding="utf-8")
    (finding,) = findings("site", "u", shipped("a", tmp_path))
    assert finding.message == "the document can't be 'u'; known: ü"
