"""Golden cases: tests/cases/NAME/configs, and in expected/HOST every file that follows from it.

A file that goes into an overlay as it is stands there as "= overlays/…".

`PHOENIX_WRITE_CASES=1 ./invoke test -k cases` writes them anew; what changed is git's to show.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.load import load
from builder.plan import plan
from tests.rendered import PROGRAMS, files, networks

ROOT = Path(__file__).parents[1]
CASES = sorted(p for p in (ROOT / "tests/cases").iterdir() if p.is_dir())
FIXED = {
    p.read_bytes(): f"= {p.relative_to(ROOT)}\n".encode()
    for p in sorted((ROOT / "overlays").rglob("*"))
    if p.suffix not in (".j2", ".pyc") and p.is_file()
}


def _expected(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def _made(case: Path) -> dict[str, bytes]:
    return {
        f"{host}/{path}": FIXED.get(data, data)
        for host, network in networks(case).items()
        for path, (data, _) in files(network).items()
    }


def _compare(made: dict[str, bytes], folder: Path) -> None:
    expected = _expected(folder)
    assert sorted(made) == sorted(expected)
    for path, data in made.items():
        assert data.decode() == expected[path].decode(), path


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_case_is_as_expected(case: Path) -> None:
    made = _made(case)
    if os.environ.get("PHOENIX_WRITE_CASES"):
        shutil.rmtree(case / "expected", ignore_errors=True)
        for path, data in made.items():
            (case / "expected" / path).parent.mkdir(parents=True, exist_ok=True)
            (case / "expected" / path).write_bytes(data)
    _compare(made, case / "expected")


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes() + b"#"),
        Path.unlink,
        lambda path: shutil.copy(path, path.with_name("another")),
    ],
    ids=["changed", "gone", "added"],
)
def test_another_golden_is_seen(tmp_path: Path, change: Callable[[Path], object]) -> None:
    """The twins: of what is compared, one file is not as it was made."""
    made = {"host/a": b"a\n", "host/b": b"b\n"}
    for path, data in made.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    _compare(made, tmp_path)
    change(tmp_path / "host/a")
    with pytest.raises(AssertionError):
        _compare(made, tmp_path)


@pytest.mark.parametrize("root", [ROOT, *CASES], ids=lambda p: p.name)
def test_two_plans_are_the_same_bytes(root: Path) -> None:
    first = {name: plan(network, PROGRAMS, b"") for name, network in networks(root).items()}
    second = {name: plan(network, PROGRAMS, b"") for name, network in networks(root).items()}
    assert first == second
    assert all(p.manifest for p in first.values())


def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    """The twin: one changed word of a configuration changes what is made."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    site = tmp_path / "configs/site.yaml"
    site.write_text(site.read_text().replace("port: 8080", "port: 8081"))
    assert load(tmp_path) != load(ROOT)
    before, after = networks(ROOT)["pve1"], networks(tmp_path)["pve1"]
    assert plan(before, PROGRAMS, b"").manifest != plan(after, PROGRAMS, b"").manifest
