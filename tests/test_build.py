"""`invoke build` as a whole: what it says, what it spares, what any end of it leaves in dist/."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from builder import build, commands, disk
from builder.dist import Dist
from builder.network import Network
from tests import building
from tests.building import assert_valid, built, edit, environment, invoke
from tests.test_store_ends import counted, exit_code

DIGEST = re.compile("[0-9a-f]{64}")


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its inputs in the cache, its modules compiled, and no dist/."""
    root = building.project(tmp_path_factory.mktemp("pristine"))
    built(root)
    shutil.rmtree(root / "dist")
    return root


@pytest.fixture
def root(pristine: Path, tmp_path: Path) -> Path:
    shutil.copytree(pristine.parent, tmp_path / "copy")
    return tmp_path / "copy" / pristine.name


@pytest.fixture
def done(root: Path) -> Path:
    """A project that was built."""
    built(root)
    return root


def made(said: dict[str, Any]) -> dict[str, int]:
    return {host: each["built"] for host, each in said.items()}


def releases(root: Path) -> dict[str, str]:
    return {host: each["release"] for host, each in built(root).items()}


# What it says.


def test_what_a_program_reads(root: Path) -> None:
    said = built(root)
    assert list(said) == ["lab", "pve1"]
    for host in said.values():
        assert host.keys() == {
            *("release", "folder", "signed", "built", "artifacts", "plain", "unready")
        }
        assert DIGEST.fullmatch(host["release"])
        assert (root / host["folder"] / "manifest.json").is_file()
        assert host["built"] > 0
        assert all(a.keys() == {"name", "kind", "digest"} for a in host["artifacts"])
        assert all(DIGEST.fullmatch(a["digest"]) for a in host["artifacts"])
        assert host["signed"] is False
    assert said["pve1"]["built"] == len(said["pve1"]["artifacts"])
    assert_valid(root)


def test_a_second_build_says_the_same_and_makes_nothing(done: Path) -> None:
    before = (done / "dist/.stamp").stat().st_ino
    said = built(done)
    assert made(said) == {"lab": 0, "pve1": 0}
    assert (done / "dist/.stamp").stat().st_ino == before, "not by the fast path"
    (done / "dist/.stamp").unlink()
    assert built(done) == said


def test_what_a_person_reads_is_the_same_by_the_fast_path(done: Path) -> None:
    fast = invoke(done, "build")
    (done / "dist/.stamp").unlink()
    slow = invoke(done, "build")
    assert fast.stdout == slow.stdout
    assert re.search(r"^pve1  [0-9a-f]{12}  dist/releases/pve1/0001-", fast.stdout, re.MULTILINE)
    assert "none new, unsigned" in fast.stdout
    assert "ca.init" in fast.stdout


def test_only_the_hosts_that_are_asked_for(root: Path) -> None:
    assert list(built(root, "--host", "pve1")) == ["pve1"]
    assert not (root / "dist/lab").exists()
    assert list(built(root, "--host", "lab,pve1")) == ["lab", "pve1"]
    assert made(built(root, "--host", "pve1")) == {"pve1": 0}


def test_an_unknown_host_is_told_also_after_a_build(done: Path) -> None:
    ran = invoke(done, "build", "--host", "pve9")
    assert ran.returncode == 1
    assert "'pve9' is not in configs/hosts" in ran.stderr


# What it spares.


def test_one_line_makes_few_artifacts(done: Path) -> None:
    edit(done, "hosts/pve1.yaml", "memory: 4GiB", "memory: 5GiB")
    said = made(built(done))
    assert 1 <= said["pve1"] <= 3
    assert said["lab"] <= 3
    assert_valid(done)


def test_only_the_changed_host_is_planned(done: Path) -> None:
    edit(done, "hosts/lab.yaml", "gateway: 198.18.0.1}", "gateway: 198.18.0.2}")
    ran = invoke(done, "build")
    assert "building lab" in ran.stderr
    assert "building pve1" not in ran.stderr


def test_a_touched_file_builds_and_makes_nothing(done: Path) -> None:
    before = releases(done)
    (done / "configs/site.yaml").touch()
    ran = invoke(done, "build")
    assert "reading configs/" in ran.stderr
    assert "building" not in ran.stderr
    assert releases(done) == before
    assert len(Dist(done / "dist").history("pve1")) == 1


