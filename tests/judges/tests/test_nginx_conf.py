"""The reader of nginx's language: what it reads, and what it does not take, as nginx does not."""

from __future__ import annotations

import pytest

from tests.judges.nginx_conf import Directive, parse


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a;", (Directive("a", ()),)),
        ('a b \'c d\' "e\\"f"; # g;', (Directive("a", ("b", "c d", 'e"f')),)),
        ("a ${b}c#d\\;e;", (Directive("a", ("${b}c#d\\;e",)),)),
        ("a { b c; d {} }", (Directive("a", (), (Directive("b", ("c",)), Directive("d", ()))),)),
    ],
)
def test_read(text: str, read: tuple[Directive, ...]) -> None:
    assert parse(text) == read


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a", "unexpected end after"),
        ("a { b; ", "a is not closed"),
        ("a; }", 'unexpected "}"'),
        ("a { b }", "unexpected } after"),
        (";", "unexpected ';'"),
        ("a 'b;", "a quote is not closed"),
        ("a 'b'c;", "after a quoted word"),
    ],
)
def test_not_read(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse(text)
