"""Random configurations: all drawn ones are good, and each fault in one is told."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.load import load
from builder.problems import ConfigError
from tests.strategies import examples

Step = str | int


def nodes(data: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Each value below `data` with its path."""
    yield path, data
    if isinstance(data, dict | list):
        steps = data.items() if isinstance(data, dict) else enumerate(data)
        for step, value in steps:
            yield from nodes(value, (*path, step))


def stored(root: Path, data: dict[str, Any]) -> Path:
    """A root that holds a drawn configuration; JSON is YAML too."""
    (root / "configs/hosts").mkdir(parents=True, exist_ok=True)
    for name, document in (("site", data["site"]), ("hosts/node", data["host"])):
        (root / f"configs/{name}.yaml").write_text(json.dumps(document, indent=1))
    return root


def readable(data: dict[str, Any]) -> bool:
    """Whether no text holds what a person can't see, such as marks of the writing direction: a
    document with these is refused before it has data."""
    texts = (v for d in ("site", "host") for _, v in nodes(data[d]) if isinstance(v, str))
    return all(c.isprintable() or c in " \n" for text in texts for c in text)


DRAWN = [data for data in examples(11, 60) if readable(data)]


def test_what_is_drawn_is_good(tmp_path: Path) -> None:
    for number, data in enumerate(DRAWN):
        assert load(stored(tmp_path / str(number), data))


Mutation = tuple[str, tuple[Step, ...], Any]
REQUIRED: dict[str, set[str]] = {
    "site": {"site", "domain", "dns", "services", "backends", "directory", "email", "hop", "files"},
    "host": {"host", "platform", "reach", "bridges", "guests", "kind", "id", "to", "via", "target"},
}
DELETE = object()


def faults(data: dict[str, Any]) -> Iterator[Mutation]:
    """Single changes that make a good configuration wrong, by the document to blame."""
    for document in ("site", "host"):
        for path, value in nodes(data[document]):
            if path and path[-1] in REQUIRED[document] and not _named(path):
                yield document, path, DELETE
            if isinstance(value, dict):
                yield document, (*path, "no_such_key"), 1
            elif not isinstance(value, list):
                yield document, path, [[]]
    services = data["site"]["services"]
    for name in data["host"].get("services", services):
        yield "site", ("services", name, "backends", 0), "nobody"
        yield "site", ("services", name, "inside"), {"callers": ["nobody"]}
    for name in data["site"].get("certificates", {}):
        yield "site", ("certificates", name), {"acme": "nowhere"}
    yield "host", ("services",), ["nothing"]
    for name, guest in data["host"]["guests"].items():
        key = ("interfaces", "eth0", "bridge") if "interfaces" in guest else ("bridge",)
        yield "host", ("guests", name, *key), "vmbr77"


def _named(path: tuple[Step, ...]) -> bool:
    """Whether a path ends in the name of something, which may be called like a key."""
    return len(path) > 1 and path[-2] in {"services", "guests", "machines", "acme", "certificates"}


def changed(data: dict[str, Any], mutation: Mutation) -> dict[str, Any]:
    document, path, value = mutation
    result: dict[str, Any] = json.loads(json.dumps(data))
    at = result[document]
    for step in path[:-1]:
        at = at[step]
    if value is DELETE:
        del at[path[-1]]
    elif path:
        at[path[-1]] = value
    return result


@pytest.mark.parametrize("number", range(20))
def test_any_fault_is_told_in_its_file(tmp_path: Path, number: int) -> None:
    data = DRAWN[number]
    drawn = random.Random(number)
    for mutation in drawn.sample(list(faults(data)), 15):
        root = stored(tmp_path, changed(data, mutation))
        file = "configs/site.yaml" if mutation[0] == "site" else "configs/hosts/node.yaml"
        with pytest.raises(ConfigError) as caught:
            load(root)
        problems = [p for p in caught.value.problems if p.location.file == file]
        assert problems, mutation
        lines = (root / file).read_text(encoding="utf-8").split("\n")
        for problem in problems:
            line = lines[problem.location.line - 1]
            assert line.startswith(problem.line.rstrip("…")), mutation
            assert problem.location.column <= len(line) + 1, mutation


JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**12,
    0.5,
    "",
    " ",
    "x" * 300,
    "10.0.0.1",
    "::1",
    [],
    {},
    [None],
    {"": 0},
)


@pytest.mark.parametrize("number", range(20, 40))
def test_whatever_stands_there_there_is_no_exception(tmp_path: Path, number: int) -> None:
    data = DRAWN[number]
    drawn = random.Random(number)
    places = [(d, path) for d in ("site", "host") for path, _ in nodes(data[d]) if path]
    for document, path in drawn.sample(places, 20):
        junk = drawn.choice(JUNK)
        with contextlib.suppress(ConfigError):
            load(stored(tmp_path, changed(data, (document, path, junk))))
