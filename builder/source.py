"""YAML, read strictly: text → plain data, and where each key and value stands.

The language is a subset of YAML that every reader takes for the same data. Plain scalars follow
YAML 1.2: `null`, `~` and nothing are null; only `true` and `false` are booleans; numbers are
decimal. `on`, `yes`, dates and `52:54:00:12:34:56` are strings. What two readers would take
differently is refused, with a code each: octal and hexadecimal numbers, anchors, aliases, merge
keys, tags, duplicate keys, keys that are no text, several documents, control characters.

Everything wrong in a text is told at once; a syntax error ends the pass.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeAlias

from builder.problems import ConfigError, Finding, Location, Path, Place, Problem
from builder.syntax import explain

if TYPE_CHECKING:
    from yaml.error import Mark
    from yaml.events import Event, ScalarEvent

Data: TypeAlias = None | bool | int | float | str | list["Data"] | dict[str, "Data"]
Text: TypeAlias = str | bytes
Places: TypeAlias = dict[tuple[Path, bool], Location]

LARGEST = 4 << 20
DEEPEST = 40

# C0 but tab and line feed, C1 (NEL breaks lines in YAML), line and paragraph separators (so do
# they), bidirectional overrides (a reviewer would read another order than we do), byte order
# marks, non-characters. A carriage return stands only before a line feed.
_HIDDEN = (
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff"
)
_IN_FILE = re.compile(f"[{_HIDDEN}]|\r(?!\n)")
_IN_VALUE = re.compile(f"[{_HIDDEN}\t\r]")
_IN_KEY = re.compile(f"[{_HIDDEN}\t\r\n]")

# What a plain scalar that is no string begins with; all others skip the expressions below.
_LEADS = frozenset("~tfn+-.0123456789")
_CONSTANTS: Mapping[str, None | bool] = {
    "": None, "~": None, "null": None, "true": True, "false": False,
}  # fmt: skip
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}")
_OCTAL = re.compile(r"[-+]?0o?[0-9_]+")
# Integers that are too long, hexadecimal, binary, with underscores or exponents, infinity: some
# readers take them for numbers and some for text.
_DOUBTFUL = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9_]+(?:[eE][-+]?[0-9]+)?"
    r"|0x[0-9a-fA-F_]+|0b[01_]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)
_UNREAD = object()


def read(file: str, text: Text) -> Data:
    """The data of one YAML document: a mapping at its root, with text keys.

    `file` is the name that problems show; `text` is bytes in UTF-8, or decoded already.
    Raises ConfigError with every problem found.
    """
    data, problems = _parse(file, text, None)
    if problems:
        raise ConfigError(problems)
    return data


@lru_cache(maxsize=64)
def positions(file: str, text: Text) -> Mapping[tuple[Path, bool], Location]:
    """Where each value stands, by its path, and (with True) the key that names it.

    Made by a second pass over the text, so only once there is a problem to place. What a faulty
    text holds before its fault is placed too; nothing is raised.
    """
    places: Places = {}
    _parse(file, text, places)
    return MappingProxyType(places)


def locate(file: str, text: Text, path: Path, *, key: bool = False) -> Location:
    """Where `path` stands, else the nearest thing above it: see `_nearest`."""
    return _nearest(file, text, path, key)[1]


def problem_at(location: Location, text: Text, message: str, code: str) -> Problem:
    """A Problem with the line of source at `location`."""
    lines = _decoded(text).split("\n")
    inside = location.line <= len(lines)
    return Problem(location, message, code, lines[location.line - 1].rstrip("\r") if inside else "")


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
        """`finding` at its line: in its document or the one it inherits from that holds most
        of its path; of equals the first. KeyError for an unknown document."""
        place = finding.place
        best: tuple[int, Location, Text] | None = None
        for document in (place.document, *self.chains.get(place.document, ())):
            file, text = self.texts[document]
            depth, location = _nearest(file, text, place.path, place.key)
            if best is None or depth > best[0]:
                best = depth, location, text
        assert best is not None
        return problem_at(best[1], best[2], finding.message, finding.code)

    def problems(self, findings: Iterable[Finding]) -> tuple[Problem, ...]:
        """Each of `findings` at its line, in the order given."""
        return tuple(self.problem(finding) for finding in findings)


def _nearest(file: str, text: Text, path: Path, key: bool) -> tuple[int, Location]:
    """How many steps of `path` exist, and where the last of these stands.

    Of a value that is not there, the key that names the mapping it is missing from is shown:
    that is where a person would look, and the mapping itself begins at its first entry.
    """
    places = positions(file, text)
    if (path, False) in places:
        return len(path), places.get((path, key)) or places[path, False]
    for depth in range(len(path) - 1, 0, -1):
        above = path[:depth]
        if (above, False) in places:
            return depth, places.get((above, True)) or places[above, False]
    return 0, Location(file, 1, 1)


def _decoded(text: Text) -> str:
    """Text without a leading byte order mark; what is no UTF-8 becomes U+FFFD."""
    decoded = text if isinstance(text, str) else text.decode("utf-8", "replace")
    return decoded.removeprefix("\ufeff")


def _parse(file: str, text: Text, places: Places | None) -> tuple[Data, list[Problem]]:
    """The data and the problems of `text`; fills `places` where it is given."""
    start = Location(file, 1, 1)
    if len(text) > LARGEST:
        message = f"the file is larger than {LARGEST >> 20} MiB"
        return None, [Problem(start, message, "yaml-too-large")]
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            before = text[: error.start].decode("utf-8")
            where = Location(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
            message = f"byte 0x{text[error.start]:02x} is not UTF-8; save the file as UTF-8"
            return None, [problem_at(where, text, message, "yaml-encoding")]
    text = text.removeprefix("\ufeff")
    reader = _Reader(file, text, places)
    # Each hidden character is told, then stands as U+FFFD, so that the rest can be read.
    clean = _IN_FILE.sub(reader.hidden, text)
    return reader.document(clean), reader.problems


class _TooDeep(Exception):
    pass


class _Reader:
    """Builds the data of one text from the parser's events, and collects what is wrong."""

    def __init__(self, file: str, text: str, places: Places | None) -> None:
        self.file, self.text, self.places = file, text, places
        self.problems: list[Problem] = []
        self.next: Callable[[], Event | None] = lambda: None

    def document(self, text: str) -> Data:
        from yaml.error import MarkedYAMLError

        self.next = _parser(text)
        try:
            return self._root()
        except MarkedYAMLError as error:
            mark, message = explain(error)
            self._tell(mark, "yaml-syntax", message)
        except _TooDeep:
            pass
        return None

    def hidden(self, match: re.Match[str]) -> str:
        before = self.text[: match.start()]
        where = Location(self.file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        message = f"{_name(match.group())} can't stand in a configuration; remove it"
        self.problems.append(problem_at(where, self.text, message, "yaml-control-character"))
        return "\ufffd"

    def _tell(self, mark: Mark, code: str, message: str) -> None:
        where = Location(self.file, mark.line + 1, mark.column + 1)
        self.problems.append(problem_at(where, self.text, message, code))

    def _root(self) -> Data:
        from yaml.events import DocumentStartEvent, MappingStartEvent, StreamEndEvent

        data: Data = None
        documents = 0
        while (event := self.next()) and not isinstance(event, StreamEndEvent):
            if not isinstance(event, DocumentStartEvent):
                continue
            documents += 1
            if documents > 1:
                message = "a second document starts here; write one document per file"
                self._tell(event.start_mark, "yaml-multiple-documents", message)
                return None
            root = self.next()
            assert root is not None
            if not isinstance(root, MappingStartEvent):
                message = "the file must hold a mapping, lines of 'key: value'"
                self._tell(root.start_mark, "yaml-not-a-mapping", message)
            data = self._value(root, ())
        if not documents:
            message = "the file is empty; it must hold a mapping, lines of 'key: value'"
            where = Location(self.file, 1, 1)
            self.problems.append(problem_at(where, self.text, message, "yaml-not-a-mapping"))
        return data

    def _value(self, event: Event, path: Path) -> Data:
        from yaml.events import AliasEvent, MappingStartEvent, ScalarEvent

        if self.places is not None:
            mark = event.start_mark
            self.places[path, False] = Location(self.file, mark.line + 1, mark.column + 1)
        self._plain_node(event)
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        if isinstance(event, AliasEvent):
            return None
        if len(path) >= DEEPEST:
            self._tell(event.start_mark, "yaml-too-deep", f"nested deeper than {DEEPEST} levels")
            raise _TooDeep
        if isinstance(event, MappingStartEvent):
            return self._mapping(path)
        return self._sequence(path)

    def _plain_node(self, event: Event) -> None:
        """Tell of an anchor, an alias and a tag."""
        from yaml.events import AliasEvent

        if (anchor := event.anchor) is not None:
            sign = "*" if isinstance(event, AliasEvent) else "&"
            message = f"'{sign}{anchor}': anchors and aliases are not used here; write it out"
            self._tell(event.start_mark, "yaml-anchor", message)
        if (tag := getattr(event, "tag", None)) is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            self._tell(event.start_mark, "yaml-tag", f"tag '{shown}': tags are not used here")

    def _sequence(self, path: Path) -> list[Data]:
        from yaml.events import SequenceEndEvent

        items: list[Data] = []
        while not isinstance(event := self._event(), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Data]:
        from yaml.events import MappingEndEvent

        entries: dict[str, Data] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self._event(), MappingEndEvent):
            key = self._key(event, path)
            if key in lines:
                message = f"key '{key}' is already at line {lines[key]}"
                self._tell(event.start_mark, "yaml-duplicate-key", message)
                key = None
            elif key is not None:
                lines[key] = event.start_mark.line + 1
            if key is None:
                self._skip(self._event(), path)
                continue
            step = (*path, key)
            if self.places is not None:
                mark = event.start_mark
                self.places[step, True] = Location(self.file, mark.line + 1, mark.column + 1)
            entries[key] = self._value(self._event(), step)
        return entries

    def _skip(self, event: Event, path: Path) -> None:
        """Read a value that has no place in the data, for the problems in it."""
        places, self.places = self.places, None
        self._value(event, (*path, "?"))
        self.places = places

    def _key(self, event: Event, path: Path) -> str | None:
        """The text of a key; None where it is none, which is told."""
        from yaml.events import ScalarEvent

        if not isinstance(event, ScalarEvent):
            self._tell(event.start_mark, "yaml-key", "a key must be text")
            self._skip(event, path)
            return None
        self._plain_node(event)
        value = event.value
        if not event.style:
            if value == "<<":
                message = "merge keys are not used here; write the entries out"
                self._tell(event.start_mark, "yaml-merge-key", message)
                return None
            if value[:1] in _LEADS or not value:
                return self._text_key(event)
        elif found := _IN_KEY.search(value):
            message = f"a key can't hold {_name(found.group())}"
            self._tell(event.start_mark, "yaml-control-character", message)
            return None
        return value

    def _text_key(self, event: ScalarEvent) -> str | None:
        if isinstance(_resolve(event.value), str):
            return event.value
        told = f"the key {event.value} is not text; quote it: '{event.value}'"
        self._tell(event.start_mark, "yaml-key", told if event.value else "a key is missing here")
        return None

    def _scalar(self, event: ScalarEvent) -> Data:
        value = event.value
        if not event.style:
            if value[:1] not in _LEADS and value:
                return value
            data = _resolve(value)
            if data is _UNREAD:
                self._tell(event.start_mark, *_doubt(value))
                return None
            assert data is None or isinstance(data, bool | int | float | str)
            return data
        if found := _IN_VALUE.search(value):
            message = f"a value can't hold {_name(found.group())}"
            self._tell(event.start_mark, "yaml-control-character", message)
        return value

    def _event(self) -> Event:
        event = self.next()
        assert event is not None, "the parser ends inside of a node"
        return event


