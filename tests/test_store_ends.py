"""dist/ whatever ends a build: a kill, a full disk, a power cut, another build at the same time."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder import disk, tree
from builder.manifest import Object
from builder.problems import UserError
from builder.store import Store, Transaction
from tests.test_store import Signer, build, files, leftovers, release

ROOT = Path(__file__).parents[1]

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


def exit_code(run: Callable[[], object]) -> int:
    """How a child process ends that calls `run`: 0, 1 where that raises, or as it ends itself."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


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

    def run() -> None:
        with counted(die):
            scenario(dist)

    return exit_code(run)


@pytest.fixture
def unflushed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hundreds of builds in a row: let none wait for the disk."""
    monkeypatch.setattr(disk, "flush", lambda _: None)


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


def test_a_flush_that_fails_is_noticed():
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.flush(-1)


def test_without_syncfs_all_is_flushed(monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr(os, "sync", lambda: called.append(True))
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    disk.flush(-1)
    assert called


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
        assert one.wait() == 0, one.stderr and one.stderr.read()
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
    subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
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
