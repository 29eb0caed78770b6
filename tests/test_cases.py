"""Golden cases: tests/cases/NAME/configs, and in expected/HOST every file that follows from it.

A file that goes into an overlay as it is stands there as "= overlays/…".

`PHOENIX_WRITE_CASES=1 ./invoke test -k cases` writes them anew; what changed is git's to show.
"""

from __future__ import annotations

import os
import shutil
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
    if p.is_file() and p.suffix != ".j2"
}


def _expected(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_case_is_as_expected(case: Path) -> None:
    made = {}
    for host, network in networks(case).items():
        for path, (data, _) in files(network).items():
            made[f"{host}/{path}"] = FIXED.get(data, data)
    if os.environ.get("PHOENIX_WRITE_CASES"):
        shutil.rmtree(case / "expected", ignore_errors=True)
        for path, data in made.items():
            (case / "expected" / path).parent.mkdir(parents=True, exist_ok=True)
            (case / "expected" / path).write_bytes(data)
    expected = _expected(case / "expected")
    assert sorted(made) == sorted(expected)
    for path, data in made.items():
        assert data.decode() == expected[path].decode(), path


@pytest.mark.parametrize("root", [ROOT, *CASES], ids=lambda p: p.name)
def test_two_plans_are_the_same_bytes(root: Path) -> None:
    first = {name: plan(network, PROGRAMS) for name, network in networks(root).items()}
    second = {name: plan(network, PROGRAMS) for name, network in networks(root).items()}
    assert first == second
    assert all(p.manifest for p in first.values())


def test_a_changed_file_is_seen(tmp_path: Path) -> None:
    """The twin: one changed word of a configuration changes what is made."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    site = tmp_path / "configs/site.yaml"
    site.write_text(site.read_text().replace("port: 8080", "port: 8081"))
    assert load(tmp_path) != load(ROOT)
    before, after = networks(ROOT)["pve1"], networks(tmp_path)["pve1"]
    assert plan(before, PROGRAMS).manifest != plan(after, PROGRAMS).manifest
