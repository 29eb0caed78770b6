"""The fast way out of a build: whatever could change an answer is seen; nothing else costs it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from builder import fresh

Change = Callable[[Path], object]
SAID: dict[fresh.Form, str] = {"text": "pve1: nothing new", "json": '{"hosts": {}}'}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root with a file in each folder that is read, and with a release in dist/."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PHOENIX_SIGNING_KEY", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "site-packages")])
    for name in ("configs/site.yaml", "schema/site.json", "builder/a.py", "overlays/x/file"):
        write(tmp_path / name, "one")
    write(tmp_path / "configs/hosts/pve1.yaml", "one")
    write(tmp_path / "dist/store/object", "one")
    for serial in ("0001-a", "0002-b"):
        write(tmp_path / f"dist/releases/pve1/{serial}/manifest.json", serial)
        write(tmp_path / f"dist/releases/pve1/{serial}/manifest.json.sig", serial)
    (tmp_path / "dist/pve1").symlink_to("releases/pve1/0001-a")
    (tmp_path / "home/phoenix").mkdir(parents=True)
    (tmp_path / "site-packages").mkdir()
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def stamp(root: Path, *question: str, meanwhile: Change | None = None) -> None:
    """As a build does: look, build (and `meanwhile` something else happens), stamp."""
    before = fresh.observe(str(root))
    if meanwhile:
        meanwhile(root)
    links = {"pve1": "releases/pve1/0001-a"}
    fresh.keep(str(root), question, before, SAID, links)


def answer(root: Path, *question: str, form: fresh.Form = "text") -> str | None:
    return fresh.answer(str(root), question, form)


def settle(root: Path) -> None:
    """Make every file look old, so that only its facts count."""
    for folder, _, files in os.walk(root):
        for name in files:
            os.utime(os.path.join(folder, name), (1, 1), follow_symlinks=False)


def test_the_same_question_gets_the_same_answer(root: Path) -> None:
    assert answer(root) is None
    stamp(root)
    assert answer(root) == SAID["text"]
    assert answer(root, form="json") == SAID["json"]


def test_another_question_gets_none(root: Path) -> None:
    stamp(root, "pve1")
    assert answer(root, "pve1")
    assert answer(root) is None
    assert answer(root, "pve2") is None


CHANGES: dict[str, Change] = {
    "edited": lambda root: write(root / "configs/site.yaml", "another"),
    "edited to the same size": lambda root: write(root / "configs/site.yaml", "two"),
    "touched only": lambda root: (root / "configs/site.yaml").touch(),
    "made executable": lambda root: (root / "overlays/x/file").chmod(0o755),
    "host added": lambda root: write(root / "configs/hosts/pve2.yaml", "one"),
    "host removed": lambda root: (root / "configs/hosts/pve1.yaml").unlink(),
    "host renamed": lambda root: os.rename(
        root / "configs/hosts/pve1.yaml", root / "configs/hosts/pve2.yaml"
    ),
    "replaced by the same": lambda root: replaced(root / "configs/site.yaml"),
    "in a new folder": lambda root: write(root / "configs/ca/root.crt", "one"),
    "schema": lambda root: write(root / "schema/site.json", "another"),
    "code": lambda root: write(root / "builder/deep/b.py", "one"),
    "overlay": lambda root: write(root / "overlays/x/file", "another"),
    "key made": lambda root: write(root / "home/phoenix/signing_key", "one"),
    "public key made": lambda root: write(root / "home/phoenix/signing_key.pub", "one"),
    "package installed": lambda root: write(root / "site-packages/new/a.py", "one"),
    "object removed": lambda root: (root / "dist/store/object").unlink(),
    "link moved": lambda root: link(root, "releases/pve1/0002-b"),
    "link removed": lambda root: (root / "dist/pve1").unlink(),
    "link added": lambda root: (root / "dist/pve2").symlink_to("releases/pve1/0001-a"),
    "manifest changed": lambda root: write(root / "dist/pve1/manifest.json", "another"),
    "manifest removed": lambda root: (root / "dist/pve1/manifest.json").unlink(),
    "signature removed": lambda root: (root / "dist/pve1/manifest.json.sig").unlink(),
    "store removed": lambda root: os.rename(root / "dist/store", root / "dist/other"),
}


def replaced(path: Path) -> None:
    text = path.read_text()
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


def link(root: Path, target: str) -> None:
    (root / "dist/pve1").unlink()
    (root / "dist/pve1").symlink_to(target)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("old", [False, True], ids=["young files", "old files"])
def test_a_change_is_seen(root: Path, change: Change, old: bool) -> None:
    if old:
        settle(root)
    stamp(root)
    assert answer(root)
    change(root)
    assert answer(root) is None


READ = [
    name for name in CHANGES if not name.startswith(("object", "link", "manif", "sig", "store"))
]


@pytest.mark.parametrize("name", READ)
def test_a_change_during_the_build_is_seen(root: Path, name: str) -> None:
    stamp(root, meanwhile=CHANGES[name])
    assert answer(root) is None


@pytest.mark.parametrize("name", ["__pycache__/a.cpython-311.pyc", "a.pyc"])
def test_compiled_modules_are_no_change(root: Path, name: str) -> None:
    stamp(root)
    write(root / "builder" / name, "one")
    assert answer(root)


def test_another_key_by_the_environment_is_seen(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp(root)
    monkeypatch.setenv("PHOENIX_SIGNING_KEY", str(root / "not there"))
    assert answer(root) is None


def test_another_python_is_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp(root)
    monkeypatch.setattr(sys, "version", "4.0")
    assert answer(root) is None


def test_a_file_in_the_place_of_a_folder_is_a_change(root: Path) -> None:
    stamp(root)
    shutil.rmtree(root / "configs")
    write(root / "configs", "")
    assert answer(root) is None
    stamp(root)


def test_a_file_that_goes_while_it_is_looked_at(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp(root)
    listed = os.scandir

    def scandir(path: str) -> list[os.DirEntry[str]]:
        entries = list(listed(path))
        (root / "configs/site.yaml").unlink(missing_ok=True)
        return entries

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", scandir)
        before = fresh.observe(str(root))
    fresh.keep(str(root), (), before, SAID, {})
    assert answer(root)
    write(root / "configs/site.yaml", "one")
    assert answer(root) is None


# Within one tick of the clock. Times of one second stand for any file system's coarse ones.


@pytest.fixture
def coarse(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A root on a file system that knows times by the second only."""
    exact = fresh._facts

    def facts(found: Iterable[tuple[str, os.stat_result]]) -> str:
        return exact((path, rounded(at)) for path, at in found)

    monkeypatch.setattr(fresh, "_facts", facts)
    return root


