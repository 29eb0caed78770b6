"""dist/: written once, whole whatever ends the build, and never a stranger's file lost."""

import dataclasses
import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder import disk, manifest, store, tree
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
    tx.release(host, data)
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


# Any call may fail, or be the last

CALLS = (
    *("open", "write", "mkdir", "rename", "link", "symlink", "fsync", "fchmod", "chmod"),
    *("unlink", "rmdir"),
)
Meddle = Callable[[int, str, tuple[Any, ...]], object]


@contextmanager
def counted(meddle: Meddle) -> Iterator[list[int]]:
    """Call `meddle(index, name, arguments)` before each call that changes something on disk."""
    count, kept = [0], {name: getattr(os, name) for name in CALLS}
    flush = disk.flush

    def wrap(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*args: Any, **kwargs: Any) -> Any:
            count[0] += 1
            meddle(count[0], name, args)
            return real(*args, **kwargs)

        return inner

    for name, real in kept.items():
        setattr(os, name, wrap(name, real))
    disk.flush = wrap("flush", flush)
    try:
        yield count
    finally:
        for name, real in kept.items():
            setattr(os, name, real)
        disk.flush = flush


def scenario(dist: Path) -> None:
    """A build that does all there is to do: new, changed, damaged, to be signed, to be linked."""
    with Store(dist).transaction(Signer(b"new")) as tx:
        for host, content in {"a": b"1", "b": b"2", "c": b"3", "d": b"44"}.items():
            release(tx, host, content)
        source = dist.parent / "cache"
        tx.put_file(Object(tree.digest(source.read_bytes()), "program.tar", 7), source)


def prepared(root: Path) -> Path:
    """A dist/ as an earlier build left it, with damage."""
    shutil.rmtree(root, ignore_errors=True)
    dist = root / "dist"
    root.mkdir()
    (root / "cache").write_bytes(b"program")
    build(dist, Signer(b"old"), a=b"1", b=b"1")
    build(dist, c=b"3")
    torn = Store(dist).history("c")[0][1] / "manifest.json"
    torn.chmod(0o644)
    torn.write_bytes(b"{")
    (dist / ".staging-1-dead/releases").mkdir(parents=True)
    return dist


def steps(root: Path) -> int:
    with counted(lambda *_: None) as count:
        scenario(prepared(root))
    return count[0]


def assert_valid(dist: Path) -> None:
    """All is whole but for the damage that was there before."""
    faults = [fault for fault in Store(dist).faults() if "/releases/c/" not in fault]
    assert not faults