def _parser(text: str) -> Callable[[], Event | None]:
    """What returns the next event of `text`: libyaml's parser, else PyYAML's own."""
    try:
        from yaml._yaml import CParser
    except ImportError:
        from yaml import Loader

        return Loader(text).get_event
    return CParser(text).get_event


def _resolve(value: str) -> object:
    """What a plain scalar means; _UNREAD where readers differ."""
    if value in _CONSTANTS:
        return _CONSTANTS[value]
    if _INTEGER.fullmatch(value):
        return int(value)
    if _FLOAT.fullmatch(value):
        return float(value)
    return _UNREAD if _OCTAL.fullmatch(value) or _DOUBTFUL.fullmatch(value) else value


def _doubt(value: str) -> tuple[str, str]:
    """Code and message for a number that readers differ about."""
    if not _OCTAL.fullmatch(value):
        return "yaml-number", f"{value}: quote it if it is text; numbers are decimal, such as 31"
    digits = value.lstrip("+-0o").replace("_", "")
    message = f"{value}: some read it as octal; quote it if it is text"
    return "yaml-octal", f"{message}, write {digits} if it is decimal" if digits else message


def _name(character: str) -> str:
    names = {"\0": "NUL", "\t": "a tab", "\n": "a line break", "\r": "a carriage return"}
    names["\ufeff"] = "a byte order mark"
    return names.get(character, f"the control character U+{ord(character):04X}")
