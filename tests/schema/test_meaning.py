"""builder/schema.py: what keywords and references mean, and what shipped schemas may use."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from builder.formats import expression
from builder.schema import KEYWORDS, SCHEMAS, compiled, findings, shipped
from tests.schema.shapes import COMMON, keywords, ref


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
        ("ipv6", ["fd00::1", "::"], ["10.0.0.1", "::ffff:192.0.2.1", "fd00::1::", "fe80::1%eth0"]),
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


SHIPPED = sorted(path.name.removesuffix(".schema.json") for path in SCHEMAS.glob("*.schema.json"))


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_schema_uses_only_what_can_be_told(name: str) -> None:
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_bytes())
    Draft202012Validator.check_schema(schema)
    if name != "manifest":  # judged by the host program, which has no jsonschema
        assert keywords(schema) <= KEYWORDS
        assert shipped(name) is shipped(name)


def test_schemas_are_read_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "a.schema.json").write_text('{"$ref": "b.schema.json#/$defs/x"}', encoding="utf-8")
    (tmp_path / "b.schema.json").write_text('{"$defs": {"x": {"const": "ü"}}}', encoding="utf-8")
    (finding,) = findings("site", "u", shipped("a", tmp_path))
    assert finding.message == "the document can't be 'u'; known: ü"
