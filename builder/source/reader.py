"""The parser's side of `source`: events → data, problems and places.

libyaml's parser gives the events, PyYAML's own where libyaml is missing; building data from them
is done here, since PyYAML's constructors and resolvers are those of YAML 1.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import yaml
from yaml.error import Mark, MarkedYAMLError
from yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    StreamEndEvent,
)

from builder.problems import HIDDEN, Location, Path, Problem
from builder.source import LARGEST, Data, Places, Text, problem_at

if TYPE_CHECKING:
    from yaml._yaml import Mark as CMark

DEEPEST = 40

# In a file, a carriage return may stand before a line feed.
_IN_FILE = re.compile(f"[{HIDDEN}]|\r(?!\n)")
_IN_VALUE = re.compile(f"[{HIDDEN}\t\r]")
_IN_KEY = re.compile(f"[{HIDDEN}\t\r\n]")
_NAMES = {
    "\0": "NUL",
    "\t": "a tab",
    "\n": "a line break",
    "\r": "a carriage return",
    "\ufeff": "a byte order mark",
}

# A plain scalar that begins with another character is a string.
_LEADS = frozenset("~tfn+-.0123456789")
_CONSTANTS: dict[str, bool | None] = {"~": None, "null": None, "true": True, "false": False}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\.[0-9]{1,17}")
_OCTAL = re.compile(r"[-+]?0o?[0-9_]+")
# Numbers to some readers and text to others: with underscores, an exponent or no digit beside the
# point, hexadecimal, binary, infinite; and integers beyond 64 bits.
_DOUBTFUL = re.compile(
    r"[-+]?(?:[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?"
    r"|0x[0-9a-fA-F_]+|0b[01_]+|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)"
)

# What the parser says → what a person can act on; the first part that occurs counts.
_SYNTAX = (
    ("mapping values are not allowed", "':' can't stand here; quote a value that holds ': '"),
    ("tab character that violates", "a tab can't indent; use spaces"),
    ("simple key", "this line has no ':' after its key"),
    ("scanning a quoted scalar found unexpected", "the quote that opens here is not closed"),
    ("document separator", "the quote that opens here is not closed"),
    ("unknown escape", "unknown escape; in single quotes a backslash is just a backslash"),
    ("scanning an alias", "a value that begins with '*' must be quoted"),
    ("scanning an anchor", "a value that begins with '&' must be quoted"),
    ("a tag", "a value that begins with '!' must be quoted"),
    ("scanning a block scalar", "after '|' or '>' the text begins on the next line"),
    ("sequence entries are not", "'- ' can't stand here; begin the list on its own line"),
    ("parsing a flow sequence", "the list that opens here is not closed, or lacks a ','"),
    ("parsing a flow mapping", "the mapping that opens here is not closed, or lacks a ','"),
    ("parsing a flow node", "a value is missing here, or a '[' or '{' above is not closed"),
    ("parsing a block collection", "this line fits no list above; check its indentation"),
    ("parsing a block mapping", "this line fits no mapping above; check its indentation"),
    ("cannot start any token", "a value that begins with this character must be quoted"),
    ("parsing a block node", "a value that begins with this character must be quoted"),
    ("document start", "nothing can follow the end of the document"),
)
# Of these, the place where the construct opens tells more than where the parser gave up.
_OPENING = re.compile("a flow (sequence|mapping)|scanning a simple key|an alias|an anchor")


class _TooDeepError(Exception):
    pass


class _Parser:
    """Walks the events of one text: data out, problems and places collected."""

    def __init__(self, file: str, text: str, places: Places | None) -> None:
        self.file, self.text, self.places = file, text, places
        self.problems: list[Problem] = []
        self._tell_hidden()
        # Hidden characters are read as U+FFFD, so that the rest is checked too.
        self.next = _events(_IN_FILE.sub("\ufffd", text))

    def document(self) -> Data:
        try:
            return self._documents()
        except MarkedYAMLError as error:
            self._tell(*_explained(error, self.text))
        except _TooDeepError:
            pass
        return None

    def _tell_hidden(self) -> None:
        """Tell of the first hidden character of each line: a file that is no text is full of
        them."""
        line, told, at = 1, 0, 0
        for match in _IN_FILE.finditer(self.text):
            line += self.text.count("\n", at, match.start())
            at = match.start()
            if line != told:
                told = line
                where = Location(self.file, line, at - self.text.rfind("\n", 0, at))
                message = f"{_name(match.group())} can't stand in a configuration; remove it"
                problem = problem_at(where, self.text, message, "yaml-control-character")
                self.problems.append(problem)

    def _tell(self, mark: Mark | CMark | None, code: str, message: str) -> None:
        self.problems.append(problem_at(self._at(mark), self.text, message, code))

    def _at(self, mark: Mark | CMark | None) -> Location:
        assert mark is not None, "an event without a place"
        return Location(self.file, mark.line + 1, mark.column + 1)

    def _documents(self) -> Data:
        data: Data = None
        count = 0
        while not isinstance(event := self._event(), StreamEndEvent):
            if not isinstance(event, DocumentStartEvent):
                continue
            count += 1
            if count > 1:
                message = "a second document starts here; write one document per file"
                self._tell(event.start_mark, "yaml-multiple-documents", message)
                return None
            data = self._root(self._event())
        if not count:
            where, message = Location(self.file, 1, 1), "the file is empty; it must hold a mapping"
            self.problems.append(problem_at(where, self.text, message, "yaml-not-a-mapping"))
        return data

    def _root(self, event: Event) -> Data:
        if not isinstance(event, MappingStartEvent):
            message = "the file must hold a mapping, lines of 'key: value'"
            self._tell(event.start_mark, "yaml-not-a-mapping", message)
        return self._value(event, ())

    def _value(self, event: Event, path: Path) -> Data:
        if self.places is not None:
            self.places[path, False] = self._at(event.start_mark)
        if isinstance(event, ScalarEvent):
            return self._scalar(event)
        assert isinstance(event, NodeEvent), event
        self._refuse_properties(event)
        if isinstance(event, AliasEvent):
            return None
        if len(path) >= DEEPEST:
            self._tell(event.start_mark, "yaml-too-deep", f"nested deeper than {DEEPEST} levels")
            raise _TooDeepError
        return self._mapping(path) if isinstance(event, MappingStartEvent) else self._list(path)

    def _refuse_properties(self, event: NodeEvent) -> None:
        """Tell of an anchor, an alias and a tag."""
        anchor, tag = event.anchor, getattr(event, "tag", None)
        if anchor is not None:
            sign = "*" if isinstance(event, AliasEvent) else "&"
            message = f"'{sign}{anchor}': anchors and aliases are not used here; write it out"
            self._tell(event.start_mark, "yaml-anchor", message)
        if tag is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")
            message = f"'{shown}': tags are not used here; remove it"
            self._tell(event.start_mark, "yaml-tag", message)

    def _list(self, path: Path) -> list[Data]:
        items: list[Data] = []
        while not isinstance(event := self._event(), SequenceEndEvent):
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Data]:
        entries: dict[str, Data] = {}
        lines: dict[str, int] = {}
        while not isinstance(event := self._event(), MappingEndEvent):
            key = self._key(event, path)
            if key is not None and key in lines:
                message = f"key '{key}' is at line {lines[key]} already"
                self._tell(event.start_mark, "yaml-duplicate-key", message)
                key = None
            if key is None:
                self._skip(self._event(), path)
                continue
            lines[key] = self._at(event.start_mark).line
            step = (*path, key)
            if self.places is not None:
                self.places[step, True] = self._at(event.start_mark)
            entries[key] = self._value(self._event(), step)
        return entries

    def _skip(self, event: Event, path: Path) -> None:
        """Read what has no place in the data, for the problems in it."""
        places, self.places = self.places, None
        self._value(event, (*path, "?"))
        self.places = places

    def _key(self, event: Event, path: Path) -> str | None:
        """The text of a key; None where it is none, which is told."""
        if not isinstance(event, ScalarEvent):
            self._tell(event.start_mark, "yaml-key", "a key must be text, not a list or a mapping")
            self._skip(event, path)
            return None
        value = event.value
        if self._quoted(event, "a key", _IN_KEY):
            return value
        if value == "<<":
            message = "merge keys are not used here; write the entries out"
            self._tell(event.start_mark, "yaml-merge-key", message)
        elif not value:
            self._tell(event.start_mark, "yaml-key", "there is no key before this ':'")
        elif value[0] in _LEADS and _resolve(value) is not value:
            message = f"the key {value} is not text; quote it: '{value}'"
            self._tell(event.start_mark, "yaml-key", message)
        else:
            return value
        return None

    def _scalar(self, event: ScalarEvent) -> Data:
        value = event.value
        if self._quoted(event, "a value", _IN_VALUE):
            return value
        if not value:
            return None
        data = _resolve(value) if value[0] in _LEADS else value
        if isinstance(data, _Doubt):
            self._tell(event.start_mark, data.code, data.message)
            return None
        return data

    def _quoted(self, event: ScalarEvent, what: str, hidden: re.Pattern[str]) -> bool:
        """Whether a scalar is quoted or block text, in which nothing but `hidden` is refused."""
        if event.anchor is not None or event.tag is not None:
            self._refuse_properties(event)
        if event.style and (found := hidden.search(event.value)):
            message = f"{what} can't hold {_name(found.group())}"
            self._tell(event.start_mark, "yaml-control-character", message)
        return bool(event.style)

    def _event(self) -> Event:
        event = self.next()
        assert event is not None, "the parser ends inside of a node"
        return event


class _Doubt:
    """A number that readers differ about."""

    def __init__(self, value: str) -> None:
        self.code = "yaml-number"
        self.message = f"{value}: quote it if it is text; a number is decimal, such as 31 or 0.5"
        if _OCTAL.fullmatch(value):
            digits = value.lstrip("+-0o").replace("_", "") or "0"
            self.code = "yaml-octal"
            self.message = (
                f"{value}: some read it as octal; quote it if it is text, "
                f"write {digits} if it is a decimal number"
            )


def parse(file: str, text: Text, places: Places | None = None) -> tuple[Data, list[Problem]]:
    """The data of `text` and all that is wrong with it; fills `places` where it is given.

    With problems, the data is what could be read, and not to be used.
    """
    if len(text) > LARGEST:
        message = f"the file is larger than {LARGEST >> 20} MiB"
        return None, [Problem(Location(file, 1, 1), message, "yaml-too-large")]
    try:
        decoded = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8").removeprefix("\ufeff")
        message = f"byte 0x{error.object[error.start]:02x} is not UTF-8; save the file as UTF-8"
        return None, [problem_at(_location(file, before), text, message, "yaml-encoding")]
    parser = _Parser(file, decoded.removeprefix("\ufeff"), places)
    return parser.document(), parser.problems


def _location(file: str, before: str) -> Location:
    return Location(file, before.count("\n") + 1, len(before) - before.rfind("\n"))


def _events(text: str) -> Callable[[], Event | None]:
    """What returns the next event of `text`."""
    if yaml.__with_libyaml__:
        return yaml.CLoader(text).get_event
    return yaml.Loader(text).get_event


def _resolve(value: str) -> bool | int | float | str | _Doubt | None:
    """What a plain scalar means."""
    if value in _CONSTANTS:
        return _CONSTANTS[value]
    if _INTEGER.fullmatch(value):
        return int(value)
    if _FLOAT.fullmatch(value):
        return float(value)
    return _Doubt(value) if _OCTAL.fullmatch(value) or _DOUBTFUL.fullmatch(value) else value


def _explained(error: MarkedYAMLError, text: str) -> tuple[Mark, str, str]:
    """Where, with which code and in which words a syntax error is told."""
    said = f"{error.context or ''} {error.problem or ''}".strip()
    message = next((ours for theirs, ours in _SYNTAX if theirs in said), f"not YAML: {said}")
    mark = error.problem_mark or error.context_mark
    assert mark is not None, said
    before = text[: mark.index].rpartition("\n")[2]
    if text[mark.index : mark.index + 1] == "\t":
        message = "a tab can't indent; use spaces"
    elif "parsing a block" in said and "node" not in said and before.strip():
        message = "this follows a value that has ended; quote the whole value"
    elif error.context_mark and (_OPENING.search(said) or message.startswith("the quote")):
        mark = error.context_mark
    return mark, "yaml-syntax", message


def _name(character: str) -> str:
    return _NAMES.get(character, f"the control character U+{ord(character):04X}")
