"""dist/: written once, whole whatever ends the build, and never a stranger's file lost."""

import dataclasses
import errno
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

import pytest

from builder import manifest, store, tree
from builder.manifest import Object
from builder.problems import UserError
from builder.store import Store, Transaction

ROOT = Path(__file__).parents[1]
BARE = manifest.parse((ROOT / "tests/contract/good/release-bare.json").read_bytes())


class Signer:
    """Signs with its own name."""

    def __init__(self, name: bytes) -> None:
        self.name, self.calls = name, list[int]()

    def sign(self, files: Sequence[Path]) -> None:
        self.calls.append(len(files))
        for file in files:
            file.with_name(f"{file.name}.sig").write_bytes(self.name + file.read_bytes()[:10])

    def made(self, signature: bytes) -> bool:
        return signature.startswith(self.name)


def release(tx: Transaction, host: str, content: bytes) -> bytes:
    """Add a whole release: an object, and a manifest that names it."""
    named = tx.add("network.json", content)
    data = manifest.dump(dataclasses.replace(BARE, host=host, network=named))
    tx.release(host, data, {"origin.json": lambda: b"made of " + content})
    return data


def build(dist: Path, signer: store.Signer | None = None, **contents: bytes) -> Transaction:
    with Store(dist).transaction(signer) as tx:
        for host, content in contents.items():
            release(tx, host, content)
    return tx


def leftovers(dist: Path) -> list[str]:
    return [name for name in os.listdir(dist) if name.startswith(".staging")]


