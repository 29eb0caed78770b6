"""builder/emit/data.py: data comes back as it went in."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder import emit, source
from tests.emit.hostile import HOSTILE

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT
DATA = st.recursive(
    SCALARS, lambda d: st.lists(d) | st.dictionaries(TEXT, d, max_size=5), max_leaves=15
)
# Keys that look like something else to some reader of YAML; and text that YAML holds.
ODD_KEYS = st.sampled_from(
    ["on", "Y", "null", "~", "1e3", "0x1", "<<", "=", "-", "", "12:30", "_1"]
)
HELD = st.text(
    st.characters(
        exclude_categories=["Cs", "Cc", "Zl", "Zp"],
        exclude_characters="\ufeff\ufffe\uffff\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
    ),
    max_size=100,
)
MAPPINGS = st.dictionaries(
    ODD_KEYS | HELD,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(10**15), 10**15)
        | HELD
        | HOSTILE.filter(str.isprintable),
        lambda d: st.lists(d) | st.dictionaries(ODD_KEYS | HELD, d, max_size=5),
        max_leaves=15,
    ),
    max_size=6,
)


@given(DATA)
def test_json_comes_back(data: object) -> None:
    text = emit.json_text(data)
    assert json.loads(text) == data
    assert text.endswith(b"\n")
    assert json.loads(emit.canonical(data)) == data


def test_json_is_sorted_and_readable() -> None:
    assert emit.json_text({"b": (1, None), "a": {"é": "/"}}) == (
        '{\n  "a": {\n    "é": "/"\n  },\n  "b": [\n    1,\n    null\n  ]\n}\n'.encode()
    )


def test_canonical_json_is_rfc_8785() -> None:
    # Section 3.2.3: keys in the order of UTF-16 code units, in which 😀 comes before דּ.
    keys = ["\u20ac", "\r", "\ufb33", "1", "😀", "\x80", "ö"]
    expected = ["\r", "1", "\x80", "ö", "\u20ac", "😀", "\ufb33"]
    assert list(json.loads(emit.canonical(dict.fromkeys(keys, 0)))) == expected
    assert emit.canonical({"b": [1, True], "a": 'é"\\\b\x1f\x7f'}) == (
        '{"a":"é\\"\\\\\\b\\u001f\x7f","b":[1,true]}'.encode()
    )


@given(MAPPINGS)
def test_yaml_comes_back_from_readers_of_both_versions(data: dict[str, object]) -> None:
    text = emit.yaml_text(data)
    assert yaml.safe_load(text) == data
    assert source.read("a.yaml", text) == data


def test_yaml_is_sorted_and_quoted() -> None:
    data: dict[str, Any] = {
        "http": {"routers": [{"rule": "Host(`a.b`)", "on": True}], "none": [], "empty": {}},
        "80": 'a "b" \\ #: é',
        "deep": [[1, ["x"]], {}, None],
    }
    assert emit.yaml_text(data).decode() == (
        '"80": "a \\"b\\" \\\\ #: é"\n'
        "deep:\n"
        "  - - 1\n"
        '    - - "x"\n'
        "  - {}\n"
        "  - null\n"
        "http:\n"
        "  empty: {}\n"
        "  none: []\n"
        "  routers:\n"
        '    - "on": true\n'
        '      rule: "Host(`a.b`)"\n'
    )


def test_yaml_lines_are_never_wrapped() -> None:
    assert emit.yaml_text({"a": "x " * 500}).count(b"\n") == 1


@pytest.mark.parametrize("character", ["\n", "\t", "\0", "\x85", "\u2028", "\ufeff", "\x7f"])
def test_yaml_refuses_control_characters(character: str) -> None:
    message = f"YAML can't hold U\\+{ord(character):04X}, which is in "
    for data in ({"a": [f"x{character}"]}, {f"x{character}": 1}):
        with pytest.raises(ValueError, match=message):
            emit.yaml_text(data)


def test_yaml_refuses_keys_that_a_reader_can_t_hold() -> None:
    long = "x-" * 250
    assert yaml.safe_load(emit.yaml_text({long: 1})) == {long: 1}
    with pytest.raises(ValueError, match="as a key: over 500"):
        emit.yaml_text({f"{long}x": 1})


@pytest.mark.parametrize("write", [emit.json_text, emit.canonical, emit.yaml_text])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"a": 1.5}, "1.5 is no data: neither text, integer, boolean, list nor mapping"),
        ({"a": float("nan")}, "nan is no data"),
        ({"a": [b"x"]}, "b'x' is no data"),
        ({"a": {1: 2}}, "a key must be text, not 1"),
        ({"a": {None: 2}}, "a key must be text, not None"),
        ({"a": 2**53}, "9007199254740992 is beyond 2^53"),
        ({"a": "\ud800"}, "surrogates not allowed|U\\+D800"),
    ],
)
def test_what_is_no_data_is_refused(
    write: Callable[[object], bytes], data: object, message: str
) -> None:
    pattern = message if "|" in message else re.escape(message)
    with pytest.raises(ValueError, match=pattern):
        write(data)
