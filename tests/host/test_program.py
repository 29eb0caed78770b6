"""The zipapp: one file, the same bytes, run by a bare Python."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import program
from builder.host import VERSION, generations
from builder.host.paths import Paths
from builder.host.release import canonical
from builder.host.state import Record
from builder.host.store import Store
from tests.host.making import released, stored

HOST = Path(__file__).parents[2] / "builder/host"


def test_it_is_the_same_from_another_folder(tmp_path: Path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(HOST, copy)
    (copy / "__pycache__").mkdir(exist_ok=True)
    for path in copy.glob("*.py"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert program.host_program(copy) == program.host_program()
    (copy / "files.py").write_bytes((copy / "files.py").read_bytes() + b"# more\n")
    assert program.host_program(copy) != program.host_program()


def test_a_bare_python_runs_it(tmp_path: Path):
    path = tmp_path / "phoenix"
    path.write_bytes(program.host_program())
    bare = [sys.executable, "-I", "-S", str(path)]
    done = subprocess.run([*bare, "--help"], capture_output=True, text=True, env={}, check=True)
    assert "rollback [N]" in done.stdout
    wrong = subprocess.run([*bare, "nonsense"], capture_output=True, text=True, env={}, check=False)
    assert wrong.returncode == 1
    assert "nonsense" in wrong.stderr


@pytest.fixture
def place(tmp_path: Path) -> Store:
    return Store(Paths(tmp_path))


def kept(place: Store, program: bytes) -> Path:
    """A program in a host's store, to be run."""
    made = stored(place, program)
    place.paths.incoming.mkdir(exist_ok=True)
    return place.program(made.digest)


def runs(path: Path, *arguments: str) -> str:
    bare = [sys.executable, "-I", "-S", str(path), *arguments]
    return subprocess.run(bare, capture_output=True, text=True, env={}, check=True).stdout


def altered(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A copy of a zip with its files changed."""
    copy = path.with_name("altered")
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(copy, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return copy


def test_a_host_runs_its_bytecode(place: Store):
    path = kept(place, program.host_program())
    assert path.stat().st_mode & 0o777 == 0o555
    assert path.read_bytes().startswith(b"#!/usr/bin/python3 -IS\n")
    assert runs(path, "version") == f"{VERSION}\n"
    no_source = altered(path, lambda name, data: b"!" if name.endswith(".py") else data)
    assert runs(no_source, "version") == f"{VERSION}\n"


def test_another_python_takes_the_source(place: Store):
    def foreign(name: str, data: bytes) -> bytes:
        return b"\x00\x00" + data[2:] if name.endswith(".pyc") else data

    path = kept(place, program.host_program())
    assert runs(altered(path, foreign), "version") == f"{VERSION}\n"


def test_what_is_no_zip_is_run_as_it_is(place: Store):
    path = kept(place, b"#!/bin/sh\necho 1\n")
    assert path.name.endswith(".x")
    assert subprocess.run([path], capture_output=True, check=True).stdout == b"1\n"


def test_bytecode_stays_as_long_as_its_program(place: Store):
    made, old = program.host_program(), program.host_program() + b"\n"
    paths = [kept(place, each) for each in (made, old)]
    data = released(place)
    plain = json.loads(data)
    held = stored(place, made)
    plain["program"] = {"digest": held.digest, "name": "phoenix", "size": held.size}
    number = generations.keep(place.paths, canonical(plain), b"signed")
    garbage = {*generations.garbage(place.paths, place, Record(number), 1, {})}
    assert paths[0] not in garbage
    assert paths[1] in garbage


def test_its_start_takes_nothing_that_is_dear(tmp_path: Path):
    """`dataclasses` imports `inspect` and compiles each class: half of the start, for no gain. What
    asks over a network is loaded by who asks."""
    path = tmp_path / "phoenix"
    path.write_bytes(program.host_program())
    names = (
        f"import sys; sys.path.insert(0, {str(path)!r}); import host.__main__; print(*sys.modules)"
    )
    bare = [sys.executable, "-I", "-S", "-c", names]
    done = subprocess.run(bare, capture_output=True, text=True, env={}, check=True)
    dear = {"inspect", "dataclasses", "tempfile", "ctypes", "http.client", "socket", "ssl"}
    assert not dear & {*done.stdout.split()}
