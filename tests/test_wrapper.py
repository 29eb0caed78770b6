"""The first-run wrapper, run for real in small copies of the tree.

The locks of these copies hold only invoke (and one small package for the tests): pip, venv and the
index are the real ones.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TASKS = """
from invoke.tasks import task

@task
def nop(_):
    print("done")

@task
def test(_):
    import iniconfig
    print("tested")
"""
MAKING = "phoenix: making .venv"

pytestmark = pytest.mark.needs("index")


def pins(lock: str, *names: str) -> str:
    """The lines of a lock that pin the packages of these names, with their hashes."""
    text = (ROOT / lock).read_text()
    blocks = re.findall(r"^\S.*\\\n(?: +--hash.*\n)+", text, re.MULTILINE)
    return "".join(block for block in blocks if block.split("==")[0] in names)


def plant(folder: Path) -> Path:
    """A tree that `./invoke nop` runs in."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "invoke", folder)
    (folder / "tasks.py").write_text(TASKS)
    (folder / "requirements.lock").write_text(pins("requirements.lock", "invoke"))
    extra = pins("requirements-test.lock", "iniconfig")
    (folder / "requirements-test.lock").write_text(extra)
    return folder


@contextlib.contextmanager
def started(*command: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A command, as a group of its own that ends with the block."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def run(*command: str | Path, **environment: str) -> tuple[int, str, str]:
    """A command from start to end, as `ended` tells it."""
    with started(*command, **environment) as process:
        return ended(process)


OFFLINE = ("unshare", "-rn")


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `made` and `quick`, filled by the first of all workers that needs them."""
    base = tmp_path_factory.getbasetemp()
    folder = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with (folder / "wrapper.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "quick").exists():
            first_run(folder / MADE)
            blank(folder / MADE, folder / "quick")
    return folder


MADE = "a tree's [first] run"


def first_run(tree: Path) -> None:
    """The whole of it, as a user has it."""
    code, out, err = run(plant(tree) / "invoke", "nop")
    assert (code, out) == (0, "done\n"), err
    assert err.startswith(MAKING)
    assert err.count("\n") == 1


def blank(made: Path, folder: Path) -> None:
    """A `venv` module whose environments are copied instead of filled anew.

    Filling one with pip takes seconds, and nothing of the wrapper's.
    """
    pattern = shutil.ignore_patterns("invoke*", "made-in", "*.lock")
    work = folder.with_suffix(".new")
    shutil.copytree(made / ".venv", work / "blank", symlinks=True, ignore=pattern)
    (work / "venv.py").write_text(
        "import shutil, sys\n"
        "if __name__ == '__main__':\n"
        f"    shutil.copytree({str(folder / 'blank')!r}, sys.argv[-1], symlinks=True)\n"
    )
    work.rename(folder)


@pytest.fixture
def made(trees: Path) -> Path:
    """A tree after its first run; not to be changed."""
    return trees / MADE


@pytest.fixture
def quick(trees: Path) -> dict[str, str]:
    """Variables that make first runs quick, by `blank`."""
    return {"PYTHONPATH": str(trees / "quick")}


@pytest.fixture
def stuck(quick: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """Variables that have first runs wait in pip, which asks a pipe for its settings."""
    os.mkfifo(tmp_path / "settings")
    return {**quick, "PIP_CONFIG_FILE": str(tmp_path / "settings")}


@pytest.fixture
def moved(made: Path, tmp_path: Path) -> Path:
    """A tree after its first run, then copied to another folder."""
    return Path(shutil.copytree(made, tmp_path / "moved", symlinks=True))


def settle(tree: Path) -> Path:
    """Let a moved tree pass for one that was made where it is."""
    (tree / ".venv/made-in").write_text(f"{tree}\n")
    return tree


def remade(tree: Path, quick: dict[str, str]) -> bool:
    """Does a run make .venv anew, and well?"""
    code, out, err = run(tree / "invoke", "nop", **quick)
    assert (code, out) == (0, "done\n"), err
    assert not list(tree.glob(".venv.*"))
    return err.startswith(MAKING)


@pytest.mark.needs("namespaces")
def test_later_runs_are_offline_and_silent(made: Path, tmp_path: Path) -> None:
    assert run(*OFFLINE, made / "invoke", "nop") == (0, "done\n", "")


def test_from_anywhere(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to(made / "invoke")
    Path("chain").symlink_to("link")
    for command in ("./link", "./chain", os.path.relpath(made / "invoke")):
        assert run(command, "nop", CDPATH="/tmp") == (0, "done\n", "")


def test_exit_code_is_handed_on(made: Path) -> None:
    code, _, err = run(made / "invoke", "nosuch")
    assert (code, err) == (1, "No idea what 'nosuch' is!\n")


def test_plain_invoke_of_the_environment(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    code, out, _ = run("sh", "-c", ". .venv/bin/activate && echo $VIRTUAL_ENV && invoke nop")
    assert (code, out) == (0, f"{made}/.venv\ndone\n")


def test_moved_folder(moved: Path, quick: dict[str, str]) -> None:
    assert remade(moved, quick)
    text = (moved / ".venv/bin/invoke").read_text()
    assert f"{moved}/.venv/bin/python" in text
    assert not remade(moved, quick)


def test_changed_lock(moved: Path, quick: dict[str, str]) -> None:
    with settle(moved).joinpath("requirements.lock").open("a") as lock:
        lock.write("# another\n")
    assert remade(moved, quick)


def test_python_that_an_upgrade_removed(moved: Path, quick: dict[str, str]) -> None:
    settle(moved)
    for name in (".venv/bin/python", ".venv/bin/python3"):
        (moved / name).unlink()
        (moved / name).symlink_to("/usr/bin/python3.10")
    assert remade(moved, quick)


def test_environment_of_another_make(tmp_path: Path, quick: dict[str, str]) -> None:
    tree = plant(tmp_path / "tree")
    (tree / ".venv/bin").mkdir(parents=True)
    assert remade(tree, quick)


def test_failed_change_leaves_the_old(moved: Path, quick: dict[str, str]) -> None:
    lock = settle(moved) / "requirements.lock"
    good = lock.read_text()
    lock.write_text(re.sub(r"sha256:\w{8}", "sha256:00000000", good))
    code, out, err = run(moved / "invoke", "nop", **quick)
    assert (code, out) == (1, "")
    assert "not the one that was locked" in err
    assert "git checkout" in err
    assert not list(moved.glob(".venv.*"))
    lock.write_text(good)
    assert not remade(moved, quick)


def test_what_testing_needs_comes_with_the_first_test(moved: Path, quick: dict[str, str]) -> None:
    code, out, err = run(settle(moved) / "invoke", "test", **quick)
    assert (code, out) == (0, "tested\n"), err
    assert "requirements-test.lock" in err
    assert not remade(moved, quick)
    (moved / ".venv/made-in").write_text("/elsewhere\n")
    assert remade(moved, quick)
    assert run(moved / "invoke", "test") == (0, "tested\n", "")


def wait_for(path: Path) -> None:
    """Return once `path` exists."""
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.01)


@pytest.mark.parametrize(
    "stage",
    [".venv.new/bin", ".venv.new/requirements.lock"],
    ids=["venv", "packages"],
)
def test_killed_then_two_at_once(
    tmp_path: Path, quick: dict[str, str], stuck: dict[str, str], stage: str
) -> None:
    tree = plant(tmp_path / "tree")
    with started(tree / "invoke", "nop", **stuck):  # killed at the end of the block
        wait_for(tree / stage)
    assert not (tree / ".venv").exists()

    again = (tree / "invoke", "nop")
    with started(*again, **quick) as one, started(*again, **quick) as other:
        ends = [ended(one), ended(other)]
    assert [end[:2] for end in ends] == [(0, "done\n")] * 2, ends
    assert "".join(err for _, _, err in ends).count(MAKING) == 1
    assert not list(tree.glob(".venv.*"))


def test_interrupted(tmp_path: Path, quick: dict[str, str]) -> None:
    tree = plant(tmp_path / "tree")
    with started(tree / "invoke", "nop", **quick) as first:
        wait_for(tree / ".venv.new/requirements.lock")
        os.killpg(first.pid, signal.SIGINT)
        assert ended(first)[0] == 130
    assert not list(tree.glob(".venv*"))


def only(folder: Path, **scripts: str) -> Mapping[str, str]:
    """A PATH of the wrapper's own tools and these scripts, without any Python."""
    folder.mkdir()
    for name in ("sh", "cmp", "readlink", "dirname", "rm", "mv", "cp", "tail", "sed", "grep",
                 "printf", "flock", "df"):  # fmt: skip
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder)}


