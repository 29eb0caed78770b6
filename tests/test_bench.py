"""The bench's own arithmetic, that its cases still run, and that it leaves nothing behind."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest

from builder import fresh
from builder.dist import Dist
from builder.inputs import default_cache
from builder.inputs.lock import load_lock
from builder.load import load
from tests import bench, building
from tests.bench import cases, install, peers, project, report
from tests.bench.deploying import Deploying
from tests.bench.figure import Figure
from tests.bench.measure import Run, Series, alternately, run
from tests.deploy import making


def test_sides_take_turns_and_another_begins_each_round() -> None:
    calls: list[str] = []

    def side(name: str, seconds: float) -> Run:
        calls.append(name)
        return Run(seconds * len(calls), 1)

    one, other = alternately(3, lambda: side("a", 1), lambda: side("b", 10))
    assert "".join(calls) == "abbaab"
    assert [r.seconds for r in one.runs] == [1, 4, 5]
    assert (one.seconds, other.seconds) == (4, 30)
    alternately(2, lambda: side("c", 1), lambda: side("d", 1), turning=False)
    assert "".join(calls[6:]) == "cdcd"


def test_a_run_is_timed_and_a_failed_one_is_told(tmp_path: Path) -> None:
    done = run([sys.executable, "-c", "import time; time.sleep(0.2)"], tmp_path, {})
    assert 0.2 < done.seconds < 60
    mine = bytearray(100 << 20)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10 > len(mine)
    big = run([sys.executable, "-c", "x = bytearray(100 << 20)"], tmp_path, {})
    assert done.mebibytes < 50 < 100 < big.mebibytes < 150, "the memory is the command's own"
    with pytest.raises(RuntimeError, match="no such luck"):
        run([sys.executable, "-c", "raise SystemExit('no such luck')"], tmp_path, {})


@pytest.mark.parametrize(("value", "verdict"), [(1.11, "**MISSED**"), (1.1, "kept")])
def test_a_missed_target_is_marked(value: float, verdict: str) -> None:
    series = Series((Run(0.1, 20), Run(0.3, 22), Run(0.2, 21)))
    figure = Figure("noop", "no-op ÷ empty", value, "×", 1.1, {"ours": series})
    phase = Figure("phases", "import x", 12, "ms")
    page = report.page([figure, phase], {"CPU": "fast"}, 100)
    assert f"| no-op ÷ empty | {value:.2f} × | 1.10 × | {verdict} |" in page
    assert "| noop | ours | 200 ms (100 ms – 300 ms, 3×) | 22 MiB |" in page
    assert "| import x | 12 | 100 |" in page
    assert verdict.strip("*") in report.line(figure)


QUICK = {"program", "phases"}


@pytest.mark.parametrize("quick", [True, pytest.param(False, marks=pytest.mark.deep)])
def test_every_case_still_measures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool
) -> None:
    """With fleets of one and two hosts, programs of a few bytes, and without Nix."""
    monkeypatch.setattr(cases, "FLEET", 2)
    monkeypatch.setattr(cases, "GROWTH", (1, 1, 2))
    monkeypatch.setattr(fresh, "GRAIN", 0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lock = load_lock(building.ROOT / "configs/inputs.lock")
    building.fill(lock, tmp_path / "cache/phoenix/inputs")
    for name, measure in cases.Cases(tmp_path, 1, nix=False).all().items():
        if (name in QUICK) == quick:
            assert {figure.case for figure in measure()} == {name}


@pytest.mark.needs("strace", "ssh-keygen")
def test_an_install_syncs_as_a_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "SIZES", (10, 60))
    deploying = Deploying(tmp_path, tmp_path / "cache", 1, nix=False)
    one, whole, more = deploying.install()
    assert one.value > 10 < 10 * whole.value
    assert (more.value, more.missed) == (0, False)


@pytest.mark.needs("strace", "ssh-keygen")
def test_one_that_syncs_each_file_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(EAGER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(install, "SIZES", (10, 60))
    *_, more = Deploying(tmp_path, tmp_path / "cache", 1, nix=False).install()
    assert (more.value, more.missed) == (1, True)


EAGER = """
import os
rename = os.rename
def synced(old, new, **more):
    if "/incoming/" in str(old):
        with open(old) as stream:
            os.fsync(stream.fileno())
    rename(old, new, **more)
os.rename = synced
"""


def test_peers_get_every_file_but_the_programs(tmp_path: Path) -> None:
    made = making.project(tmp_path / "project")
    made.release(guests={103: {"bin/x": b"1\n", "names/hosts": b"h\n"}})
    held = peers.configured(Dist(made.root / "dist"), making.HOST)
    assert held["guests/103/bin/x"] == (b"1\n", 0o755)
    assert {"etc/sysctl.d/90-phoenix.conf", "guests/103/names/hosts"} < held.keys()


@pytest.mark.deep
@pytest.mark.needs("root", "index", "strace")
def test_deploying_still_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole case, on a host of its own; peers go over the changed file only."""
    whole = peers.Peers.prepare

    def few(self: peers.Peers) -> None:
        whole(self)
        shutil.copy(self.root / "one.json", self.root / "all.json")

    monkeypatch.setattr(peers.Peers, "prepare", few)
    cache = default_cache().parent / "bench"
    figures = [*Deploying(tmp_path, cache, 1, nix=False).deploy()]
    assert {figure.case for figure in figures} == {"bytes", "rollback", "deploy"}
    assert all(figure.value > 0 for figure in figures)
    assert not any(figure.missed for figure in figures if figure.case == "bytes")


def test_what_is_written_anew_is_seen(tmp_path: Path) -> None:
    """Also where the new file has the old one's inode number, and the same size."""
    (tmp_path / "a").write_text("one")
    before = cases._written(tmp_path)
    assert cases._written(tmp_path) == before
    os.utime(tmp_path / "a", (1, 1))
    assert cases._written(tmp_path).keys().isdisjoint(before)


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / "bench-left/deep").mkdir(parents=True)
    with bench._folder(tmp_path) as one, bench._folder(tmp_path) as other:
        assert set(tmp_path.iterdir()) == {one, other}
    assert not list(tmp_path.iterdir())


def test_a_command_ends_with_the_bench(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "held")

    def stop() -> None:
        with (tmp_path / "held").open() as held:
            os.kill(os.getpid(), signal.SIGALRM)
            held.read()

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    stopping = threading.Thread(target=stop, daemon=True)
    stopping.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(["sh", "-c", f"exec sleep 1000 >{tmp_path}/held"], tmp_path, {})
    finally:
        signal.signal(signal.SIGALRM, before)
    stopping.join(60)
    assert not stopping.is_alive(), "the command still holds what it opened"


def test_hosts_of_a_fleet_are_valid_and_each_another(tmp_path: Path) -> None:
    fleet = project.fleet(tmp_path / "fleet", 252)
    config = load(fleet.root)
    assert len(config.hosts) == 252
    for addresses in (
        {host.reach for host in config.hosts},
        {guest.interfaces[0].address for host in config.hosts for guest in host.guests[:1]},
    ):
        assert len(addresses) == 252
