"""What is remembered of built hosts: the same sources find it, any other source does not."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import load, memo
from builder.build import _Planner, derived
from builder.load import Config
from builder.memo import Known
from builder.network import PlainHop, Trust
from builder.plan import Plan, Program
from tests.rendered import PROGRAMS

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def config() -> Config:
    return load.load(ROOT)


def planned(config: Config, known: dict[str, Known], there: set[str], code: str = "code") -> bool:
    """Whether the first host is planned anew; `known` and `there` are brought up to date."""
    anew: list[str] = []
    made = _Planner(PROGRAMS, code, known)
    plan = made.planned(derived(config)[0], there, anew.append)
    there.update(item.stored() for item, _ in plan.objects)
    known.update(made.known)
    assert bool(plan.objects) == bool(anew)
    return bool(anew)


@pytest.fixture
def known(config: Config) -> dict[str, Known]:
    return {}


@pytest.fixture
def there(config: Config, known: dict[str, Known]) -> set[str]:
    """The objects of the first host's release, which is known."""
    found: set[str] = set()
    assert planned(config, known, found)
    assert found
    return found


def test_a_host_of_the_same_sources_is_not_planned_again(
    config: Config, known: dict[str, Known], there: set[str]
) -> None:
    assert not planned(config, known, there)
    again = load.load(ROOT)
    assert again is not config
    assert not planned(again, known, there)


def test_each_object_that_is_gone_is_made_again(
    config: Config, known: dict[str, Known], there: set[str]
) -> None:
    for name in sorted(there)[::7]:
        there.remove(name)
        assert planned(config, known, there)
        assert name in there


def test_other_code_plans_again(config: Config, known: dict[str, Known], there: set[str]) -> None:
    assert planned(config, known, there, code="other")


CHANGES: dict[str, Callable[[Config], Config]] = {
    "site": lambda c: dataclasses.replace(c, site=dataclasses.replace(c.site, domain="other.lan")),
    "service": lambda c: dataclasses.replace(
        c, site=dataclasses.replace(c.site, services=c.site.services[1:])
    ),
    "host": lambda c: dataclasses.replace(
        c, hosts=(dataclasses.replace(c.hosts[0], reach="192.0.2.7"), *c.hosts[1:])
    ),
    "trust": lambda c: dataclasses.replace(
        c, trust={**c.trust, c.hosts[0].name: Trust("root", "intermediate")}
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_another_source_has_another_key(config: Config, change: Callable[[Config], Config]) -> None:
    def key(config: Config) -> str:
        host = config.hosts[0]
        return memo.key("code", config.site, host, config.trust[host.name], PROGRAMS.values())

    assert key(config) == key(load.load(ROOT)) != key(change(config))


def test_each_field_of_a_host_and_its_guests_is_in_the_key(config: Config) -> None:
    host = config.hosts[0]
    key = functools.partial(memo.key, "code", config.site, trust=None, programs=())
    seen = {key(host=host)}
    for name in (field.name for field in dataclasses.fields(host)):
        seen.add(key(host=dataclasses.replace(host, **{name: "other"})))
    guest = host.guests[0]
    for name in (field.name for field in dataclasses.fields(guest)):
        other = dataclasses.replace(guest, **{name: "other"})
        seen.add(key(host=dataclasses.replace(host, guests=(other, *host.guests[1:]))))
    assert len(seen) == 1 + len(dataclasses.fields(host)) + len(dataclasses.fields(guest))


def test_another_program_has_another_key(config: Config) -> None:
    def key(program: Program) -> str:
        return memo.key("code", config.site, config.hosts[0], None, [program])

    program = PROGRAMS["nginx"]
    tar = dataclasses.replace(program.layer.tar, digest="f" * 64)
    other = dataclasses.replace(program, layer=dataclasses.replace(program.layer, tar=tar))
    assert key(program) != key(other)
    assert key(program) != key(dataclasses.replace(program, version="1.1"))


# The digest of what builds.


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "a/site-packages")])
    (tmp_path / "a/site-packages/jinja2-3.1.6.dist-info").mkdir(parents=True)
    for name in ("builder/a.py", "builder/kinds/b.py", "overlays/x/y", "schema/s.json"):
        (tmp_path / "a" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "a" / name).write_text("one")
    return tmp_path / "a"