def refusal(tree: Path, path: Mapping[str, str]) -> str:
    """What a first run says that does not come about and leaves nothing behind."""
    code, out, err = run(tree / "invoke", "nop", **path)
    assert (code, out) == (1, "")
    assert not list(tree.glob(".venv*"))
    return err


def real_python() -> str:
    """The path of the interpreter that the wrapper would find."""
    found = shutil.which("python3")
    assert found
    return subprocess.run(
        [found, "-c", "import sys; print(sys.executable)"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip


def test_no_python(tmp_path: Path) -> None:
    err = refusal(plant(tmp_path / "tree"), only(tmp_path / "bin"))
    assert err == ("phoenix: there is no python3 here\n    apt-get install python3 python3-venv\n")


def test_old_python(tmp_path: Path) -> None:
    old = "case $2 in *print*) echo 3.9 ;; *) exit 1 ;; esac"
    err = refusal(plant(tmp_path / "tree"), only(tmp_path / "bin", python3=old))
    assert "Python 3.9 is too old: 3.11 or newer is needed" in err


def test_old_python_beside_a_newer(tmp_path: Path, quick: dict[str, str]) -> None:
    old = "case $2 in *print*) echo 3.9 ;; *) exit 1 ;; esac"
    path = only(tmp_path / "bin", python3=old, **{"python3.11": f'exec {real_python()} "$@"'})
    tree = plant(tmp_path / "tree")
    assert run(tree / "invoke", "nop", **path, **quick)[:2] == (0, "done\n")


def test_no_venv_module(tmp_path: Path) -> None:
    # The wrapper asks this Python for its own path; that it names itself keeps it in the way.
    fake = f"""case $2 in
*realpath*) echo "$0" ;;
*ensurepip*) exit 1 ;;
*) exec {real_python()} "$@" ;;
esac"""
    err = refusal(plant(tmp_path / "tree"), only(tmp_path / "bin", python3=fake))
    assert err == ("phoenix: Python's venv module is missing\n    apt-get install python3-venv\n")


@pytest.mark.needs("namespaces")
def test_no_network(tmp_path: Path, quick: dict[str, str]) -> None:
    tree = plant(tmp_path / "tree")
    code, _, err = run(
        *OFFLINE, tree / "invoke", "nop", **quick, PIP_CACHE_DIR=str(tmp_path / "cache")
    )
    assert code == 1
    assert "pip does not reach its package index" in err
    assert not list(tree.glob(".venv*"))


@pytest.mark.needs("namespaces")
@pytest.mark.parametrize("full", ["tree", "temporary"])
def test_full_disk(tmp_path: Path, quick: dict[str, str], full: str) -> None:
    """The tree's own file system is full from the start, or the one that pip unpacks in, later."""
    tree = plant(tmp_path / "tree")
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=100k none "$2" && cp -r "$1"/. "$2" && exec "$3/invoke" nop'
    variables = {**quick, "TMPDIR": str(small), "PIP_NO_CACHE_DIR": "1"}
    where = small if full == "tree" else tree
    shell = ("unshare", "-rm", "sh", "-c", script, "sh")
    code, _, err = run(*shell, tree, small, where, **variables)
    assert code == 1
    assert "phoenix: the disk is full" in err
    assert not list(tree.glob(".venv*"))


@pytest.mark.needs("namespaces")
def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tree = plant(tmp_path / "tree")
    script = 'mount -B "$1" "$1" && mount -o remount,bind,ro "$1" && exec "$1/invoke" nop'
    code, _, err = run("unshare", "-rm", "sh", "-c", script, "sh", tree)
    assert code == 1
    assert f"the folder {tree} is not writable" in err