def test_other_code_is_seen(done: Path) -> None:
    with (done / "overlays/common/bin/phoenix-names").open("a") as file:
        file.write("# another line\n")
    before = built(done)
    assert before["pve1"]["built"] > 0


def test_there_and_back_is_the_same_release(done: Path) -> None:
    first = releases(done)
    edit(done, "hosts/pve1.yaml", "memory: 4GiB", "memory: 5GiB")
    assert releases(done) != first
    edit(done, "hosts/pve1.yaml", "memory: 5GiB", "memory: 4GiB")
    assert releases(done) == first


# What was taken from dist/ or from configs/.


def test_an_object_that_was_removed_comes_back(done: Path) -> None:
    objects = sorted((done / "dist/store").iterdir())
    for path in objects[:: len(objects) // 3]:
        path.unlink()
        assert invoke(done, "build").returncode == 0
        assert path.is_file()
    assert_valid(done)


@pytest.mark.parametrize("name", ["store", "releases", "pve1", ".memo", ".stamp", ""])
def test_whatever_was_removed_comes_back(done: Path, name: str) -> None:
    before, path = releases(done), done / "dist" / name
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    assert releases(done) == before
    assert_valid(done)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"format": 1}', b"\xff"])
@pytest.mark.parametrize("name", [".memo", ".stamp"])
def test_a_damaged_memory_is_none(done: Path, name: str, data: bytes) -> None:
    before = releases(done)
    (done / "dist" / name).write_bytes(data)
    (done / "configs/site.yaml").touch()
    assert releases(done) == before


def test_a_host_that_is_gone_is_not_told_and_its_release_stays(done: Path) -> None:
    (done / "configs/hosts/lab.yaml").unlink()
    assert list(built(done)) == ["pve1"]
    assert (done / "dist/lab").is_dir()


def test_a_host_that_is_gone_is_forgotten(done: Path) -> None:
    def known() -> set[str]:
        return set(json.loads((done / "dist/.memo").read_bytes())["hosts"])

    (done / "configs/hosts/lab.yaml").unlink()
    built(done, "--host", "pve1")
    assert known() == {"lab", "pve1"}, "a build of some hosts forgets none"
    built(done)
    assert known() == {"pve1"}


def test_a_host_that_is_new_is_built(done: Path) -> None:
    (done / "configs/hosts/new.yaml").write_text("host: new\nlike: pve1\nreach: new\n")
    assert made(built(done)).keys() == {"lab", "new", "pve1"}


@pytest.mark.needs("ssh-keygen")
def test_a_key_that_is_made_signs_what_was_built(done: Path) -> None:
    assert invoke(done, "key.init", "--no-passphrase").returncode == 0
    said = built(done)
    assert [host["signed"] for host in said.values()] == [True, True]
    assert made(said) == {"lab": 0, "pve1": 0}
    assert built(done) == said
    (done / "dist/pve1/manifest.json.sig").unlink()
    assert built(done)["pve1"]["signed"]
    assert (done / "dist/pve1/manifest.json.sig").is_file()


@pytest.mark.parametrize("name", ["dist", "configs"])
def test_a_file_in_the_place_of_a_folder(root: Path, name: str) -> None:
    shutil.rmtree(root / name, ignore_errors=True)
    (root / name).write_text("")
    ran = invoke(root, "build")
    assert ran.returncode == 1
    expected = {"dist": "/dist is in the way\n", "configs": "there is no folder configs/\n"}
    assert expected[name] in ran.stderr


# However it ends.


