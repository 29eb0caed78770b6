"""Nothing is left out without a word, and under CI=true nothing is left out; shown by runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).resolve().parent.parent
TESTS = """
import pytest

@pytest.mark.needs("zstd")
def test_with_program(): ...

@pytest.mark.needs("zstd")
def test_with_program_too(): ...

def test_with_nothing(): ...

def test_by_itself():
    pytest.skip("no accelerator")

@pytest.mark.xfail
def test_known_fault():
    assert False

@pytest.mark.deep
def test_long(): ...
"""


def pytest_in(folder: Path, *options: str, ci: bool = False) -> tuple[int, list[str]]:
    """Run TESTS where no program is found; exit code, and the last lines."""
    (folder / "test_it.py").write_text(TESTS)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers =\n    deep\n    needs\n")
    (folder / "without.py").write_text(
        "from tests import needs\n"
        "needs.NEEDS['zstd'] = needs.Need(lambda: False, 'apt-get install zstd', 'zstd')\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "without", *options],
        cwd=folder,
        env={**os.environ, "CI": str(ci).lower(), "PYTHONPATH": f"{ROOT}:{folder}"},
        capture_output=True,
        text=True,
    )
    return done.returncode, [line for line in done.stdout.splitlines() if line]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["one", "two"])
def test_what_could_not_run_is_named(tmp_path: Path, workers: tuple[str, ...]) -> None:
    code, lines = pytest_in(tmp_path, *workers)
    assert code == 0
    assert "could not run here" in lines[-4], lines
    assert lines[-3:-1] == [
        "2 tests: needs zstd (apt-get install zstd)",
        "1 test: no accelerator",
    ]
    assert "1 passed, 3 skipped" in lines[-1]


def test_in_ci_it_fails(tmp_path: Path) -> None:
    code, lines = pytest_in(tmp_path, ci=True)
    assert code == 1
    assert "1 failed, 1 passed" in lines[-1]
    assert "1 xfailed, 2 errors" in lines[-1]
    assert "needs zstd (apt-get install zstd)" in "\n".join(lines)


def test_skipped_module_fails_in_ci(tmp_path: Path) -> None:
    (tmp_path / "test_other.py").write_text("import pytest\npytest.importorskip('nosuch')\n")
    code, lines = pytest_in(tmp_path, "test_other.py", ci=True)
    assert code != 0
    assert "could not import 'nosuch'" in "\n".join(lines)


def test_deep_runs_by_its_flag(tmp_path: Path) -> None:
    assert "1 deselected" in pytest_in(tmp_path)[1][-1]
    code, lines = pytest_in(tmp_path, "--deep", "-k", "long")
    assert code == 0
    assert "1 passed" in lines[-1]


def test_unknown_need_is_an_error() -> None:
    with pytest.raises(KeyError):
        needs.missing("nosuch")


def apt_get(folder: Path, script: str) -> Path:
    """A stand-in for apt-get that keeps its arguments and makes programs appear."""
    (folder / "bin").mkdir()
    (folder / "bin/apt-get").write_text(f'#!/bin/sh\necho "$@" >>{folder}/log\n{script}\n')
    (folder / "bin/apt-get").chmod(0o755)
    return folder / "bin"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine where only `tool`, of package `tools`, is needed and not there."""
    monkeypatch.setattr(needs, "NEEDS", {"tool": needs.program("tool", "tools")})
    monkeypatch.setattr(needs, "SBIN", str(tmp_path / "sbin"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    needs.missing.cache_clear()
    return tmp_path


def test_root_installs_saying_so_first(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    appears = f"printf '#!/bin/sh' >{bare}/bin/tool; chmod +x {bare}/bin/tool"
    apt_get(bare, f'test -e {bare}/lists && {appears} || test "$2" = update && >{bare}/lists')
    needs.ensure()
    install = "--quiet install --yes --no-install-recommends tools\n"
    assert (bare / "log").read_text() == f"{install}--quiet update\n{install}"
    assert not needs.missing("tool")
    assert capfd.readouterr().err == "tests: installing what the tests need, with apt-get: tools\n"


def test_others_are_told(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    apt_get(bare, "exit 1")
    needs.ensure()
    assert not (bare / "log").exists()
    assert "apt-get install tools" in capfd.readouterr().err


def test_failed_install_shows_why(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    apt_get(bare, "echo E: no such package; exit 100")
    needs.ensure()
    assert "E: no such package" in capfd.readouterr().err
