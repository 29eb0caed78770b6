"""builder/schema.py: each way not to fit a schema, as a person sees it."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from builder.problems import Place
from builder.schema import KEYWORDS, compiled, findings
from builder.source import Sources, read
from tests.schema.cases import CASES, CODES
from tests.schema.shapes import COMMON, SCHEMA, SHAPE, keywords


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
