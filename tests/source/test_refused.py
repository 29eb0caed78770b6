"""builder/source: what is refused, where, and with which words."""

from __future__ import annotations

import textwrap

import pytest

from builder.problems import ConfigError
from builder.source import LARGEST, read
from builder.source.reader import DEEPEST


def told(text: str | bytes) -> str:
    """Everything that is wrong with `text`, as a person sees it."""
    with pytest.raises(ConfigError) as caught:
        read("a.yaml", text)
    return "\n".join(problem.render() for problem in caught.value.problems)


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


def test_of_a_file_that_is_no_text_each_line_is_told_once_and_soon() -> None:
    with pytest.raises(ConfigError) as caught:
        read("a.yaml", bytes(LARGEST))
    assert [problem.code for problem in caught.value.problems] == [
        "yaml-control-character",
        "yaml-not-a-mapping",
    ]
    assert len(told(bytes(LARGEST))) < 2000
    lines = 30_000
    with pytest.raises(ConfigError) as caught:
        read("a.yaml", ("a" * 60 + ": 1\n").encode("utf-16-le") * lines)
    hidden = [p for p in caught.value.problems if p.code == "yaml-control-character"]
    assert [p.location.line for p in hidden] == [*range(1, lines + 2)]


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
