"""YAML, read strictly: text → plain data, and where each key and value stands.

The language is a subset of YAML that every reader takes for the same data. Plain scalars follow
YAML 1.2: `null`, `~` and nothing are null; only `true` and `false` are booleans; numbers are
decimal. `on`, `yes`, dates and `52:54:00:12:34:56` are strings. What two readers would take
differently is refused, with a code each: octal and hexadecimal numbers, anchors, aliases, merge
keys, tags, duplicate keys, keys that are no text, several documents, control characters.

Everything wrong in a text is told at once; a syntax error ends the pass. `reader` holds the
parser's side and is imported late, since PyYAML takes 25 ms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TypeAlias

from builder.problems import ConfigError, Finding, Location, Path, Problem

Data: TypeAlias = bool | int | float | str | list["Data"] | dict[str, "Data"] | None
Text: TypeAlias = str | bytes
Places: TypeAlias = dict[tuple[Path, bool], Location]

LARGEST = 4 << 20
"""Bytes that a document may have."""


def read(file: str, text: Text) -> dict[str, Data]:
    """The data of one YAML document: a mapping at its root, with text keys.

    `file` is the name that problems show; `text` is bytes in UTF-8, or decoded already.
    Raises ConfigError with every problem found.
    """
    from builder.source.reader import parse

    data, problems = parse(file, text)
    if problems:
        raise ConfigError(problems)
    assert isinstance(data, dict), "a document without a mapping passed"
    return data


@lru_cache(maxsize=64)
def positions(file: str, text: Text) -> Mapping[tuple[Path, bool], Location]:
    """Where each value stands, by its path, and (with True) the key that names it.

    Made by a second pass over the text, so only once there is a problem to place. What a faulty
    text holds before its fault is placed too; nothing is raised.
    """
    from builder.source.reader import parse

    places: Places = {}
    parse(file, text, places)
    return MappingProxyType(places)


def nearest(file: str, text: Text, path: Path, *, key: bool = False) -> tuple[int, Location]:
    """How many steps of `path` exist in `text`, and where the last of these stands.

    With `key`, the key that names the value instead of the value. Where the value is not there,
    the key that names the mapping it is missing from: that is where a person would look, and
    the mapping itself begins only at its first entry.
    """
    places = positions(file, text)
    if (path, False) in places:
        return len(path), places.get((path, key)) or places[path, False]
    for depth in range(len(path) - 1, 0, -1):
        above = path[:depth]
        if (above, False) in places:
            return depth, places.get((above, True)) or places[above, False]
    return 0, Location(file, 1, 1)


def problem_at(location: Location, text: Text, message: str, code: str) -> Problem:
    """A Problem with the line of `text` at `location`; no line where the text has ended."""
    lines = _lines(text)
    line = lines[location.line - 1].rstrip("\r") if location.line <= len(lines) else ""
    return Problem(location, message, code, line)


# A text may have as many problems as lines.
@lru_cache(maxsize=64)
def _lines(text: Text) -> list[str]:
    decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return decoded.removeprefix("\ufeff").split("\n")


@dataclass(frozen=True, slots=True)
class Sources:
    """The texts of a configuration, to turn findings into problems.

    `texts` maps a document's id ("site", "hosts/pve1") to the file name as shown and its text.
    `chains` maps a document to those that it inherits from (`like:`), nearest first: what is
    found wrong in it may be written there.
    """

    texts: Mapping[str, tuple[str, Text]]
    chains: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def problem(self, finding: Finding) -> Problem:
        """`finding` at its line: in its document, or in the one it inherits from that holds more
        of its path. KeyError for an unknown document."""
        place = finding.place
        documents = (place.document, *self.chains.get(place.document, ()))
        found = [(*nearest(*self.texts[d], place.path, key=place.key), d) for d in documents]
        _, location, document = max(found, key=lambda each: each[0])
        text = self.texts[document][1]
        return problem_at(location, text, finding.message, finding.code)

    def problems(self, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """Each of `findings` at its line, in the order given."""
        return tuple(self.problem(finding) for finding in findings)