def killed(dist: Path, last: int) -> int:
    """The exit code of a build that is killed at a call, in the middle of it where it writes."""
    write = os.write

    def die(index: int, name: str, args: tuple[Any, ...]) -> None:
        if index == last:
            if name == "write":
                write(args[0], args[1][: len(args[1]) // 2])
            os._exit(9)

    child = os.fork()
    if child == 0:
        code = 1
        try:
            with counted(die):
                scenario(dist)
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of builds in a row: let none wait for the disk."""
    monkeypatch.setattr(disk, "flush", lambda folder: None)


@pytest.mark.usefixtures("unflushed")
def test_killed_at_each_call_dist_is_valid_and_the_next_build_succeeds(tmp_path: Path):
    scenario(prepared(tmp_path / "clean"))
    expected = files(tmp_path / "clean/dist")
    codes = []
    while not codes or codes[-1] == 9:
        dist = prepared(tmp_path / "killed")
        codes.append(killed(dist, len(codes) + 1))
        assert_valid(dist)
        scenario(dist)
        assert Store(dist).faults() == ()
        assert not leftovers(dist)
        assert files(dist) == expected, f"call {len(codes)}"
    assert codes[-1] == 0
    assert len(codes) > 60


@pytest.mark.usefixtures("unflushed")
@pytest.mark.parametrize(("number", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False)])
def test_each_call_that_fails_is_told_and_leaves_dist_valid(
    tmp_path: Path, number: int, lasting: bool
):
    scenario(prepared(tmp_path / "clean"))
    expected = files(tmp_path / "clean/dist")
    told = {errno.ENOSPC: "no space left in", errno.EIO: "Input/output"}[number]
    # Removing goes on where writing fails, so that what was begun can be cleared away.
    spared = ("open", "unlink", "rmdir") if lasting else ()
    for last in range(1, steps(tmp_path / "counting") + 1):
        dist = prepared(tmp_path / "failed")

        def fail(index: int, name: str, args: tuple[Any, ...], last: int = last) -> None:
            if (index >= last and name not in spared) if lasting else index == last:
                raise OSError(number, os.strerror(number), "x")

        message = ""
        try:
            with counted(fail):
                scenario(dist)
        except UserError as error:
            message = str(error)
        complete = files(dist) == expected
        assert told in message or complete, f"call {last}"
        assert not lasting or set(leftovers(dist)) <= {".staging-1-dead"}
        assert_valid(dist)
        scenario(dist)
        assert Store(dist).faults() == ()
        assert not leftovers(dist)
        assert files(dist) == expected, f"call {last}"


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "no space left in /dist"),
        (errno.EDQUOT, "no space left in /dist"),
        (errno.EACCES, "/dist/store cannot be written: Permission denied"),
        (errno.EROFS, "/dist/store cannot be written: Read-only file system"),
        (errno.EEXIST, "/dist/store is in the way"),
        (errno.EIO, "/dist/store: Input/output error"),
    ],
)
def test_what_a_file_system_refuses_is_told(number: int, told: str):
    with pytest.raises(UserError) as caught, disk.telling(Path("/dist")):
        raise OSError(number, os.strerror(number), "store")
    assert caught.value.message == told
    with pytest.raises(UserError, match="/dist"), disk.telling(Path("/dist")):
        raise OSError(number, os.strerror(number))


def test_what_a_power_cut_may_reorder_is_flushed_between(tmp_path: Path):
    """The order that no kill can show: bytes, then objects' names, then releases, then the end."""
    dist, seen = prepared(tmp_path / "order"), list[str]()

    def note(index: int, name: str, args: tuple[Any, ...]) -> None:
        if name == "rename":
            seen.append("object" if "-" in str(args[0])[64:65] else "release")
        elif name in ("write", "link", "flush", "fsync"):
            seen.append("write" if name == "link" else name)

    with counted(note):
        scenario(dist)
    shrunk = [one for one, before in zip(seen, ["", *seen], strict=False) if one != before]
    assert shrunk == ["write", "flush", "object", "fsync", "release", "flush"]


# Other builds


def test_another_build_between_the_look_and_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, others = disk.flush, list[Transaction]()

    def flush(folder: int) -> None:
        real(folder)
        if not others:
            others.append(Transaction(Store(tmp_path), None))
            with others[0]:
                release(others[0], "pve1", b"1")
                release(others[0], "pve2", b"other")

    monkeypatch.setattr(disk, "flush", flush)
    mine = build(tmp_path, pve1=b"1", pve2=b"2")
    assert len(others[0].made) == 2
    assert mine.made == {f"{tree.digest(b'2')}-network.json"}
    assert len(Store(tmp_path).history("pve1")) == 1
    assert [serial for serial, _ in Store(tmp_path).history("pve2")] == [1, 2]
    assert Store(tmp_path).newest("pve2") == mine.kept["pve2"].folder
    assert Store(tmp_path).faults() == ()


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_store import build
for i in range(int(sys.argv[2])):
    build(Path(sys.argv[1]), **{{f"h{{n}}": b"%d" % (i // 2 + n) for n in range(5)}})
"""


def run(*args: str, code: str = PROGRAM, before: Sequence[str] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*before, sys.executable, "-c", code.format(root=str(ROOT)), *args],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_builds_at_once(tmp_path: Path):
    builds = [run(str(tmp_path / "dist"), "30") for _ in range(4)]
    for one in builds:
        assert one.wait(60) == 0, one.stderr and one.stderr.read()
        assert one.stderr is not None
        one.stderr.close()
    dist = Store(tmp_path / "dist")
    assert dist.faults() == ()
    assert not leftovers(dist.root)
    for host in range(5):
        serials = [serial for serial, _ in dist.history(f"h{host}")]
        assert serials == list(range(1, 16))


def test_a_killed_build_of_another_process(tmp_path: Path):
    dist = tmp_path / "dist"
    for delay in range(6):
        one = run(str(dist), "1000000")
        with pytest.raises(subprocess.TimeoutExpired):
            one.wait(0.25 + delay / 50)
        one.kill()
        one.wait()
        assert one.stderr is not None
        one.stderr.close()
        assert not dist.exists() or Store(dist).faults() == ()
    build(dist, pve1=b"1")
    assert not leftovers(dist)


# Real full and read-only file systems

FULL = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.test_store import Store, UserError, build, files, leftovers
mount = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", sys.argv[2], "none", mount], check=True)
build(mount / "dist", pve1=b"1")
before = files(mount / "dist")
if sys.argv[3] == "ro":
    subprocess.run(["mount", "-o", "remount,ro", mount], check=True)
    build(mount / "dist", pve1=b"1")
try:
    with Store(mount / "dist").transaction() as tx:
        for i in range(400):
            tx.add("x", os.urandom(5000))
except UserError as error:
    print(error, file=sys.stderr)
else:
    sys.exit("no error")
assert files(mount / "dist") == before and not leftovers(mount / "dist")
if sys.argv[3] != "ro":
    build(mount / "dist", pve1=b"2")
assert Store(mount / "dist").faults() == ()
"""


@pytest.mark.parametrize(
    ("options", "way", "told"),
    [
        ("size=1m", "space", "no space left in"),
        ("size=8m,nr_inodes=200", "inodes", "no space left in"),
        ("size=8m", "ro", "Read-only file system"),
    ],
)
def test_a_file_system_that_is_full_or_read_only(tmp_path: Path, options: str, way: str, told: str):
    before = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here (unshare)")
    one = run(str(tmp_path), options, way, code=FULL, before=before)
    _, error = one.communicate(timeout=60)
    assert one.returncode == 0, error
    assert told in error
