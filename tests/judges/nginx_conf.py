"""Reads nginx's configuration language into directives, to compare what is loaded with what was
declared. Written after nginx's own reader (ngx_conf_read_token), independent of what emits it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

_WHITE = " \t\r\n"
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n", '"': '"', "'": "'", "\\": "\\"}


@dataclass(frozen=True, slots=True)
class Directive:
    """One directive: its name, its arguments with quotes taken off, what is in its braces."""

    name: str
    args: tuple[str, ...]
    block: tuple[Directive, ...] = ()

    def find(self, name: str) -> Iterator[Directive]:
        """Directives `name` directly in this one's braces."""
        return (each for each in self.block if each.name == name)

    def walk(self) -> Iterator[Directive]:
        """This one and all below it."""
        yield self
        for each in self.block:
            yield from each.walk()


def parse(text: str) -> tuple[Directive, ...]:
    """The directives of a whole file; ValueError where nginx would not read it."""
    tokens = _tokens(text)
    found, last = _block(tokens)
    if last == "}":
        raise ValueError('unexpected "}"')
    return found


def _block(tokens: Iterator[tuple[str, bool]]) -> tuple[tuple[Directive, ...], str]:
    """Directives up to a closing brace or the end, and which of both it was."""
    found, words = list[Directive](), list[str]()
    for token, mark in tokens:
        if not mark:
            words.append(token)
            continue
        if token == "}":
            if words:
                raise ValueError(f"unexpected }} after {words}")
            return tuple(found), token
        if not words:
            raise ValueError(f"unexpected {token!r}")
        block: tuple[Directive, ...] = ()
        if token == "{":
            block, last = _block(tokens)
            if last != "}":
                raise ValueError(f"{words[0]} is not closed")
        found.append(Directive(words[0], tuple(words[1:]), block))
        words = []
    if words:
        raise ValueError(f"unexpected end after {words}")
    return tuple(found), ""


def _tokens(text: str) -> Iterator[tuple[str, bool]]:
    """(word, False), or one of the marks `;`, `{`, `}` and True."""
    at = 0
    while at < len(text):
        char = text[at]
        if char in _WHITE:
            at += 1
        elif char == "#":
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif char in ";{}":
            yield char, True
            at += 1
        elif char in "\"'":
            word, at = _quoted(text, at)
            yield word, False
        else:
            word, at = _plain(text, at)
            yield word, False


def _quoted(text: str, at: int) -> tuple[str, int]:
    quote, word = text[at], list[str]()
    at += 1
    while at < len(text):
        char = text[at]
        if char == quote:
            after = text[at + 1 : at + 2]
            if after and after not in _WHITE + ";{)":
                raise ValueError(f"unexpected {after!r} after a quoted word")
            return "".join(word), at + 1
        char, at = _one(text, at)
        word.append(char)
    raise ValueError("a quote is not closed")


def _plain(text: str, at: int) -> tuple[str, int]:
    word = list[str]()
    while at < len(text) and text[at] not in _WHITE + ";{":
        if text.startswith("${", at):
            # The one place where a brace is part of a word.
            word.append("${")
            at += 2
            continue
        char, at = _one(text, at)
        word.append(char)
    return "".join(word), at


def _one(text: str, at: int) -> tuple[str, int]:
    """The character at `at`, and where the next begins; a backslash as nginx reads it."""
    if text[at] == "\\" and text[at + 1 : at + 2] in _ESCAPED:
        return _ESCAPED[text[at + 1]], at + 2
    if text[at] == "\\":
        return text[at : at + 2], at + 2
    return text[at], at + 1
