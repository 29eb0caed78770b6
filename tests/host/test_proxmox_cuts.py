"""Power cuts, and a cluster that goes away, at every moment of a transaction: afterwards the host
is wholly as it was, or wholly as it is to be."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.program import host_program
from tests.host.proxmox.node import Done, Node
from tests.host.proxmox.releases import INTERFACES, Wanted, keep

pytestmark = pytest.mark.needs("root", "fuse", "unshare", "ip")
CUT = str(Path(__file__).with_name("proxmox") / "cut.py")
PROGRAM = "/usr/local/lib/phoenix.pyz"
MOST = 400
NUMBERS = (101, 102, 200)
FIRST = {101: Wanted(), 200: Wanted({"hostname": "mine"}, creation={})}
SECOND = {
    101: Wanted({"memory": "2048", "nameserver": "9.9.9.9"}),
    102: Wanted(),
    200: Wanted({"hostname": "mine", "memory": "512"}, {"names/hosts": "2\n"}, creation={}),
}
THEIRS = """\
#by hand
rootfs: local-lvm:vm-200-disk-0,size=4G
hostname: theirs
arch: amd64
ostype: debian
memory: 1024
unprivileged: 1
"""
State = tuple[dict[str, bytes | str], list[dict[str, Any] | None]]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path) as made:
        made.foreign(200, THEIRS)
        made.must("pct", "start", "200")
        yield made


def state(node: Node) -> State:
    runs = [node.runs(n) if (node.pve / f"lxc/{n}.conf").exists() else None for n in NUMBERS]
    # PVE's own tools leave such a file when they are cut off.
    files = {path: data for path, data in node.files().items() if ".conf.tmp." not in path}
    return files, runs


def differs(one: State, other: State) -> dict[str, object]:
    """What is not the same in two states."""
    found: dict[str, object] = {
        path: (one[0].get(path), other[0].get(path))
        for path in one[0].keys() | other[0].keys()
        if one[0].get(path) != other[0].get(path)
    }
    for number, runs, ran in zip(NUMBERS, one[1], other[1], strict=True):
        if runs != ran:
            found[f"guest {number}"] = (runs, ran)
    return found


def prepared(node: Node) -> tuple[int, State]:
    """A node with a first release, and the number of a second one."""
    assert node.phoenix("activate", str(keep(node, FIRST))).code == 0
    return keep(node, SECOND, interfaces=INTERFACES, sysctl="b = 2\n"), state(node)


def cut(node: Node, moment: int, *words: str) -> Done:
    return node.run("/usr/bin/python3", "-I", "-S", CUT, str(moment), PROGRAM, *words)


def moments(node: Node, step: int, *words: str) -> Iterator[tuple[int, Done]]:
    """The program ended at its every `step`th moment, until it comes to its end."""
    for moment in range(1, MOST, step):
        done = cut(node, moment, *words)
        yield moment, done
        if done.code != 99:
            return
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("step", [13, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_at_each_moment(node: Node, step: int):
    number, before = prepared(node)
    for moment, done in moments(node, step, "activate", str(number), "--confirm", "60"):
        recovered = node.phoenix("recover")
        assert recovered.code == 0, (moment, recovered)
        assert differs(state(node), before) == {}, (moment, done)
    assert moment > 80


@pytest.mark.parametrize("step", [17, pytest.param(1, marks=pytest.mark.deep)])
def test_killed_while_it_recovers(node: Node, step: int):
    number, before = prepared(node)
    for moment in range(1, MOST, step):
        assert node.phoenix("activate", str(number), "--confirm", "60").code == 0
        if (done := cut(node, moment, "recover")).code != 99:
            assert differs(state(node), before) == {}
            return
        recovered = node.phoenix("recover")
        assert recovered.code == 0, (moment, recovered)
        assert differs(state(node), before) == {}, (moment, done)
    raise AssertionError("it does not come to an end")


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.deep)])
def test_quorum_goes_at_each_change(node: Node, step: int):
    """Whatever the program does then, with the quorum the host is as it was."""
    number, before = prepared(node)
    node.install(_impatient())
    for changes in range(0, MOST, step):
        node.switch(lose=changes)
        done = node.phoenix("activate", str(number), "--confirm", "60")
        if done.code == 0:
            assert changes > 10
            return
        assert done.code in (2, 4, 6), (changes, done)
        node.switch(quorum=True)
        recovered = node.phoenix("recover")
        assert recovered.code == 0, (changes, recovered)
        assert differs(state(node), before) == {}, (changes, done, recovered)
    raise AssertionError("it does not come to an end")


def _impatient() -> bytes:
    """The program, which awaits a quorum for no time at all."""
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / "host"
        shutil.copytree(Path(__file__).parents[2] / "builder/host", twin)
        path = twin / "back.py"
        text = path.read_text()
        assert text.count("PATIENCE = 60.0") == 1
        path.write_text(text.replace("PATIENCE = 60.0", "PATIENCE = 0.0"))
        return host_program(twin)


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.deep)])
def test_the_cluster_falls_behind(node: Node, step: int):
    """A power cut takes unsynced changes of /etc/pve back, to any state since the last sync, while
    the root file system kept all of its own: the host is as it was all the same."""
    number, before = prepared(node)
    first = node.switch() - 1
    assert node.phoenix("activate", str(number), "--confirm", "60").code == 0
    last = node.switch() - 1
    assert last - first > 8
    for to in range(first, last + 1, step):
        if to > first:
            assert node.phoenix("activate", str(number), "--confirm", "60").code == 0
        _power_off(node)
        node.switch(rewind=to)
        assert node.phoenix("recover", "--early").code == 0
        recovered = node.phoenix("recover")
        assert recovered.code == 0, (to, recovered)
        files, runs = state(node)
        # Its volume is on another file system, which nobody took back.
        orphans = {path for path in files.keys() - before[0].keys() if "vm-102-disk" in path}
        assert {p: d for p, d in files.items() if p not in orphans} == before[0], to
        assert runs == [None, None, None]
        for guest in (101, 200):
            node.must("pct", "start", str(guest))
        for path in orphans:
            node.at(path).rmdir()


def _power_off(node: Node) -> None:
    """Nothing runs any more, and what lies on /run is gone."""
    for number in NUMBERS:
        if node.runs(number) is not None:
            pid = node.must("lxc-info", "--name", str(number), "--pid", "--no-humanize").strip()
            node.must("kill", f"-{int(signal.SIGKILL)}", pid)
            while node.runs(number) is not None:
                os.sched_yield()
    for timer in node.at("/run/standins").glob("*.timer"):
        timer.unlink()