def rounded(at: os.stat_result) -> Any:
    second = 1_000_000_000
    modified, changed = at.st_mtime_ns // second * second, at.st_ctime_ns // second * second
    return SimpleNamespace(
        st_size=at.st_size, st_ino=at.st_ino, st_mtime_ns=modified, st_ctime_ns=changed
    )


@pytest.mark.parametrize("fact", ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"])
def test_each_fact_counts(fact: str) -> None:
    names = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino")
    one: Any = SimpleNamespace(**dict.fromkeys(names, 1))
    other: Any = SimpleNamespace(**{**vars(one), fact: 2})
    assert fresh._facts([("a", one)]) != fresh._facts([("a", other)])


def test_without_a_clock_all_is_young(root: Path) -> None:
    settle(root)
    # Where dist/ takes no file, nobody knows the file system's time.
    shutil.rmtree(root / "dist")
    _, young = fresh.observe(str(root))
    files = (path for name in fresh.READ for path in (root / name).rglob("*") if path.is_file())
    assert sorted(young) == sorted(str(path.relative_to(root)) for path in files)


def within_a_tick(root: Path, act: Change) -> None:
    """Do it until it ends in the second in which it began, by the file system's clock."""
    ended = second(root)
    while True:
        began = ended
        act(root)
        if began == (ended := second(root)):
            return


def second(root: Path) -> int:
    (root / "clock").touch()
    return rounded((root / "clock").stat()).st_mtime_ns  # type: ignore[no-any-return]


def edit_after(root: Path) -> None:
    write(root / "configs/site.yaml", "one")
    stamp(root)
    write(root / "configs/site.yaml", "two")


def edit_during(root: Path) -> None:
    write(root / "configs/site.yaml", "one")
    stamp(root, meanwhile=lambda root: write(root / "configs/site.yaml", "two"))


@pytest.mark.parametrize("edit", [edit_after, edit_during])
def test_an_edit_within_the_clocks_tick_is_seen(coarse: Path, edit: Change) -> None:
    within_a_tick(coarse, edit)
    assert answer(coarse) is None


@pytest.mark.parametrize("edit", [edit_after, edit_during])
def test_without_a_look_at_young_files_it_would_not_be(
    coarse: Path, monkeypatch: pytest.MonkeyPatch, edit: Change
) -> None:
    monkeypatch.setattr(fresh, "GRAIN", -(1 << 62))
    within_a_tick(coarse, edit)
    assert answer(coarse) == SAID["text"]


def test_an_edit_with_its_time_put_back_is_seen(root: Path) -> None:
    settle(root)
    stamp(root)
    write(root / "configs/site.yaml", "two")
    os.utime(root / "configs/site.yaml", (1, 1))
    assert answer(root) is None


# Links in configs/.


def test_what_a_link_leads_to_is_looked_at(root: Path) -> None:
    write(root / "elsewhere/pve2.yaml", "one")
    write(root / "elsewhere/more/file", "one")
    (root / "configs/hosts/pve2.yaml").symlink_to(root / "elsewhere/pve2.yaml")
    (root / "overlays/more").symlink_to(root / "elsewhere/more")
    settle(root)
    for name in ("pve2.yaml", "more/file"):
        stamp(root)
        assert answer(root)
        write(root / "elsewhere" / name, "two")
        assert answer(root) is None


def test_links_in_a_circle_and_to_nowhere_end(root: Path) -> None:
    # Each of the two is in the other: without an end, 2⁴⁰ folders.
    (root / "configs/self").symlink_to(".")
    (root / "configs/twin").symlink_to(".")
    (root / "configs/nowhere").symlink_to("not there")
    stamp(root)
    assert answer(root)
    write(root / "configs/not there", "one")
    assert answer(root) is None


# The stamp itself.


def test_a_stamp_cut_anywhere_is_none(root: Path) -> None:
    stamp(root)
    path = root / "dist/.stamp"
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        assert answer(root) is None
        assert answer(root, form="json") is None
    path.write_bytes(whole)
    assert answer(root)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"phoenix-stamp-1 0 0 0 0\n", b"\xff\n", b"a b c d e\n"]
)
def test_a_stamp_of_another_kind_is_none(root: Path, data: bytes) -> None:
    stamp(root)
    (root / "dist/.stamp").write_bytes(data)
    assert answer(root) is None


def test_nothing_is_stamped_where_another_build_has_moved_a_link(root: Path) -> None:
    stamp(root, meanwhile=lambda root: link(root, "releases/pve1/0002-b"))
    assert answer(root) is None
    assert not (root / "dist/.stamp").exists()


def test_what_a_killed_build_left_of_a_stamp_goes(root: Path) -> None:
    write(root / "dist/.stamp.12345", "half")
    stamp(root)
    assert [n for n in os.listdir(root / "dist") if n.startswith(".")] == [".stamp"]


def test_what_cannot_be_stamped_is_no_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(fresh, "replace", refuse)
    stamp(root)
    assert answer(root) is None


def test_where_there_is_nothing_there_is_no_error(tmp_path: Path) -> None:
    before = fresh.observe(str(tmp_path))
    fresh.keep(str(tmp_path), [], before, SAID, {})
    assert answer(tmp_path) is None
