"""The lock file: what is refused, in which words, and that it is rewritten as it was."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from builder.inputs import load_lock
from builder.problems import UserError
from tests.inputs.helpers import REFERENCE, REPOSITORY

WHEEL = {"kind": "pypi", "arch": "amd64", "package": "a", "version": "1", "sha256": "0" * 64}
FILES = {"files": {"a": "*/a"}}
GO = {
    "kind": "go",
    "arch": "amd64",
    "package": "m.test/a/cmd/b",
    "version": "v1.0.0",
    "sha256": "0" * 64,
    "module": "m.test/a",
    "sum": f"h1:{'A' * 43}=",
    "toolchain": "t",
}
PACKAGE = {"package": "a", "version": "1", "sha256": "0" * 64}
DEBIAN = {"kind": "debian", "arch": "amd64", "suite": "s", "packages": [PACKAGE], "keep": ["a"]}
ADDRESS = {"kind": "url", "arch": "amd64", "url": "https://h.test/a", "version": "1"}
URL = ADDRESS | {"sha256": "0" * 64, "unpack": "none", "files": {"a": ""}}

BAD = [
    ({"version": 2, "inputs": {}}, "version: this program reads 1"),
    ({"inputs": {}}, "version is missing"),
    ({"version": 1, "inputs": {}, "more": 1}, "more is not known; known: inputs, version"),
    ({"version": 1, "inputs": []}, "inputs: an object is expected"),
    ([], "the file: an object is expected"),
    (
        {"A b": WHEEL},
        "inputs: 'A b' is no name (lower-case letters, digits, '.', '+', '-')",
    ),
    ({"a": 1}, "inputs.a: an object is expected"),
    (
        {"a": WHEEL | {"kind": "npm"}},
        "inputs.a.kind: 'npm' is not known; known: pypi, go, debian, url",
    ),
    ({"a": WHEEL | {"arch": "vax"}}, "inputs.a.arch: 'vax' is not known; known: amd64"),
    (
        {"a": WHEEL | {"sha256": "ABC"}},
        "inputs.a.sha256: 64 lower-case hex digits is expected, not 'ABC'",
    ),
    ({"a": WHEEL | {"package": "-x"}}, "inputs.a.package: a package's name is expected, not '-x'"),
    ({"a": WHEEL | {"version": "1 2"}}, "inputs.a.version: a version is expected, not '1 2'"),
    ({"a": WHEEL | {"version": "1/2"}}, "inputs.a.version: a version is expected, not '1/2'"),
    ({"a": WHEEL | {"verzion": "1"}}, "inputs.a.verzion is not known; did you mean 'version'?"),
    ({"a": WHEEL | {"files": {}}}, "inputs.a.files: an object of one or more is expected"),
    ({"a": WHEEL | {"files": {"../a": "a"}}}, "inputs.a.files: '../a' is no relative path"),
    ({"a": WHEEL | {"files": {"/a": "a"}}}, "inputs.a.files: '/a' is no relative path"),
    (
        {"a": WHEEL | {"files": {"a\nb": "a"}}},
        "inputs.a.files: 'a\\nb' is no relative path",
    ),
    ({"a": WHEEL | {"files": {"a\\b": "a"}}}, "inputs.a.files: 'a\\\\b' is no relative path"),
    (
        {"a": WHEEL | {"files": {"a": "a", "a/b": "b"}}},
        "inputs.a.files: 'a/b' lies below another file",
    ),
    ({"a": WHEEL | {"files": {"a": ""}}}, "inputs.a.files.a: a pattern is expected"),
    ({"a": WHEEL | {"sources": []}}, "inputs.a.sources: a list of one or more is expected"),
    (
        {"a": WHEEL | {"sources": ["ftp://h"]}},
        "inputs.a.sources: an address is expected, not 'ftp://h'",
    ),
    ({"a": GO}, "inputs.a.toolchain: 't' is no build tool; none is defined"),
    (
        {"a": GO, "t": WHEEL | FILES, "u": WHEEL},
        "inputs.a.toolchain: 't' is no build tool; known: u",
    ),
    (
        {"a": GO | {"package": "m.test/ab"}, "t": WHEEL},
        "inputs.a.package lies outside of m.test/a",
    ),
    ({"a": GO | {"sum": "h1:x"}}, "inputs.a.sum: h1: and 44 characters is expected, not 'h1:x'"),
    ({"a": DEBIAN | {"packages": []}}, "inputs.a.packages: a list of one or more is expected"),
    (
        {"a": DEBIAN | {"packages": [PACKAGE | {"x": 1}]}},
        "inputs.a.packages.0.x is not known; known: package, sha256, version",
    ),
    (
        {"a": DEBIAN | {"keep": ["/a"]}},
        "inputs.a.keep: a pattern without '/' in front is expected, not '/a'",
    ),
    (
        {"a": URL | {"files": {"a": "", "b": ""}}},
        "inputs.a.files: an object of one file is expected",
    ),
    ({"a": URL | {"files": {"a": "x"}}}, "inputs.a.files.a: an empty pattern is expected"),
    ({"a": URL | {"unpack": "rar"}}, "inputs.a.unpack: 'rar' is not known; known: none, tar, zip"),
]


@pytest.mark.parametrize(("content", "told"), BAD, ids=[told for _, told in BAD])
def test_bad_locks_are_refused_at_the_place(
    content: dict[str, object] | list[object], told: str, tmp_path: Path
) -> None:
    path = tmp_path / "inputs.lock"
    whole = not content or "inputs" in content or "version" in content
    path.write_text(json.dumps(content if whole else {"version": 1, "inputs": content}))
    with pytest.raises(UserError) as error:
        load_lock(path)
    assert error.value.message == f"{path}: {told}"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", ":1:2: not JSON: Expecting property name enclosed in double quotes"),
        ('{"version": 1, "version": 1}', ": key 'version' stands twice in one object"),
    ],
)
def test_broken_text_is_refused(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "inputs.lock"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        load_lock(path)
    assert error.value.message == f"{path}{told}"


def test_an_absent_lock_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        load_lock(tmp_path / "inputs.lock")


def test_the_reference_lock_is_canonical_and_names_no_host() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    lock = load_lock(REFERENCE)
    assert lock.text() == text
    assert lock.programs == ("lego", "nftables", "nginx", "step-ca", "traefik")
    assert set(lock.names) - set(lock.programs) == {"go"}
    assert "://" not in text
    assert not re.search(r"\.(org|net|io)\b", text)


def test_every_kind_is_written_as_it_was_read(tmp_path: Path) -> None:
    sources = {"sources": ["https://h.test/b"]}
    package = {"packages": [PACKAGE | sources]}
    inputs = {"d": DEBIAN | package, "g": GO | sources, "t": WHEEL, "u": URL | sources}
    path = tmp_path / "inputs.lock"
    path.write_text(json.dumps({"version": 1, "inputs": inputs | {"w": WHEEL | FILES}}))
    lock = load_lock(path)
    assert json.loads(lock.text()) == json.loads(path.read_text())
    assert [lock.entry(name).as_json() for name in inputs] == list(inputs.values())


def test_an_unknown_input_names_its_neighbour() -> None:
    with pytest.raises(UserError, match="no input 'trafik'; did you mean 'traefik'"):
        load_lock(REFERENCE).entry("trafik")


def test_the_examples_of_the_page_are_inputs(tmp_path: Path) -> None:
    page = (REPOSITORY / "docs" / "inputs.md").read_text(encoding="utf-8")
    examples = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    assert len(examples) == 3
    for example in examples:
        whole = f'{{"version": 1, "inputs": {{{example}}}}}'
        (tmp_path / "inputs.lock").write_text(whole)
        (entry,) = load_lock(tmp_path / "inputs.lock").entries
        reference = load_lock(REFERENCE).entry(entry.name)
        assert entry.arch == reference.arch
