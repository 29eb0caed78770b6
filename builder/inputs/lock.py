"""The lock file: what each input is, which version, and the hash that its bytes must have.

The file is JSON, so that reading it costs nothing at build and a moved pin is rewritten without a
change elsewhere. It names packages, versions and suites, never a registry's host: the machine's own
clients know their mirrors. Only a `url` input or a further source carries an address, which is its
user's own.

    {"version": 1, "inputs": {NAME: INPUT…}}

Each INPUT has `kind`, `arch` (the guests' architecture) and, by kind:

- `pypi`: `package` `version` `sha256` of the wheel; `files` {path in the layer: pattern of the one
  member of the wheel}. Without `files` it is a build tool and has no layer.
- `go`: `package` (import path of the command) `module` `version` `sum` (h1: of the module)
  `toolchain` (the `pypi` input that builds it) `sha256` of the built program.
- `debian`: `suite`, `packages` [{`package` `version` `sha256`}…], `keep` [patterns of the files
  that go into the layer, at their path in the package].
- `url`: `url` `version` `sha256`, `unpack` (`none`, `tar` or `zip`), `files` as above; with `none`
  the one file is the download itself and its pattern is empty.

Everything fetched may have `sources`: addresses that are asked in turn once the client has failed;
what they give must have the same hash. Patterns are those of a shell; `*` also matches `/`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder import tree
from builder.problems import UserError, known

FORMAT = 1
ARCHES = ("amd64",)
UNPACKS = ("none", "tar", "zip")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_SUM = re.compile(r"h1:[A-Za-z0-9+/]{43}=")
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
# What is handed to a client as a word: nothing that could be an option or break a line.
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:/@-]*")
# What a release's manifest can hold.
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+~:-]{0,119}")
_ADDRESS = re.compile(r"(https?|file)://\S+")


@dataclass(frozen=True, slots=True)
class Pin:
    """One thing to fetch: the client's name for it, its version, its SHA-256, further sources."""

    package: str
    version: str
    sha256: str
    sources: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        plain: dict[str, object] = {
            "package": self.package,
            "version": self.version,
            "sha256": self.sha256,
        }
        return plain | ({"sources": list(self.sources)} if self.sources else {})


@dataclass(frozen=True, slots=True)
class Pypi:
    """A wheel. `files`: (path in the layer, pattern of a member); none for a build tool."""

    name: str
    arch: str
    pin: Pin
    files: tuple[tuple[str, str], ...]

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (self.pin,)

    def as_json(self) -> dict[str, object]:
        plain = {"kind": "pypi", "arch": self.arch, **self.pin.as_json()}
        return plain | ({"files": dict(self.files)} if self.files else {})


@dataclass(frozen=True, slots=True)
class Go:
    """A command of a Go module, built here. The pin's hash is the built program's."""

    name: str
    arch: str
    pin: Pin
    module: str
    sum: str
    toolchain: str

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (self.pin,)

    def as_json(self) -> dict[str, object]:
        own = {"module": self.module, "sum": self.sum, "toolchain": self.toolchain}
        return {"kind": "go", "arch": self.arch, **self.pin.as_json(), **own}


@dataclass(frozen=True, slots=True)
class Debian:
    """Binary packages of one suite; `keep` are the patterns of the files that are taken."""

    name: str
    arch: str
    suite: str
    pins: tuple[Pin, ...]
    keep: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        return {
            "kind": "debian",
            "arch": self.arch,
            "suite": self.suite,
            "packages": [pin.as_json() for pin in self.pins],
            "keep": list(self.keep),
        }


@dataclass(frozen=True, slots=True)
class Url:
    """A file at an address its user gives; the pin's package is that address."""

    name: str
    arch: str
    pin: Pin
    unpack: str
    files: tuple[tuple[str, str], ...]

    @property
    def pins(self) -> tuple[Pin, ...]:
        return (self.pin,)

    def as_json(self) -> dict[str, object]:
        plain = self.pin.as_json()
        address = {"url": plain.pop("package")}
        own = {"unpack": self.unpack, "files": dict(self.files)}
        return {"kind": "url", "arch": self.arch, **address, **plain, **own}