def files(dist: Path) -> dict[str, bytes | str]:
    """Everything below dist/ but staging folders, by path; links by where they lead."""
    return {
        str(path.relative_to(dist)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(dist.rglob("*"))
        if (path.is_symlink() or path.is_file()) and ".staging-" not in str(path)
    }


# What a build leaves


def test_a_release_lies_where_people_look(tmp_path: Path):
    tx = build(tmp_path / "dist", pve1=b"{}\n")
    kept, dist = tx.kept["pve1"], tmp_path / "dist"
    assert kept.new
    assert not kept.signed
    assert kept.folder == dist / "releases/pve1" / f"0001-{kept.id[:12]}"
    assert os.readlink(dist / "pve1") == f"releases/pve1/0001-{kept.id[:12]}"
    assert manifest.identity((dist / "pve1/manifest.json").read_bytes()) == kept.id
    assert tx.made == {f"{tree.digest(b'{}' + bytes([10]))}-network.json"}
    assert Store(dist).faults() == ()
    assert not leftovers(dist)


def test_objects_and_manifests_are_read_only_whatever_the_umask(tmp_path: Path):
    before = os.umask(0o077)
    try:
        build(tmp_path / "dist", Signer(b"a"), pve1=b"{}\n")
    finally:
        os.umask(before)
    for path in [*tmp_path.glob("dist/store/*"), *tmp_path.glob("dist/releases/*/*/*")]:
        assert stat.S_IMODE(path.stat().st_mode) == 0o444, path


def test_the_same_again_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first = build(tmp_path / "dist", pve1=b"1", pve2=b"2")
    for name in ("write", "mkdir", "rename", "link", "symlink", "fsync", "unlink"):
        monkeypatch.setattr(os, name, lambda *_, name=name, **__: pytest.fail(f"os.{name}"))
    again = build(tmp_path / "dist", pve1=b"1", pve2=b"2")
    assert not again.made
    assert {host: kept.folder for host, kept in again.kept.items()} == {
        host: kept.folder for host, kept in first.kept.items()
    }
    assert not any(kept.new for kept in again.kept.values())


def test_serials_count_for_each_host_and_the_link_follows(tmp_path: Path):
    dist = tmp_path / "dist"
    for content in (b"1", b"2", b"3"):
        build(dist, pve1=content)
    build(dist, pve2=b"1")
    assert [serial for serial, _ in Store(dist).history("pve1")] == [1, 2, 3]
    assert [serial for serial, _ in Store(dist).history("pve2")] == [1]
    old = build(dist, pve1=b"1").kept["pve1"]
    assert not old.new
    assert old.folder.name.startswith("0001-")
    assert Store(dist).newest("pve1") == old.folder


def test_serials_go_on_after_9999_and_past_foreign_names(tmp_path: Path):
    dist = tmp_path / "dist"
    for name in ("9999-0123456789ab", "notes", "10001", "0002-short", "12345-0123456789ab.bak"):
        (dist / "releases/pve1" / name).mkdir(parents=True)
    assert build(dist, pve1=b"1").kept["pve1"].folder.name.startswith("10000-")


def test_nothing_of_a_failed_build_is_seen(tmp_path: Path):
    dist = tmp_path / "dist"
    with pytest.raises(AssertionError, match="two releases"), Store(dist).transaction() as tx:
        release(tx, "pve1", b"1") + release(tx, "pve1", b"2")
    assert files(dist) == {".lock": b""}
    assert not leftovers(dist)


def test_an_object_twice_is_written_once(tmp_path: Path):
    with Store(tmp_path).transaction() as tx:
        assert tx.add("a", b"x") == tx.add("a", b"x")
    assert len(tx.made) == 1


def test_two_releases_may_share_a_short_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("builder.dist.SHORT", 0)
    monkeypatch.setattr(store, "SHORT", 0)
    monkeypatch.setattr("builder.dist._RELEASE", __import__("re").compile(r"(\d{4,})-()"))
    build(tmp_path, pve1=b"1")
    kept = build(tmp_path, pve1=b"2").kept["pve1"]
    assert kept.new
    assert kept.folder.name == "0002-"


@pytest.mark.parametrize("signer", [None, Signer(b"key")])
def test_what_lies_beside_a_manifest_is_made_once_and_where_it_is_missing(
    tmp_path: Path, signer: Signer | None
):
    path = build(tmp_path, signer, pve1=b"1").kept["pve1"].folder / "origin.json"
    assert path.read_bytes() == b"made of 1"
    path.chmod(0o644)
    path.write_bytes(b"of a first build")
    build(tmp_path, Signer(b"other"), pve1=b"1")
    assert path.read_bytes() == b"of a first build"
    path.unlink()
    assert not build(tmp_path, signer, pve1=b"1").kept["pve1"].new
    assert path.read_bytes() == b"made of 1"
    assert Store(tmp_path).faults() == ()


# Signatures


def test_all_manifests_are_signed_in_one_call(tmp_path: Path):
    signer = Signer(b"key")
    kept = build(tmp_path, signer, pve1=b"1", pve2=b"2").kept
    assert signer.calls == [2]
    assert all(one.signed for one in kept.values())
    assert (tmp_path / "pve1/manifest.json.sig").read_bytes().startswith(b"key")
    build(tmp_path, signer, pve1=b"1", pve2=b"2", pve3=b"3")
    assert signer.calls == [2, 1]


@pytest.mark.parametrize("before", [None, Signer(b"old")])
def test_a_signature_that_lacks_is_added_to_the_release(tmp_path: Path, before: Signer | None):
    first = build(tmp_path, before, pve1=b"1").kept["pve1"]
    kept = build(tmp_path, Signer(b"new"), pve1=b"1").kept["pve1"]
    assert kept.folder == first.folder
    assert kept.signed
    assert (kept.folder / "manifest.json.sig").read_bytes().startswith(b"new")


def test_without_a_signer_a_signature_stays(tmp_path: Path):
    build(tmp_path, Signer(b"key"), pve1=b"1")
    assert build(tmp_path, pve1=b"1").kept["pve1"].signed


def test_a_signer_that_fails_leaves_nothing(tmp_path: Path):
    class Failing(Signer):
        def sign(self, files: Sequence[Path]) -> None:
            raise UserError("no agent")

    with pytest.raises(UserError, match="no agent"):
        build(tmp_path, Failing(b""), pve1=b"1")
    assert files(tmp_path) == {".lock": b""}


# Files of the inputs' cache


def test_a_large_file_is_linked_not_copied(tmp_path: Path):
    held = tmp_path / "cache"
    held.write_bytes(b"program")
    item = Object(tree.digest(b"program"), "program.tar", 7)
    with Store(tmp_path / "dist").transaction() as tx:
        tx.put_file(item, held)
    path = Store(tmp_path / "dist").path(item)
    assert path.stat().st_ino == held.stat().st_ino
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EPERM, errno.EMLINK])
@pytest.mark.parametrize("ranges", [True, False])
def test_where_no_link_is_possible_it_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, ranges: bool
):
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    if not ranges:
        monkeypatch.setattr(
            os, "copy_file_range", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "no"))
        )
    held = tmp_path / "cache"
    held.write_bytes(b"program" * 1_000_000)
    item = Object(tree.digest(held.read_bytes()), "program.tar", 7_000_000)
    with Store(tmp_path / "dist").transaction() as tx:
        tx.put_file(item, held)
    assert Store(tmp_path / "dist").read(item) == held.read_bytes()
    assert stat.S_IMODE(held.stat().st_mode) != 0o444


def test_a_cached_file_of_another_size_is_refused(tmp_path: Path):
    held = tmp_path / "cache"
    held.write_bytes(b"prog")
    with pytest.raises(UserError, match="damaged"), Store(tmp_path / "dist").transaction() as tx:
        tx.put_file(Object(tree.digest(b"program"), "program.tar", 7), held)
    assert not leftovers(tmp_path / "dist")


# Damage


