"""What is collected: all that neither runs, nor is among the newest, nor is pinned."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from builder.host import files, generations
from builder.host.schema import RefusedError
from builder.host.state import load_record
from builder.host.transaction import Limits, activate
from tests.host.making import Stage, released


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Five generations, each with a folder of guest 101 of its own; the second one runs."""
    made = Stage(tmp_path)
    for count in range(5):
        held = {101: {"names/hosts": f"{count}\n"}}
        number = made.keep(released(made.store, sysctl=f"a = {count}\n", guests=held))
        activate(made.host(), number, "test", Limits())
    activate(made.host(), 2, "test", Limits())
    return made


def _gone(
    stage: Stage, keep: int, used: Mapping[int, Collection[str] | None] | None = None
) -> list[Path]:
    record = load_record(files.read(stage.paths.record))
    return list(generations.garbage(stage.paths, stage.store, record, keep, used or {101: ()}))


def _numbers(gone: list[Path]) -> list[int]:
    return [int(path.name) for path in gone if path.parent.name == "generations"]


def _folders(stage: Stage) -> dict[int, str]:
    return {
        number: stage.store.read(ref.node.digest) and ref.node.digest[:16]
        for number in generations.numbers(stage.paths)
        for ref in generations.kept(stage.paths, number).release.guests
    }


def test_the_newest_and_what_runs_stay(stage: Stage):
    gone = _gone(stage, 1)
    assert _numbers(gone) == [1, 3, 4]
    held = _folders(stage)
    assert {path.name for path in gone if "guests" in path.parts} == {held[n] for n in (1, 3, 4)}
    contents = {f"a = {n}\n".encode() for n in (0, 2, 3)}
    texts = {path.read_bytes() for path in gone if path.parent.name == "store"}
    assert contents <= texts
    assert not {b"a = 1\n", b"a = 4\n"} & texts


def test_what_is_pinned_stays(stage: Stage):
    generations.pin(stage.paths, 3, pinned=True)
    assert _numbers(_gone(stage, 1)) == [1, 4]
    generations.pin(stage.paths, 3, pinned=False)
    assert _numbers(_gone(stage, 1)) == [1, 3, 4]
    with pytest.raises(RefusedError, match="no generation 9"):
        generations.pin(stage.paths, 9, pinned=True)


def test_what_a_daemon_still_runs_from_stays(stage: Stage):
    held = _folders(stage)
    gone = _gone(stage, 1, {101: [held[3]]})
    assert held[3] not in {path.name for path in gone}
    assert held[4] in {path.name for path in gone}


def test_of_a_stopped_guest_nothing_goes(stage: Stage):
    assert not [path for path in _gone(stage, 1, {101: None}) if "guests" in path.parts]


@pytest.mark.parametrize("suffix", [".x", ".cpython-311"])
def test_the_command_stays(stage: Stage, suffix: str):
    program, other = (stage.store.folder / (digit * 64 + suffix) for digit in "ab")
    for path in (program, program.with_suffix(".x"), other):
        path.touch()
    files.folder(stage.paths.command.parent)
    files.link(stage.paths.command, str(program))
    gone = _gone(stage, 1)
    assert not {program, program.with_suffix(".x")} & {*gone}
    assert other in gone


def test_what_stays_runs_again(stage: Stage):
    for path in _gone(stage, 1):
        generations.discard(path)
    for number in (5, 2, 0, 5):
        assert activate(stage.host(), number, "test", Limits())


def test_what_has_come_just_now_stays(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    path = stage.paths.incoming / f".{'a' * 64}.4711"
    files.folder(path.parent)
    path.touch()
    os.utime(path, (1, 1))
    assert path not in _gone(stage, 1)
    monkeypatch.setattr(generations, "_DAY", -1)
    assert path in _gone(stage, 1)


def test_one_that_goes_while_all_are_read_is_none(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    every = generations.numbers(stage.paths)
    generations.discard(stage.paths.generation(4))
    monkeypatch.setattr(generations, "numbers", lambda _: every)
    assert [each.number for each in generations.all_kept(stage.paths)] == [1, 2, 3, 5]


def test_what_is_half_deleted_is_not_taken_for_whole(stage: Stage, monkeypatch: pytest.MonkeyPatch):
    def killed(folder: Path) -> None:
        next(path for path in folder.rglob("*") if path.is_file()).unlink()
        raise KeyboardInterrupt

    manifest, folder = generations.kept(stage.paths, 3).data, stage.paths.guest(101)
    held = folder / _folders(stage)[3]
    for path in (stage.paths.generation(3), held):
        with monkeypatch.context() as patched:
            patched.setattr(shutil, "rmtree", killed)
            with pytest.raises(KeyboardInterrupt):
                generations.discard(path)
    assert [each.number for each in generations.all_kept(stage.paths)] == [1, 2, 4, 5]
    left = {stage.paths.generations / ".3", folder / f".{held.name}"}
    assert left <= {*_gone(stage, 5)}
    activate(stage.host(), stage.keep(manifest), "test", Limits())
    assert (held / "names/hosts").read_text() == "2\n"
    for path in _gone(stage, 5):
        generations.discard(path)
    assert not any(path.exists() for path in left)