Input = Pypi | Go | Debian | Url


def version(entry: Input) -> str:
    """The version of an input: of its only, or its first package."""
    return entry.pins[0].version


def has_layer(entry: Input) -> bool:
    """False for a build tool."""
    return not (isinstance(entry, Pypi) and not entry.files)


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file as read; entries sorted by name."""

    path: Path
    entries: tuple[Input, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all inputs, build tools included."""
        return tuple(entry.name for entry in self.entries)

    @property
    def programs(self) -> tuple[str, ...]:
        """Names of the inputs that have a layer."""
        return tuple(entry.name for entry in self.entries if has_layer(entry))

    def entry(self, name: str) -> Input:
        """The input called `name`; UserError where the lock has none."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise UserError(f"{self.path}: no input '{name}'; {known(name, self.names)}")

    def tools(self, entry: Input) -> tuple[Input, ...]:
        """The build tools that make `entry`."""
        return (self.entry(entry.toolchain),) if isinstance(entry, Go) else ()

    def replaced(self, entry: Input) -> Lock:
        """The same lock with `entry` in place of the one of its name."""
        others = (entry if old.name == entry.name else old for old in self.entries)
        return Lock(self.path, tuple(others))

    def text(self) -> str:
        """The lock's canonical text: inputs by name, two spaces, keys in the order of `as_json`."""
        inputs = {entry.name: entry.as_json() for entry in self.entries}
        whole = {"version": FORMAT, "inputs": inputs}
        return json.dumps(whole, indent=2, ensure_ascii=False) + "\n"


def load_lock(path: Path) -> Lock:
    """Read and check the lock file at `path`.

    Raises UserError with the file and the place in it: not readable, not JSON, a key twice, missing
    or unknown, a value of the wrong shape, a toolchain that is none.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    try:
        data = json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from error
    except _LockError as error:
        raise UserError(f"{path}: {error}") from error
    try:
        lock = Lock(path, _entries(_Node(data, "")))
        _check_toolchains(lock)
    except _LockError as error:
        raise UserError(f"{path}: {error}") from error
    return lock


class _LockError(Exception):
    """What is wrong with the lock's content, with its place in it."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    for key in keys:
        if keys.count(key) > 1:
            raise _LockError(f"key '{key}' stands twice in one object")
    return dict(pairs)


class _Node:
    """A JSON object that is emptied key by key, so that what is left over is unknown."""

    def __init__(self, data: object, place: str) -> None:
        if not isinstance(data, dict):
            raise _LockError(f"{place or 'the file'}: an object is expected")
        self.data, self.place, self.seen = dict(data), place, list[str]()

    def at(self, key: str) -> str:
        return f"{self.place}.{key}" if self.place else key

    def take(self, key: str) -> object:
        self.seen.append(key)
        if key not in self.data:
            raise _LockError(f"{self.at(key)} is missing")
        return self.data.pop(key)

    def word(self, key: str, shape: re.Pattern[str], what: str) -> str:
        value = self.take(key)
        if not isinstance(value, str) or not shape.fullmatch(value):
            raise _LockError(f"{self.at(key)}: {what} is expected, not {value!r}")
        return value

    def choice(self, key: str, legal: tuple[str, ...]) -> str:
        value = self.take(key)
        if value not in legal:
            raise _LockError(f"{self.at(key)}: {value!r} is not known; known: {', '.join(legal)}")
        return str(value)

    def words(self, key: str, shape: re.Pattern[str], what: str) -> tuple[str, ...]:
        value = self.take(key)
        if not isinstance(value, list) or not value:
            raise _LockError(f"{self.at(key)}: a list of one or more is expected")
        for item in value:
            if not isinstance(item, str) or not shape.fullmatch(item):
                raise _LockError(f"{self.at(key)}: {what} is expected, not {item!r}")
        return tuple(value)

    def done(self) -> None:
        for key in self.data:
            raise _LockError(f"{self.at(key)} is not known; {known(key, self.seen)}")