def test_a_torn_object_is_replaced(tmp_path: Path):
    item = build(tmp_path, pve1=b"content").dist
    (path,) = tmp_path.glob("store/*-network.json")
    path.unlink()
    path.write_bytes(b"con")
    assert any("bytes" in fault for fault in item.faults())
    assert len(build(tmp_path, pve1=b"content").made) == 1
    assert Store(tmp_path).faults() == ()


@pytest.mark.parametrize("held", [b"torn", b"", None])
def test_a_torn_manifest_is_replaced_in_its_place(tmp_path: Path, held: bytes | None):
    first = build(tmp_path, Signer(b"key"), pve1=b"1").kept["pve1"]
    path = first.folder / "manifest.json"
    path.unlink()
    if held is not None:
        path.write_bytes(held)
    assert Store(tmp_path).faults()
    again = build(tmp_path, Signer(b"key"), pve1=b"1").kept["pve1"]
    assert again.folder == first.folder
    assert Store(tmp_path).faults() == ()


def test_faults_names_each_kind_of_damage(tmp_path: Path):
    dist = Store(tmp_path)
    guest = manifest.parse_guest((ROOT / "tests/contract/good/guest-gateway.json").read_bytes())
    with dist.transaction() as tx:
        network = tx.add("network.json", b"{}")
        index = tx.add("a.index", manifest.dump_index(manifest.LayerIndex(())))
        tar = tx.add("a.tar", b"tar")
        layer = manifest.Layer("a", tar, index)
        node = tx.add("g.guest", manifest.dump_guest(dataclasses.replace(guest, layers=(layer,))))
        refs = (manifest.GuestRef("nginx-gateway", 101, node),)
        data = manifest.dump(
            dataclasses.replace(BARE, guests=refs, network=network, program=tar, kits=(layer,))
        )
        tx.release("pve1", data)
    assert dist.faults() == ()
    for item, told in ((tar, "a.tar is missing"), (index, "index is missing"), (node, "guest is")):
        held = dist.read(item)
        dist.path(item).unlink()
        assert told in "\n".join(dist.faults())
        dist.path(item).write_bytes(held)
        assert dist.faults() == ()
    dist.path(network).chmod(0o644)
    dist.path(network).write_bytes(b"[]")
    assert "its bytes are not those of its name" in "\n".join(dist.faults())
    with pytest.raises(UserError, match="is damaged"):
        dist.read(network)
    shutil.rmtree(tmp_path / "releases/pve1")
    (tmp_path / "releases/pve1").mkdir()
    assert "its release is gone" in "\n".join(dist.faults())
    with pytest.raises(UserError, match="is missing"):
        dist.read(Object("0" * 64, "x", 1))


# What stands in the way


def test_unknown_leftovers_break_nothing(tmp_path: Path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store/notes.txt").write_text("mine")
    (tmp_path / "store/sub").mkdir()
    (tmp_path / ".staging-file").write_text("mine")
    (tmp_path / ".staging-1-dead/releases/x").mkdir(parents=True)
    (tmp_path / "pve9").symlink_to("releases/pve9/gone")
    build(tmp_path, pve1=b"1")
    assert leftovers(tmp_path) == [".staging-file"]
    assert (tmp_path / "store/notes.txt").read_text() == "mine"


def test_a_dead_builds_staging_is_removed_by_a_build_that_has_nothing_to_do(tmp_path: Path):
    build(tmp_path, pve1=b"1")
    (tmp_path / ".staging-1-dead").mkdir()
    build(tmp_path, pve1=b"1")
    assert not leftovers(tmp_path)


def test_a_living_builds_staging_stays(tmp_path: Path):
    with Store(tmp_path).transaction() as tx:
        tx.add("a", b"a")
        build(tmp_path, pve1=b"1")
        assert len(leftovers(tmp_path)) == 1
    assert Store(tmp_path).has(Object(tree.digest(b"a"), "a", 1))


@pytest.mark.parametrize("place", ["dist", "dist/store", "dist/releases", "dist/pve1"])
def test_a_file_in_the_way_is_named_and_kept(tmp_path: Path, place: str):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text("mine")
    with pytest.raises(UserError, match=f"{tmp_path / place} is in the way"):
        build(tmp_path / "dist", pve1=b"1")
    assert (tmp_path / place).read_text() == "mine"


def test_a_folder_named_as_a_host_is_kept(tmp_path: Path):
    (tmp_path / "pve1").mkdir()
    with pytest.raises(UserError, match="pve1 is in the way"):
        build(tmp_path, pve1=b"1")


@pytest.mark.parametrize("host", ["store", "releases"])
def test_a_host_cannot_take_our_names(tmp_path: Path, host: str):
    with pytest.raises(UserError, match="cannot be named"):
        build(tmp_path, **{host: b"1"})
