"""Nothing is left out without a word, and under CI=true nothing is left out; shown by runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.lab import packages as lab_packages
from builder.problems import UserError
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


def stand_in(folder: Path, name: str, script: str) -> None:
    """A program that keeps its arguments in the file `log`, then runs a script."""
    place = folder / "bin" / name
    place.write_text(f'#!/bin/sh\necho "$@" >>{folder}/log\n{script}\n')
    place.chmod(0o755)


def brings(folder: Path, name: str) -> str:
    """A script that makes a program appear."""
    return f"printf '#!/bin/sh' >{folder}/bin/{name}; chmod +x {folder}/bin/{name}"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine where only `tool`, of package `tools`, is needed and not there; as root."""
    monkeypatch.setattr(needs, "NEEDS", {"tool": needs.program("tool", "tools")})
    monkeypatch.setattr(needs, "SBIN", str(tmp_path / "sbin"))
    monkeypatch.setattr(needs, "POLICY", tmp_path / "policy-rc.d")
    monkeypatch.setattr(needs, "_SERVICES", {"tool": ("tool.service", "tool.socket")})
    monkeypatch.setattr(lab_packages, "lacking", list)
    monkeypatch.setattr(lab_packages, "ensure", lambda _: None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    needs.missing.cache_clear()
    (tmp_path / "bin").mkdir()
    stand_in(tmp_path, "systemctl", "")
    return tmp_path


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines()


PATIENT = "--quiet --option=DPkg::Lock::Timeout=600"
INSTALL = f"{PATIENT} install --yes --no-install-recommends tools"


def test_root_installs_saying_so_first(bare: Path, capfd: pytest.CaptureFixture[str]) -> None:
    appears = brings(bare, "tool")
    lists = bare / "lists"
    script = f'test -e {lists} && {appears} || test "$3" = update && >{lists}'
    stand_in(bare, "apt-get", script)
    needs.ensure()
    assert log(bare)[:3] == [INSTALL, f"{PATIENT} update", INSTALL]
    assert not needs.missing("tool")
    assert capfd.readouterr().err == "tests: installing what the tests need, with apt-get: tools\n"


def test_others_are_told(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    stand_in(bare, "apt-get", "exit 1")
    needs.ensure()
    assert not (bare / "log").exists()
    assert "apt-get install tools" in capfd.readouterr().err


def test_failed_install_shows_why(bare: Path, capfd: pytest.CaptureFixture[str]) -> None:
    stand_in(bare, "apt-get", "echo E: no such package; exit 100")
    needs.ensure()
    assert "E: no such package" in capfd.readouterr().err
    assert not needs.POLICY.exists()


def test_what_labs_need_is_installed_before_tests_run_side_by_side(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(needs, "NEEDS", {})
    monkeypatch.setattr(lab_packages, "lacking", lambda: ["dockerd"])

    def ensure(say: Callable[[str], None]) -> None:
        assert started(needs.POLICY) == 101
        say("installing docker.io")
        raise UserError("apt-get brought no dockerd", "apt-get install docker.io")

    monkeypatch.setattr(lab_packages, "ensure", ensure)
    needs.ensure()
    told = capfd.readouterr().err
    assert "tests: installing docker.io\n" in told
    assert "apt-get brought no dockerd\napt-get install docker.io" in told


def started(policy: Path) -> int:
    """What the policy says about a start: 101 is no, 0 yes."""
    return subprocess.run([policy, "ssh", "start"]).returncode


@pytest.mark.parametrize("before", ["", "#!/bin/sh\nexit 104\n"], ids=["none", "own"])
def test_nothing_of_it_is_started(bare: Path, before: str) -> None:
    """Neither while it is installed nor at boot; a policy of the machine's own comes back."""
    if before:
        needs.POLICY.write_text(before)
        needs.POLICY.chmod(0o700)
    asks = f"{needs.POLICY} tool start; echo $? >{bare}/told"
    stand_in(bare, "apt-get", f"{asks}; {brings(bare, 'tool')}")
    needs.ensure()
    assert (bare / "told").read_text() == "101\n"
    assert log(bare)[1:] == ["disable --quiet tool.service", "disable --quiet tool.socket"]
    assert [path.name for path in bare.glob("policy*")] == (["policy-rc.d"] if before else [])
    assert not before or started(needs.POLICY) == 104


def test_what_was_there_goes_on(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bare / "sbin").mkdir()
    (bare / "sbin/sshd").touch(0o755)
    monkeypatch.setattr(needs, "_SERVICES", {"sshd": ("ssh.service",)})
    stand_in(bare, "apt-get", brings(bare, "tool"))
    needs.ensure()
    assert log(bare) == [INSTALL]


@pytest.mark.parametrize("before", ["", "#!/bin/sh\nexit 104\n"], ids=["none", "own"])
def test_one_that_was_killed_is_no_hindrance(bare: Path, before: str) -> None:
    """What it left lets all start as before, and the next one takes it away."""
    if before:
        needs.POLICY.write_text(before)
        needs.POLICY.chmod(0o755)
    script = (
        "import os; from pathlib import Path; from tests import needs\n"
        f"needs.POLICY = Path({str(needs.POLICY)!r})\n"
        "with needs._refusing():\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT)
    allowed = 104 if before else 0
    assert "needs.py" in needs.POLICY.read_text()
    assert started(needs.POLICY) == allowed
    with needs._refusing():
        assert started(needs.POLICY) == 101
    assert needs.POLICY.exists() == bool(before)
    assert not before or needs.POLICY.read_text() == before