def test_two_at_once(root: Path) -> None:
    words = building.command("build")
    both = [
        subprocess.Popen(words, cwd=root, env=environment(root), stderr=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [child.wait() for child in both] == [0, 0]
    assert_valid(root)
    assert made(built(root)) == {"lab": 0, "pve1": 0}


def test_two_at_once_of_different_configurations(root: Path) -> None:
    words = building.command("build")
    for memory in range(5, 7):
        first = subprocess.Popen(words, cwd=root, env=environment(root), stderr=subprocess.DEVNULL)
        time.sleep(0.05 * memory)
        edit(root, "hosts/pve1.yaml", f"memory: {memory - 1}GiB", f"memory: {memory}GiB")
        second = invoke(root, "build")
        assert (first.wait(), second.returncode) == (0, 0)
        assert_valid(root)
        said = built(root)["pve1"]
        shutil.rmtree(root / "dist")
        assert built(root)["pve1"]["release"] == said["release"]


def test_each_network_is_derived_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    derived: list[str] = []
    derive = build.derive

    def counting(*arguments: Any) -> Network:
        network = derive(*arguments)
        derived.append(network.host.name)
        return network

    monkeypatch.setattr(build, "derive", counting)
    commands._build([], False)
    assert derived == ["lab", "pve1"]


@pytest.fixture
def here(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, to be built in this process; nothing waits for the disk."""
    monkeypatch.setattr(disk, "flush", lambda _: None)
    monkeypatch.setattr(commands, "ROOT", root)
    for name, value in environment(root).items():
        monkeypatch.setenv(name, value)
    return root


def run() -> str:
    """The id of the release that a build in this process makes."""
    return commands._build(["pve1"], False)[0].release


def killed(last: int) -> int:
    """The exit code of a build that is killed at one of its calls that change something."""

    def die(index: int, *_: object) -> None:
        if index == last:
            os._exit(9)

    def meddled() -> None:
        with counted(die):
            run()

    return exit_code(meddled)


def test_killed_at_any_moment(here: Path) -> None:
    whole = run()
    shutil.rmtree(here / "dist")
    with counted(lambda *_: None) as count:
        run()
    assert count[0] > 100
    # Among them the last ones, which make releases and links.
    for last in (*range(3, count[0], count[0] // 6), *range(count[0] - 12, count[0] - 2, 3)):
        shutil.rmtree(here / "dist")
        assert killed(last) == 9, last
        assert not Dist(here / "dist").faults()
        assert run() == whole
        assert_valid(here)


def test_interrupted(root: Path) -> None:
    for number in range(30):
        text = (root / "configs/hosts/pve1.yaml").read_text()
        path = root / f"configs/hosts/more{number}.yaml"
        text = text.replace("reach: root@192.168.1.10", f"reach: more{number}")
        path.write_text(text.replace("host: pve1", f"host: more{number}"))
    child = subprocess.Popen(
        building.command("build"),
        cwd=root,
        env=environment(root),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("building"):
            break
    child.send_signal(signal.SIGINT)
    rest = child.stderr.read()
    assert child.wait() == 130
    assert rest.endswith("interrupted\n")
    assert [p.name for p in (root / "dist").iterdir() if not p.name.startswith(".")] == ["store"]
    assert_valid(root)
    assert invoke(root, "build").returncode == 0


FULL = """
set -eu
mkdir -p dist
mount -t tmpfs -o size=300k tmpfs dist
if "$@" build 2>&1; then echo was full; exit 8; else echo "code $?"; fi
ls -A dist
echo ---
mount -o remount,size=50m dist
"$@" build
"$@" build --json
cp -a dist kept
"""

READ_ONLY = """
set -eu
mkdir -p dist
mount -t tmpfs tmpfs dist
[ -z "${BUILT-}" ] || cp -a kept/. dist/
mount -o remount,ro dist
"$@" build 2>&1 || echo "code $?"
"""


def mounted(root: Path, script: str, **more: str) -> str:
    """What a script says that mounts something on dist/ in a namespace of its own."""
    command = ["unshare", "-rm", "sh", "-c", script, "sh", *building.command()]
    environ = {**environment(root, **more), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.needs("unshare", "namespaces")
def test_a_full_disk(root: Path) -> None:
    first, _, second = mounted(root, FULL).partition("---\n")
    assert "error: no space left in" in first
    assert "free some space" in first
    assert "code 1" in first
    assert "pve1" not in first.partition("code 1")[2], "a release of which objects are missing"
    assert "artifacts new" in second
    shutil.rmtree(root / "dist")
    (root / "kept").rename(root / "dist")
    assert_valid(root)


@pytest.mark.needs("unshare", "namespaces")
def test_a_read_only_dist(root: Path) -> None:
    said = mounted(root, READ_ONLY)
    assert re.search("error: .*/dist.* cannot be written", said)
    assert "let this user write" in said
    assert "code 1" in said


@pytest.mark.needs("unshare", "namespaces")
def test_a_read_only_dist_in_which_all_is_built(done: Path) -> None:
    shutil.copytree(done / "dist", done / "kept", symlinks=True)
    said = mounted(done, READ_ONLY, BUILT="1")
    assert "none new, unsigned" in said
    assert "code" not in said