CODE: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "builder/kinds/b.py").write_text("two"),
    "overlay": lambda root: (root / "overlays/x/y").write_text("two"),
    "schema": lambda root: (root / "schema/s.json").write_text("two"),
    "name": lambda root: (root / "overlays/x/y").rename(root / "overlays/x/z"),
    "added": lambda root: (root / "overlays/x/z").write_text(""),
    "removed": lambda root: (root / "overlays/x/y").unlink(),
    "swapped": lambda root: swapped(root / "builder/a.py", root / "builder/kinds/b.py"),
    "merged": lambda root: merged(root / "overlays/x/y", root / "schema/s.json"),
    "package": lambda root: (root / "site-packages/jinja2-3.1.6.dist-info").rename(
        root / "site-packages/jinja2-3.1.7.dist-info"
    ),
}


def merged(one: Path, other: Path) -> None:
    """One file that holds what stood between the two when they were read one after the other."""
    place = f"{other.parent.name}/{other.name}"
    one.write_text(f"{one.read_text()}\0{place}\0{other.read_text()}")
    other.unlink()


def swapped(one: Path, other: Path) -> None:
    one.write_text("ab")
    other.write_text("c")


@pytest.mark.parametrize("change", CODE.values(), ids=CODE.keys())
def test_a_change_of_what_builds_changes_its_digest(
    root: Path, change: Callable[[Path], object]
) -> None:
    before = memo.code(root)
    assert memo.code(root) == before
    change(root)
    assert memo.code(root) != before


def test_another_python_changes_the_digest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = memo.code(root)
    monkeypatch.setattr(sys, "version", "4.0")
    assert memo.code(root) != before


def test_time_place_and_compiled_modules_are_not_in_the_digest(root: Path) -> None:
    before = memo.code(root)
    (root / "builder/__pycache__").mkdir()
    (root / "builder/__pycache__/a.cpython-311.pyc").write_text("")
    os.utime(root / "builder/a.py", (1, 1))
    assert memo.code(root) == before
    other = root.parent / "b"
    for part in ("builder", "overlays", "schema"):
        shutil.copytree(root / part, other / part)
    assert memo.code(other) == before


def test_what_editors_leave_beside_the_code_is_no_error(root: Path) -> None:
    before = memo.code(root)
    (root / "overlays/x/.#y").symlink_to("somebody@somewhere.1234")
    assert memo.code(root) == before


# The file.


KNOWN = Known(
    "key",
    Plan("pve1", b'{"a":"\xc3\xa4"}\n', (), ("nginx",), (), ("no CA",)),
    ("0-a", "1-b"),
    (PlainHop("chat", "mesh", "a switch that cannot", "gateway", "mesh", 8080),),
)


def test_what_is_written_is_read(tmp_path: Path, config: Config, known: dict[str, Known]) -> None:
    planned(config, known, set())
    memo.write(tmp_path / "memo", {**known, "pve1": KNOWN})
    assert memo.read(tmp_path / "memo") == {**known, "pve1": KNOWN}


def test_a_file_cut_anywhere_is_none(tmp_path: Path) -> None:
    file = tmp_path / "memo"
    assert memo.read(file) == {}
    memo.write(file, {"pve1": KNOWN})
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert memo.read(file) == {}


@pytest.mark.parametrize("format_", [0, 99, None, "1"])
def test_a_file_of_another_format_is_none(tmp_path: Path, format_: object) -> None:
    file = tmp_path / "memo"
    memo.write(file, {"pve1": KNOWN})
    file.write_text(json.dumps({**json.loads(file.read_text()), "format": format_}))
    assert memo.read(file) == {}


@pytest.mark.parametrize("part", ["key", "manifest", "programs", "artifacts", "objects", "plain"])
def test_a_file_that_lacks_a_part_is_none(tmp_path: Path, part: str) -> None:
    file = tmp_path / "memo"
    memo.write(file, {"pve1": KNOWN})
    data = json.loads(file.read_text())
    del data["hosts"]["pve1"][part]
    file.write_text(json.dumps(data))
    assert memo.read(file) == {}


@pytest.mark.parametrize("part", ["programs", "artifacts", "objects", "plain"])
@pytest.mark.parametrize("value", ["text", None])
def test_a_file_with_a_part_of_another_type_is_none(
    tmp_path: Path, part: str, value: object
) -> None:
    file = tmp_path / "memo"
    memo.write(file, {"pve1": KNOWN})
    data = json.loads(file.read_text())
    data["hosts"]["pve1"][part] = value
    file.write_text(json.dumps(data))
    assert memo.read(file) == {}


def test_what_a_killed_build_left_of_it_goes(tmp_path: Path) -> None:
    (tmp_path / "memo.123").write_text("half")
    memo.write(tmp_path / "memo", {"pve1": KNOWN})
    assert os.listdir(tmp_path) == ["memo"]


def test_where_it_cannot_be_written_there_is_no_error(tmp_path: Path) -> None:
    memo.write(tmp_path / "not there" / "memo", {"pve1": KNOWN})
