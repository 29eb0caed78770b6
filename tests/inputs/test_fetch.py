"""Fetching: whole and with the locked hash, or an error and nothing kept."""

from __future__ import annotations

import errno
import http.client
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from builder.inputs import clients
from builder.problems import UserError
from tests.inputs.helpers import (
    REPOSITORY,
    address,
    digest,
    get,
    left,
    lock,
    serving,
    start,
)

DATA = b"program " * 100_000


# ---- what is fetched, by an address of the user's


def test_a_layer_is_made_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    with serving(DATA) as server:
        locked = lock(tmp_path, tool=address(server.url, DATA))
        first, said = get(locked, "tool", tmp_path / "cache")
        second, silent = get(locked, "tool", tmp_path / "cache")
    assert (first, server.asked, silent) == (second, ["/tool"], [])
    assert said == [f"tool: downloading {server.url}", "tool: packing its layer"]
    assert digest(first.tar_path.read_bytes()) == first.digest
    assert first.tar_path.stat().st_size == first.size
    index = json.loads(first.index_path.read_text())
    (entry,) = index["index"]
    assert (index["digest"], index["size"]) == (first.digest, first.size)
    assert (entry["path"], entry["mode"]) == ("programs/tool/tool", "0755")
    place = entry["offset"]
    assert first.tar_path.read_bytes()[place : place + entry["size"]] == DATA
    assert first.tar_path.stat().st_mode & 0o777 == 0o444


