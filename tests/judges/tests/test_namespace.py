"""A space is apart from the machine, and nothing of it stays behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.judges import rootfs
from tests.judges.namespace import Entry, Space
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


def test_time_limit() -> None:
    with Space() as space:
        begun = time.monotonic()
        result = space.run(["sh", "-c", "echo begun; sleep 60"], timeout=0.3)
        assert (result.code, result.out) == (-1, "begun\n")
        assert "not done after" in result.err
        assert time.monotonic() - begun < 5
        assert space.must(["echo", "still here"]) == "still here\n"


def test_daemon() -> None:
    with Space() as space:
        daemon = space.start(["sh", "-c", "echo up; sleep 60"])
        assert space.wait(daemon, 0.05) is None
        with pytest.raises(Refused, match="not listening"):
            space.await_ports(daemon, [80], 0.05)
        space.signal(daemon, signal.SIGKILL)
        assert space.wait(daemon) == -signal.SIGKILL
        assert space.log(daemon) == "up\n"


def test_threads_share_a_space() -> None:
    with Space() as space:
        found = list[str]()
        threads = [
            threading.Thread(target=lambda n=n: found.append(space.must(["echo", str(n)])))
            for n in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(found, key=int) == [f"{n}\n" for n in range(20)]


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
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    network = child.stdout.readline().strip()
    assert network.startswith("net:[")
    assert _inside(network)
    child.kill()
    child.wait()
    deadline = time.monotonic() + 10
    while _inside(network) and time.monotonic() < deadline:
        select.select([], [], [], 0.02)
    assert not _inside(network)
    child.stdout.close()


def _inside(network: str) -> list[str]:
    """Command lines of the processes in a network namespace."""
    found = list[str]()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(process / "ns/net") == network:
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found
