"""What can be wrong with a configuration, and how it is told.

A decider (a check, a model builder) knows *what* is wrong and the path of the value that is:
it returns a `Finding`. Only the loader, which holds the sources, turns findings into `Problem`s
with file, line and column. Problems of one phase are collected, sorted, and raised together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

Path = tuple[str | int, ...]

HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff"
)
"""What nobody sees, inside of a regular expression's brackets: C0 but tab, line feed and carriage
return, C1 (NEL breaks lines in YAML), line and paragraph separators (so do they), bidirectional
overrides (a reviewer would read another order than a program), byte order marks, non-characters,
halves of surrogate pairs."""

_UNSEEN = re.compile(f"[{HIDDEN}\r]")
# Of a source line, what is shown around its column: enough for a person, whatever the file is.
_SHOWN_BEFORE, _SHOWN = 60, 120


@dataclass(frozen=True, slots=True, order=True)
class Location:
    """A place in a file: line and column count from 1; column counts characters."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A value (or, with `key`, the key that names it) inside a document.

    `document` is "site" or "hosts/NAME"; `path` leads from its root to the value.
    """

    document: str
    path: Path = ()
    key: bool = False

    def __truediv__(self, step: str | int) -> Place:
        return Place(self.document, (*self.path, step))

    def named(self) -> Place:
        """The key of this value instead of the value."""
        return Place(self.document, self.path, key=True)


@dataclass(frozen=True, slots=True)
class Finding:
    """What a decider found wrong, at a path; not yet at a line."""

    place: Place
    message: str
    code: str


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One fault with its place, a stable code, and the line of source that it stands on."""

    location: Location
    message: str
    code: str
    line: str = ""

    def headline(self) -> str:
        """Place, message and code, in one line."""
        return visible(f"{self.location}: {self.message} [{self.code}]").replace("\n", "␊")

    def render(self) -> str:
        """Headline, then the source line with a caret under the column.

        Of a very long line, the part around the column.
        """
        if not self.line.strip():
            return self.headline()
        line, column = self.line.rstrip("\n"), self.location.column - 1
        start = max(0, column - _SHOWN_BEFORE) if len(line) > _SHOWN else 0
        end = start + _SHOWN
        before, after = "…" if start else "", "…" if end < len(line) else ""
        shown = f"{before}{visible(line[start:end])}{after}"
        # Tabs stay tabs in the caret's indent, so that it stands right whatever their width.
        indent = "".join(c if c == "\t" else " " for c in shown[: len(before) + column - start])
        return f"{self.headline()}\n    {shown}\n    {indent}^"

    def as_json(self) -> dict[str, str | int]:
        """The problem for a program, without the source line, which that has itself."""
        return {
            "file": self.location.file,
            "line": self.location.line,
            "column": self.location.column,
            "message": self.message,
            "code": self.code,
        }


class ConfigError(Exception):
    """The configuration is wrong; carries every problem of the phase that found it, sorted."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        assert self.problems, "a ConfigError without a problem"
        super().__init__("\n".join(p.headline() for p in self.problems))


class UserError(Exception):
    """Something outside the configuration is wrong, and the user can mend it.

    `hint` is the one command or step that mends it.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        self.message = message
        self.hint = hint
        super().__init__(message if not hint else f"{message}\n  {hint}")


def visible(text: str) -> str:
    """`text` of the same length with each control and hidden character as a sign that stands for
    it: a terminal would act on it, or show another order. Tabs and line feeds stay.

    >>> visible("a\\x1b[2J")
    'a␛[2J'
    """
    return _UNSEEN.sub(lambda match: _sign(match.group()), text)


def _sign(character: str) -> str:
    if character < " ":
        return chr(0x2400 + ord(character))  # Unicode's pictures of control characters
    return "␡" if character == "\x7f" else "\ufffd"


def known(given: str, legal: Iterable[str]) -> str:
    """The tail of a message about an unknown name: the nearest names, else the legal ones.

    >>> known("vmbr9", ["vmbr0"])
    "did you mean 'vmbr0'?"
    """
    import difflib  # 2 ms, and only a person who erred waits for them

    names = sorted(set(legal))
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    if not names:
        return "none is defined"
    return "known: " + ", ".join(names)
