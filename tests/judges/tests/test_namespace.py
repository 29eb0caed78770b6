"""A space is apart from the machine, and nothing of it stays behind."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.judges import rootfs
from tests.judges.namespace import TIMEOUT, Entry, Space
from tests.judges.refusal import Broken, Refused

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

ROOT = Path(__file__).parents[3]


def test_apart(tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the machine")
    with Space(binds={"/opt/given": tmp_path}) as space:
        assert space.must(["cat", "/opt/given/given"]) == "from the machine"
        assert space.run(["touch", "/opt/given/more"]).code != 0
        space.must(["touch", "/etc/made", "/usr/made"])
        assert space.must(["ls", "/sys/class/net"]).split() == ["lo"]
        assert space.run(["test", "-e", str(ROOT)]).code == 1
        pids = [name for name in space.must(["ls", "/proc"]).split() if name.isdigit()]
        assert len(pids) == 2
        # No way out of it: only loopback is there.
        with space.socket() as out, pytest.raises(OSError, match="unreachable"):
            out.connect(("192.0.2.1", 80))
    root = rootfs.ensure()
    assert not (root / "etc/made").exists()
    with Space() as space:
        assert space.run(["test", "-e", "/etc/made"]).code == 1


@pytest.mark.parametrize("more", ["", "setsid sleep 300 & "], ids=["group", "beyond"])
def test_time_limit(more: str) -> None:
    """Also where somebody in a session of his own still holds the pipes."""
    with Space() as space:
        # On a busy machine it may not have begun by then.
        for limit in (0.2, 2, 20):
            result = space.run(["sh", "-c", f"echo begun; {more}sleep 300"], timeout=limit)
            if result.out:
                break
        assert (result.code, result.out) == (-1, "begun\n")
        assert f"not done after {limit} s" in result.err
        assert space.must(["echo", "still here"]) == "still here\n"


def test_nothing_is_without_end() -> None:
    with Space() as space:
        limits = space.run(["cat", "/proc/self/limits"], user=6101).out
        room, unit = space.must(["stat", "-f", "--format=%b %S", "/tmp"]).split()
    assert int(room) * int(unit) <= 512 << 20
    found = re.search(r"^Max processes +(\d+) +(\d+)", limits, re.MULTILINE)
    assert found
    assert int(found[1]) == int(found[2]) <= 1024


def test_what_lost_its_parent_is_taken_in() -> None:
    with Space() as space:
        daemon = space.start(["sh", "-c", "exit 7"])
        deadline = time.monotonic() + TIMEOUT
        space.must(["sh", "-c", "setsid true >/dev/null 2>&1 &"])
        while " Z " in space.must(["sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || :"]):
            assert time.monotonic() < deadline
        assert space.wait(daemon) == 7


def test_two_of_a_program_have_a_log_each() -> None:
    with Space() as space:
        both = [space.start(["sh", "-c", f"echo {n}"]) for n in range(2)]
        assert [space.wait(each) for each in both] == [0, 0]
        assert [space.log(each) for each in both] == ["0\n", "1\n"]


def test_threads_make_spaces() -> None:
    with ThreadPoolExecutor(8) as pool:
        spaces = list(pool.map(lambda _: Space(), range(8)))
    for space in spaces:
        with space:
            assert space.must(["echo", "here"]) == "here\n"


def test_daemon() -> None:
    with Space() as space:
        daemon = space.start(["sh", "-c", "echo up; sleep 60"])
        deadline = time.monotonic() + TIMEOUT
        while space.log(daemon) != "up\n":
            assert time.monotonic() < deadline
            assert space.wait(daemon, 0.01) is None
        with pytest.raises(Refused, match="not listening"):
            space.await_ports(daemon, [80], 0.05)
        space.signal(daemon, signal.SIGKILL)
        assert space.wait(daemon) == -signal.SIGKILL


def test_threads_share_a_space() -> None:
    with Space() as space, ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda n: space.must(["echo", str(n)]), range(20)))
    assert found == [f"{n}\n" for n in range(20)]


def test_sockets() -> None:
    with Space() as space, Space() as other:
        space.own_all_addresses()
        for address, family in [("10.1.2.3", socket.AF_INET), ("fd00::1", socket.AF_INET6)]:
            with space.socket(family) as server:
                server.bind((address, 80))
                server.listen()
                with space.connect(address, 80) as client, server.accept()[0] as stream:
                    stream.sendall(b"hello")
                    assert client.recv(5) == b"hello"
                with pytest.raises(OSError, match="unreachable"):
                    other.connect(address, 80)


def test_own_fault() -> None:
    with Space() as space:
        with pytest.raises(Broken, match="FileNotFoundError"):
            space.run(["/nowhere"])
        space.write([Entry("/a/link", "target"), Entry("/a/file", b"x", 0o600, 6101)])
        assert space.must(["stat", "-c%a %u %g", "/a/file"]) == "600 6101 6100\n"
        assert space.read("/a/none") is None
    with pytest.raises(Broken, match=r"ended|closed"):
        space.run(["true"])
    with pytest.raises(Broken):
        Space(binds={"/opt/x": Path("/nowhere")})


KILLED = """
import sys
from tests.judges.namespace import Space
space = Space()
daemon = space.start(["sleep", "8317"])
print(space.run(["readlink", "/proc/self/ns/net"]).out, flush=True)
sys.stdin.read()
"""


def test_nothing_stays_behind_a_killed_run() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        assert child.stdout is not None
        network = child.stdout.readline().strip()
        assert network.startswith("net:[")
        inside = _inside(network)
        assert inside
        child.kill()
    deadline = time.monotonic() + TIMEOUT
    # The kernel gives the network's number to the next one that anybody makes.
    while left := inside & _inside(network):
        assert time.monotonic() < deadline, left
        time.sleep(0.02)


def _inside(network: str) -> set[tuple[str, str]]:
    """Number and command line of each process in a network namespace."""
    found = set[tuple[str, str]]()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/net") == network:
                found.add((process.name, (process / "cmdline").read_text()))
        except OSError:
            continue
    return found
