"""builder/source: what is read, and that nothing else ever comes out but problems."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.problems import ConfigError
from builder.source import Data, positions, read

SCALARS: list[tuple[str, Data]] = [
    ("", None),
    ("~", None),
    ("null", None),
    ("true", True),
    ("false", False),
    ("0", 0),
    ("-7", -7),
    ("+7", 7),
    ("101", 101),
    ("123456789012345678", 123456789012345678),
    ("0.5", 0.5),
    ("-10.25", -10.25),
    # Booleans, nulls, numbers and dates to other readers, text to us.
    *((word, word) for word in ("on", "off", "yes", "no", "y", "n", "True", "TRUE", "Null")),
    ("52:54:00:12:34:56", "52:54:00:12:34:56"),
    ("190:20:30", "190:20:30"),
    ("2026-01-31", "2026-01-31"),
    ("10.0.0.1/24", "10.0.0.1/24"),
    ("1.2.3", "1.2.3"),
    ("7d", "7d"),
    ("1GiB", "1GiB"),
    (".", "."),
    ("..", ".."),
    ("-x", "-x"),
    ("fd00::1", "fd00::1"),
    ("'0644'", "0644"),
    ('"on"', "on"),
    ("'true'", "true"),
    ("''", ""),
    ("'*.example.org'", "*.example.org"),
]


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(("text", "data"), SCALARS, ids=[text for text, _ in SCALARS])
def test_a_scalar_is_what_yaml_1_2_says(text: str, data: Data) -> None:
    found = read("a.yaml", f"key: {text}\n")["key"]
    assert found == data
    assert type(found) is type(data)


@pytest.mark.usefixtures("parser")
def test_collections_and_block_text_are_read() -> None:
    text = "on: {a: [1, x], b: {}}\nlist:\n- one\n- {}\n- []\nlong: |\n  two\n  lines\n'80': x\n"
    assert read("a.yaml", text) == {
        "on": {"a": [1, "x"], "b": {}},
        "list": ["one", {}, []],
        "long": "two\nlines\n",
        "80": "x",
    }


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    "text",
    ["a: é\r\nb: 1\r\n", "\ufeffa: é\nb: 1\n", "a: é\nb: 1".encode(), "\ufeffa: é\nb: 1".encode()],
    ids=["windows lines", "byte order mark", "bytes", "bytes with mark"],
)
def test_other_ways_to_store_a_text(text: str | bytes) -> None:
    assert read("a.yaml", text) == {"a": "é", "b": 1}


PRINTABLE = st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc", "Zl", "Zp"]))
HIDDEN = str.maketrans(
    "", "", "\ufeff\ufffe\uffff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
CLEAN = PRINTABLE.map(lambda text: text.translate(HIDDEN))
SCALAR = st.none() | st.booleans() | st.integers(-(10**17), 10**17) | CLEAN
TREES = st.recursive(
    SCALAR, lambda inner: st.lists(inner) | st.dictionaries(CLEAN, inner), max_leaves=20
)


def paths(data: Data, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    yield path
    if isinstance(data, dict):
        for key, value in data.items():
            yield from paths(value, (*path, key))
    elif isinstance(data, list):
        for at, value in enumerate(data):
            yield from paths(value, (*path, at))


@given(st.dictionaries(CLEAN.filter(lambda key: len(key) < 100), TREES))
def test_json_is_read_as_json_and_every_value_has_a_place(data: dict[str, Data]) -> None:
    text = json.dumps(data, ensure_ascii=False, indent=1)
    assert read("a.yaml", text) == data
    places = positions("a.yaml", text)
    lines = text.split("\n")
    for path in paths(data):
        assert (path, False) in places
        if path and isinstance(path[-1], str):
            where = places[path, True]
            shown = json.dumps(path[-1], ensure_ascii=False)
            assert lines[where.line - 1][where.column - 1 :].startswith(shown)


@given(st.text(st.sampled_from("ab1 :-,[]{}#&*!|>'\"%@`?~<\n\t\r\0\ufeffé."), max_size=60))
def test_whatever_the_text_only_problems_come_out(text: str) -> None:
    lines = text.split("\n")
    try:
        read("a.yaml", text)
    except ConfigError as error:
        for problem in error.problems:
            assert 1 <= problem.location.line <= len(lines) + 1
            assert not set(problem.render()) & set("\0\r\ufeff")
            assert "not YAML" not in problem.message or "\n" not in problem.message


@given(st.binary(max_size=40))
def test_whatever_the_bytes_only_problems_come_out(text: bytes) -> None:
    with contextlib.suppress(ConfigError):
        read("a.yaml", text)
