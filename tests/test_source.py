"""builder/source: what is read, what is refused with which words, and where things stand."""

from __future__ import annotations

import contextlib
import json
import textwrap
from collections.abc import Iterator

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from builder.problems import ConfigError, Finding, Location, Place
from builder.source import Data, Sources, locate, positions, read
from builder.source.reader import DEEPEST, LARGEST


@pytest.fixture(params=["libyaml", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "pure":
        monkeypatch.setattr(yaml, "__with_libyaml__", False)
    else:
        assert yaml.__with_libyaml__, "PyYAML is here without libyaml"
    positions.cache_clear()
    yield request.param
    positions.cache_clear()


def told(text: str | bytes) -> str:
    """Everything that is wrong with `text`, as a person sees it."""
    with pytest.raises(ConfigError) as caught:
        read("a.yaml", text)
    return "\n".join(problem.render() for problem in caught.value.problems)


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
    ("-", None),  # replaced below: a lone hyphen begins a list
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
SCALARS.remove(("-", None))


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


# One entry for each thing refused: the text, and all that a person sees; … continues a line.
REFUSED = {
    "duplicate key": (
        "web: 1\nother: {}\n'web': 2\n",
        """
        a.yaml:3:1: key 'web' is at line 1 already [yaml-duplicate-key]
            'web': 2
            ^
        """,
    ),
    "duplicate key in one line": (
        "a: {b: 1, b: 2}\n",
        """
        a.yaml:1:11: key 'b' is at line 1 already [yaml-duplicate-key]
            a: {b: 1, b: 2}
                      ^
        """,
    ),
    "anchor and alias": (
        "a: &x [1]\nb: *x\n",
        """
        a.yaml:1:4: '&x': anchors and aliases are not used here; write it out [yaml-anchor]
            a: &x [1]
               ^
        a.yaml:2:4: '*x': anchors and aliases are not used here; write it out [yaml-anchor]
            b: *x
               ^
        """,
    ),
    "anchor at a scalar and a key": (
        "a: &x 1\n&y b: 2\n",
        """
        a.yaml:1:4: '&x': anchors and aliases are not used here; write it out [yaml-anchor]
            a: &x 1
               ^
        a.yaml:2:1: '&y': anchors and aliases are not used here; write it out [yaml-anchor]
            &y b: 2
            ^
        """,
    ),
    "merge key": (
        "a: {}\nb:\n  <<: {c: 1}\n",
        """
        a.yaml:3:3: merge keys are not used here; write the entries out [yaml-merge-key]
              <<: {c: 1}
              ^
        """,
    ),
    "tag": (
        "a: !!str 1\nb: !secret x\n",
        """
        a.yaml:1:4: '!!str': tags are not used here; remove it [yaml-tag]
            a: !!str 1
               ^
        a.yaml:2:4: '!secret': tags are not used here; remove it [yaml-tag]
            b: !secret x
               ^
        """,
    ),
    "leading zero": (
        "mode: 0644\n",
        """
        a.yaml:1:7: 0644: some read it as octal; quote it if it is text, write 644 if it is a
        … decimal number [yaml-octal]
            mode: 0644
                  ^
        """,
    ),
    "octal": (
        "a: [0o17, -00]\n",
        """
        a.yaml:1:5: 0o17: some read it as octal; quote it if it is text, write 17 if it is a
        … decimal number [yaml-octal]
            a: [0o17, -00]
                ^
        a.yaml:1:11: -00: some read it as octal; quote it if it is text, write 0 if it is a
        … decimal number [yaml-octal]
            a: [0o17, -00]
                      ^
        """,
    ),
    "hexadecimal": (
        "a: 0x1F\n",
        """
        a.yaml:1:4: 0x1F: quote it if it is text; a number is decimal, such as 31 or 0.5
        … [yaml-number]
            a: 0x1F
               ^
        """,
    ),
    "number as key": (
        "ports:\n  80: x\n",
        """
        a.yaml:2:3: the key 80 is not text; quote it: '80' [yaml-key]
              80: x
              ^
        """,
    ),
    "octal as key": (
        "017: x\n",
        """
        a.yaml:1:1: the key 017 is not text; quote it: '017' [yaml-key]
            017: x
            ^
        """,
    ),
    "list as key": (
        "? [a]\n: b\nc: 1\nc: 2\n",
        """
        a.yaml:1:3: a key must be text, not a list or a mapping [yaml-key]
            ? [a]
              ^
        a.yaml:4:1: key 'c' is at line 3 already [yaml-duplicate-key]
            c: 2
            ^
        """,
    ),
    "second document": (
        "a: 1\n---\nb: 2\n",
        """
        a.yaml:2:1: a second document starts here; write one document per file
        … [yaml-multiple-documents]
            ---
            ^
        """,
    ),
    "list at the top": (
        "- a\n",
        """
        a.yaml:1:1: the file must hold a mapping, lines of 'key: value' [yaml-not-a-mapping]
            - a
            ^
        """,
    ),
    "empty file": (
        "# nothing\n",
        """
        a.yaml:1:1: the file is empty; it must hold a mapping [yaml-not-a-mapping]
            # nothing
            ^
        """,
    ),
    "control character in a value": (
        'é: "a\\0b"\n',
        """
        a.yaml:1:4: a value can't hold NUL [yaml-control-character]
            é: "a\\0b"
               ^
        """,
    ),
    "line break in a key": (
        '"a\\nb": 1\n',
        """
        a.yaml:1:1: a key can't hold a line break [yaml-control-character]
            "a\\nb": 1
            ^
        """,
    ),
    "all in one pass": (
        "a: 1\na: 0x1\nb: &x [{<<: 1, d: 010}]\n",
        """
        a.yaml:2:1: key 'a' is at line 1 already [yaml-duplicate-key]
            a: 0x1
            ^
        a.yaml:2:4: 0x1: quote it if it is text; a number is decimal, such as 31 or 0.5
        … [yaml-number]
            a: 0x1
               ^
        a.yaml:3:4: '&x': anchors and aliases are not used here; write it out [yaml-anchor]
            b: &x [{<<: 1, d: 010}]
               ^
        a.yaml:3:9: merge keys are not used here; write the entries out [yaml-merge-key]
            b: &x [{<<: 1, d: 010}]
                    ^
        a.yaml:3:19: 010: some read it as octal; quote it if it is text, write 10 if it is a
        … decimal number [yaml-octal]
            b: &x [{<<: 1, d: 010}]
                              ^
        """,
    ),
}


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    text, expected = REFUSED[name]
    assert told(text) == textwrap.dedent(expected).replace("\n…", "").strip("\n")


@pytest.mark.usefixtures("parser")
def test_an_empty_key_is_refused() -> None:
    # The two parsers place an empty scalar differently by one column.
    assert "there is no key before this ':' [yaml-key]\n    a: {? : b}\n" in told("a: {? : b}\n")


# Syntax errors: the text, then place and message.
SYNTAX = [
    ("a:\n\tb: 1\n", "2:1: a tab can't indent; use spaces"),
    ("a:\n  - x\n\t- y\n", "3:1: a tab can't indent; use spaces"),
    ("a: b: c\n", "1:5: ':' can't stand here; quote a value that holds ': '"),
    ("a: 1\nfoo\nb: 2\n", "2:1: this line has no ':' after its key"),
    ('a: "x\nb: 1\n', "1:4: the quote that opens here is not closed"),
    ("a: 'x\n---\n", "1:4: the quote that opens here is not closed"),
    ("a: 'it's'\n", "1:8: this follows a value that has ended; quote the whole value"),
    ("a: [1, 2\nb: 3\n", "1:4: the list that opens here is not closed, or lacks a ','"),
    ("a: {b: 1 c: 2}\n", "1:4: the mapping that opens here is not closed, or lacks a ','"),
    ("a: [\n", "2:1: a value is missing here, or a '[' or '{' above is not closed"),
    ("a:\n  b: 1\n c: 2\n", "3:2: this line fits no mapping above; check its indentation"),
    ("- a\nb: 1\n", "2:1: this line fits no list above; check its indentation"),
    ("é: @x\n", "1:4: a value that begins with this character must be quoted"),
    ("a: ]\n", "1:4: a value that begins with this character must be quoted"),
    ("a: *.example.org\n", "1:4: a value that begins with '*' must be quoted"),
    ("a: &\n", "1:4: a value that begins with '&' must be quoted"),
    ("a: !<x\n", "1:7: a value that begins with '!' must be quoted"),
    ("a: |x\n  y\n", "1:5: after '|' or '>' the text begins on the next line"),
    ("a: - x\n", "1:4: '- ' can't stand here; begin the list on its own line"),
    ("a: 1\n...\nb: 2\n", "3:1: nothing can follow the end of the document"),
]


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(("text", "expected"), SYNTAX)
def test_a_syntax_error_is_told_in_plain_words(text: str, expected: str) -> None:
    *_, last = (line for line in told(text).splitlines() if line.startswith("a.yaml"))
    assert last == f"a.yaml:{expected} [yaml-syntax]"


@pytest.mark.usefixtures("parser")
def test_a_syntax_error_shows_its_line() -> None:
    assert told('é: "\\d"\n').splitlines()[1] == '    é: "\\d"'


def test_what_nobody_translated_is_told_as_the_parser_says_it() -> None:
    assert told("%YAML 9.9\n---\na: 1\n").startswith("a.yaml:1:1: not YAML: found incompatible")


@pytest.mark.parametrize(
    "value",
    ["1e3", "1.5e-3", "1_000", ".5", "5.", "0b1", ".inf", "-.Inf", ".nan", "9" * 19, "9" * 5000],
)
def test_a_number_to_some_readers_only_is_refused(value: str) -> None:
    assert "[yaml-number]" in told(f"a: {value}\n")


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("character", "name"),
    [
        ("\0", "NUL"),
        ("\x1b", "the control character U+001B"),
        ("\x85", "the control character U+0085"),
        ("\u2028", "the control character U+2028"),
        ("\u202e", "the control character U+202E"),
        ("\ufeff", "a byte order mark"),
        ("\r", "a carriage return"),
    ],
)
def test_a_hidden_character_is_refused_wherever_it_stands(character: str, name: str) -> None:
    for line in (f"a: é{character}x", f"# é {character} x", f"b{character}: 1"):
        where = f"a.yaml:2:{line.index(character) + 1}"
        expected = f"{where}: {name} can't stand in a configuration; remove it"
        assert told(f"b: 1\n{line}\n").startswith(f"{expected} [yaml-control-character]\n")


@pytest.mark.parametrize("escape", ["\\t", "\\r", "\\e", "\\x85", "\\u2028", "\\uFEFF", "\\u202e"])
def test_an_escaped_control_character_is_refused(escape: str) -> None:
    assert "[yaml-control-character]" in told(f'a: ["x{escape}"]\n')
    assert "[yaml-control-character]" in told(f'"x{escape}": 1\n')


def test_text_that_is_not_utf_8_is_refused_where_it_stops_to_be() -> None:
    assert told("ü: 1\nä: ".encode() + b"\xe9\n") == (
        "a.yaml:2:4: byte 0xe9 is not UTF-8; save the file as UTF-8 [yaml-encoding]\n"
        "    ä: \ufffd\n"
        "       ^"
    )


def test_a_huge_file_is_refused() -> None:
    assert told(b"#" * (LARGEST + 1)) == (
        "a.yaml:1:1: the file is larger than 4 MiB [yaml-too-large]"
    )
    assert read("a.yaml", b"a: 1 #" + b"#" * (LARGEST - 6)) == {"a": 1}


@pytest.mark.usefixtures("parser")
def test_deep_nesting_is_refused_and_costs_nothing() -> None:
    def nested(depth: int) -> str:
        return "a: " + "[" * (depth - 1) + "]" * (depth - 1) + "\n"

    read("a.yaml", nested(DEEPEST))
    column = 4 + DEEPEST - 1
    expected = f"a.yaml:1:{column}: nested deeper than 40 levels [yaml-too-deep]"
    assert told(nested(DEEPEST + 1)).splitlines()[0] == expected
    assert told("a: " + "[" * 100_000).splitlines()[0] == expected
    assert "[yaml-too-deep]" in told("? " * 500 + "a")


TEXT = textwrap.dedent(
    """\
    # é
    host: pve1
    guests:
      web: {id: 101, nets: [a, {b: c}]}
      db:
        id: 102
    """
)


@pytest.mark.usefixtures("parser")
@pytest.mark.parametrize(
    ("path", "value", "key"),
    [
        ((), (2, 1), (2, 1)),
        (("host",), (2, 7), (2, 1)),
        (("guests",), (4, 3), (3, 1)),
        (("guests", "web", "id"), (4, 13), (4, 9)),
        (("guests", "web", "nets", 1), (4, 28), (4, 28)),
        (("guests", "web", "nets", 1, "b"), (4, 32), (4, 29)),
        (("guests", "db"), (6, 5), (5, 3)),
        # Not there: the key of the nearest that is.
        (("guests", "db", "cores"), (5, 3), (5, 3)),
        (("guests", "db", "id", "x", 3), (6, 5), (6, 5)),
        (("guests", "nobody", "id"), (3, 1), (3, 1)),
        (("nothing",), (1, 1), (1, 1)),
    ],
)
def test_a_path_leads_to_its_value_and_key(
    path: tuple[str | int, ...], value: tuple[int, int], key: tuple[int, int]
) -> None:
    assert locate("a.yaml", TEXT, path) == Location("a.yaml", *value)
    assert locate("a.yaml", TEXT.encode(), path, key=True) == Location("a.yaml", *key)


def test_sources_look_into_the_document_that_holds_most_of_the_path() -> None:
    child = "like: pve1\nguests:\n  web: {cores: 4}\n"
    texts: dict[str, tuple[str, str | bytes]] = {
        "hosts/pve1": ("pve1.yaml", TEXT),
        "hosts/lab": ("lab.yaml", child.encode()),
    }
    sources = Sources(texts, {"hosts/lab": ("hosts/pve1",)})

    def at(*path: str | int, key: bool = False) -> str:
        finding = Finding(Place("hosts/lab", path, key), "m", "c")
        return str(sources.problem(finding).location)

    assert at("guests", "web", "cores") == "lab.yaml:3:16"
    assert at("guests", "web", "id") == "pve1.yaml:4:13"
    assert at("guests", "web", key=True) == "lab.yaml:3:3"
    assert at("guests", "web", "memory") == "lab.yaml:3:3"
    assert at("guests", "db", "id", key=True) == "pve1.yaml:6:5"
    assert at("nothing") == "lab.yaml:1:1"
    (problem,) = sources.problems([Finding(Place("hosts/lab", ("guests", "db")), "m", "c")])
    assert problem.render() == "pve1.yaml:6:5: m [c]\n        id: 102\n        ^"
    with pytest.raises(KeyError):
        sources.problem(Finding(Place("site"), "m", "c"))


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
            assert problem.render()
            assert "not YAML" not in problem.message or "\n" not in problem.message


@given(st.binary(max_size=40))
def test_whatever_the_bytes_only_problems_come_out(text: bytes) -> None:
    with contextlib.suppress(ConfigError):
        read("a.yaml", text)