def _entries(root: _Node) -> tuple[Input, ...]:
    if root.take("version") != FORMAT:
        raise _LockError(f"version: this program reads {FORMAT}")
    inputs = root.take("inputs")
    root.done()
    if not isinstance(inputs, dict):
        raise _LockError("inputs: an object is expected")
    for name in inputs:
        if not _NAME.fullmatch(name):
            raise _LockError(
                f"inputs: '{name}' is no name (lower-case letters, digits, '.', '+', '-')"
            )
    return tuple(_entry(name, _Node(inputs[name], f"inputs.{name}")) for name in sorted(inputs))


def _entry(name: str, node: _Node) -> Input:
    kind = node.choice("kind", ("pypi", "go", "debian", "url"))
    arch = node.choice("arch", ARCHES)
    entry: Input
    if kind == "pypi":
        entry = Pypi(name, arch, _pin(node), _files(node) if "files" in node.data else ())
    elif kind == "go":
        module = node.word("module", _WORD, "a module path")
        total = node.word("sum", _SUM, "h1: and 44 characters")
        entry = Go(name, arch, _pin(node), module, total, node.word("toolchain", _NAME, "a name"))
    elif kind == "debian":
        suite = node.word("suite", _NAME, "the code name of a suite")
        keep = node.words("keep", re.compile(r"[^/\n][^\n]*"), "a pattern without '/' in front")
        entry = Debian(name, arch, suite, _packages(node), keep)
    else:
        pin = _pin(node, "url", _ADDRESS)
        unpack = node.choice("unpack", UNPACKS)
        entry = Url(name, arch, pin, unpack, _files(node, empty=unpack == "none"))
    node.done()
    return entry


def _pin(node: _Node, key: str = "package", shape: re.Pattern[str] = _WORD) -> Pin:
    return Pin(
        node.word(key, shape, "a package's name" if key == "package" else "an address"),
        node.word("version", _VERSION, "a version"),
        node.word("sha256", _SHA256, "64 lower-case hex digits"),
        node.words("sources", _ADDRESS, "an address") if "sources" in node.data else (),
    )


def _packages(node: _Node) -> tuple[Pin, ...]:
    items = node.take("packages")
    if not isinstance(items, list) or not items:
        raise _LockError(f"{node.at('packages')}: a list of one or more is expected")
    pins = list[Pin]()
    for number, item in enumerate(items):
        inner = _Node(item, f"{node.at('packages')}.{number}")
        pins.append(_pin(inner))
        inner.done()
    return tuple(pins)


def _files(node: _Node, empty: bool = False) -> tuple[tuple[str, str], ...]:
    place, files = node.at("files"), node.take("files")
    if not isinstance(files, dict) or not files or (empty and len(files) != 1):
        raise _LockError(
            f"{place}: an object of {'one file' if empty else 'one or more'} is expected"
        )
    for path, pattern in files.items():
        if not re.fullmatch(tree.RELATIVE, path) or not path.isprintable():
            raise _LockError(f"{place}: {path!r} is no relative path")
        if not isinstance(pattern, str) or bool(pattern) is empty:
            raise _LockError(f"{place}.{path}: {'an empty' if empty else 'a'} pattern is expected")
    if below := tree.below(files):
        raise _LockError(f"{place}: {below!r} lies below another file")
    return tuple(sorted(files.items()))


def _check_toolchains(lock: Lock) -> None:
    tools = [entry.name for entry in lock.entries if not has_layer(entry)]
    for entry in lock.entries:
        if isinstance(entry, Go) and entry.toolchain not in tools:
            place = f"inputs.{entry.name}.toolchain"
            raise _LockError(f"{place}: '{entry.toolchain}' is no build tool; {known('', tools)}")
        if isinstance(entry, Go) and not f"{entry.pin.package}/".startswith(f"{entry.module}/"):
            raise _LockError(f"inputs.{entry.name}.package lies outside of {entry.module}")