def test_the_cache_is_trusted_without_reading_the_layer(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(DATA)
    locked = lock(tmp_path, tool=address(source.as_uri(), DATA))
    first, _ = get(locked, "tool", tmp_path / "cache")
    first.tar_path.chmod(0)
    assert get(locked, "tool", tmp_path / "cache") == (first, [])


@pytest.mark.parametrize(
    ("part", "held"),
    [
        ("layer.tar", None),
        ("layer.tar", b"torn"),
        ("meta.json", None),
        ("meta.json", b"torn"),
        ("index.json", None),
    ],
)
def test_a_damaged_layer_is_made_anew_from_what_was_fetched(
    part: str, held: bytes | None, tmp_path: Path
) -> None:
    source = tmp_path / "tool"
    source.write_bytes(DATA)
    locked = lock(tmp_path, tool=address(source.as_uri(), DATA))
    first, _ = get(locked, "tool", tmp_path / "cache")
    whole = (first.tar_path.parent / part).read_bytes()
    (first.tar_path.parent / part).unlink()
    if held is not None:
        (first.tar_path.parent / part).write_bytes(held)
    assert get(locked, "tool", tmp_path / "cache") == (first, ["tool: packing its layer"])
    assert (first.tar_path.parent / part).read_bytes() == whole


def test_a_fetched_file_that_was_altered_in_its_place_is_fetched_again(tmp_path: Path) -> None:
    with serving(DATA) as server:
        locked = lock(tmp_path, tool=address(server.url, DATA))
        first, _ = get(locked, "tool", tmp_path / "cache")
        held = tmp_path / "cache" / "files" / digest(DATA)
        held.chmod(0o644)
        held.write_bytes(DATA[::-1])
        shutil.rmtree(first.tar_path.parent)
        assert get(locked, "tool", tmp_path / "cache")[0] == first
        assert held.read_bytes() == DATA
        # And where it can't be fetched, what was altered is not taken either.
        held.chmod(0o644)
        held.write_bytes(DATA[::-1])
        shutil.rmtree(first.tar_path.parent)
        server.missing = True
        with pytest.raises(UserError, match="is not to be had"):
            get(locked, "tool", tmp_path / "cache")
    assert list((tmp_path / "cache" / "tmp").iterdir()) == []


def test_a_warm_layer_imports_nothing_that_fetches(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(DATA)
    locked = lock(tmp_path, tool=address(source.as_uri(), DATA))
    get(locked, "tool", tmp_path / "cache")
    code = f"""
import sys
from pathlib import Path
from builder.inputs import layer, load_lock
layer(load_lock(Path({str(locked.path)!r})), "tool", Path({str(tmp_path / "cache")!r}), print)
fetching = ("subprocess", "urllib.request", "zipfile", "tempfile", "yaml")
print([name for name in fetching if name in sys.modules])
"""
    command = [
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}){code}",
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_another_hash_is_refused_and_nothing_kept(tmp_path: Path) -> None:
    with serving(b"other bytes") as server:
        locked = lock(tmp_path, tool=address(server.url, DATA))
        with pytest.raises(UserError) as error:
            get(locked, "tool", tmp_path / "cache")
    assert error.value.message == (
        f"{locked.path}: input 'tool': {server.url} 1 is not to be had\n"
        f"  {server.url}: its sha256 is {digest(b'other bytes')}, locked is {digest(DATA)}"
    )
    assert left(tmp_path / "cache") == []


def test_what_is_gone_and_what_breaks_off_names_each_answer(tmp_path: Path) -> None:
    with serving(DATA) as gone, serving(DATA) as broken:
        gone.missing, broken.cut = True, True
        locked = lock(tmp_path, tool=address(gone.url, DATA, sources=[broken.url]))
        with pytest.raises(UserError) as error:
            get(locked, "tool", tmp_path / "cache")
    told = error.value.message.splitlines()
    assert told[1] == f"  {gone.url}: HTTP Error 404: Not Found"
    assert told[2] == f"  {broken.url}: broke off after 400000 of 800000 bytes"
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize("url", ["http://[x/tool", "http://127.0.0.1:port/", "https://h.test/ü"])
def test_an_address_that_is_none_is_told(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not to be had"):
        get(lock(tmp_path, tool=address(url, DATA)), "tool", tmp_path / "cache")


def test_a_network_that_goes_away_is_no_fault_of_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object) -> bytes:
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    with serving(DATA) as server:
        locked = lock(tmp_path, tool=address(server.url, DATA))
        monkeypatch.setattr(http.client.HTTPResponse, "read", read)
        with pytest.raises(UserError, match=r"is not to be had\n.*No route to host"):
            get(locked, "tool", tmp_path / "cache")


def test_further_sources_are_asked_in_turn(tmp_path: Path) -> None:
    with serving(b"changed") as first, serving(DATA) as second, serving(DATA) as third:
        entry = address(first.url, DATA, sources=[second.url, third.url])
        got, _ = get(lock(tmp_path, tool=entry), "tool", tmp_path / "cache")
        asked = (len(first.asked), len(second.asked), len(third.asked))
    assert digest(got.tar_path.read_bytes()) == got.digest
    assert asked == (1, 1, 0)


# ---- interrupted, at the same time, without room, without a network


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_download_leaves_nothing_that_counts(
    how: signal.Signals, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with serving(DATA, pause=60) as server:
        locked = lock(tmp_path, tool=address(server.url, DATA))
        child = start(locked, "tool", cache)
        assert server.halfway.wait(20)
        child.send_signal(how)
        child.communicate(timeout=20)
        assert child.returncode != 0
        assert [path for path in left(cache) if not path.startswith("tmp/")] == []
        server.pause = 0
        got, _ = get(locked, "tool", cache)
    assert digest(got.tar_path.read_bytes()) == got.digest
    assert not list((cache / "tmp").iterdir())


def test_two_at_once_fetch_once_and_the_second_says_that_it_waits(tmp_path: Path) -> None:
    with serving(DATA, pause=60) as server:
        locked = lock(tmp_path, tool=address(server.url, DATA))
        first = start(locked, "tool", tmp_path / "cache")
        assert server.halfway.wait(20)
        second = start(locked, "tool", tmp_path / "cache")
        assert second.stdout is not None
        assert second.stdout.readline() == "tool: another process is fetching it, waiting\n"
        server.resume.set()
        texts = [child.communicate(timeout=30) for child in (first, second)]
    assert [child.returncode for child in (first, second)] == [0, 0], texts
    assert server.asked == ["/tool"]
    assert texts[0][0].splitlines()[-1] == texts[1][0].splitlines()[-1]


def test_who_waits_goes_on_where_the_first_is_killed(tmp_path: Path) -> None:
    with serving(DATA, pause=60) as server:
        locked = lock(tmp_path, tool=address(server.url, DATA))
        first = start(locked, "tool", tmp_path / "cache")
        assert server.halfway.wait(20)
        second = start(locked, "tool", tmp_path / "cache")
        assert second.stdout is not None
        assert "waiting" in second.stdout.readline()
        server.pause = 0
        first.kill()
        first.communicate(timeout=20)
        told = second.communicate(timeout=20)
    assert second.returncode == 0, told
    assert len(server.asked) == 2


def test_a_client_ends_with_a_builder_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from builder.inputs.clients import run\n"
        f"run(['sh', '-c', 'echo $$ > pid; exec sleep 300'], cwd=Path({str(tmp_path)!r}))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    pid = tmp_path / "pid"
    until(lambda: pid.exists() and pid.read_text() != "")
    client = Path("/proc") / pid.read_text().strip() / "stat"
    assert client.exists()
    child.kill()
    child.wait()
    until(lambda: ended(client))


def test_what_a_client_leaves_running_ends_with_it(tmp_path: Path) -> None:
    clients.run(["sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $! > pid"], cwd=tmp_path)
    sleeper = Path("/proc") / (tmp_path / "pid").read_text().strip() / "stat"
    until(lambda: ended(sleeper))


def ended(stat: Path) -> bool:
    """Whether the process of this file runs no more; it may vanish at any moment."""
    try:
        return stat.read_text().split()[2] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def until(holds: object) -> None:
    assert callable(holds)
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.needs("namespaces")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    source, cache = tmp_path / "tool", tmp_path / "cache"
    source.write_bytes(DATA)
    cache.mkdir()
    small = 'mount -t tmpfs -o size=300k none "$0"; "$@"; code=$?; find "$0" -size +0 -type f; '
    small += "exit $code"
    prefix = ["unshare", "-rm", "sh", "-c", small, str(cache)]
    child = start(lock(tmp_path, tool=address(source.as_uri(), DATA)), "tool", cache, prefix)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 1
    assert f"UserError: the cache {cache} is full" in err
    assert out.splitlines()[1:] == []


@pytest.mark.needs("namespaces")
def test_a_fetched_layer_needs_no_network(tmp_path: Path) -> None:
    offline = ["unshare", "-rn"]
    with serving(DATA) as server:
        locked = lock(tmp_path, tool=address(server.url, DATA))
        cold = start(locked, "tool", tmp_path / "cache", offline)
        _, told = cold.communicate(timeout=30)
        assert (cold.returncode, "is not to be had" in told) == (1, True)
        get(locked, "tool", tmp_path / "cache")
        warm = start(locked, "tool", tmp_path / "cache", offline)
        assert (warm.communicate(timeout=30)[1], warm.returncode) == ("", 0)


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(DATA)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(UserError, match=f"the cache {tmp_path}/cache can't be used"):
        get(lock(tmp_path, tool=address(source.as_uri(), DATA)), "tool", tmp_path / "cache")


def test_a_client_that_takes_its_time_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clients, "TICK", 0.05)
    ticks = list[int]()

    def tick() -> None:
        ticks.append(1)
        if len(ticks) == 3:
            (tmp_path / "enough").touch()

    # It ends by itself as well, so that a lack of reports is told.
    client = "for i in $(seq 600); do [ ! -e enough ] || exit; sleep 0.1; done"
    clients.run(["sh", "-c", client], cwd=tmp_path, tick=tick)
    assert len(ticks) >= 3
