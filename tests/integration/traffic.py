"""Traffic that goes on while something is done to a host, and what of it was lost.

Nothing is judged by how fast it came: what is answered late is answered. Lost is what is answered
never, and broken is a connection that the other end or the network ended.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# For each address: packets (ICMP echo) on the one hand, one TCP connection that is kept on the
# other. A line on standard input asks for the counts, which come once what is under way is
# answered, or given up.
_SCRIPT = r"""
import json, os, select, socket, struct, sys, threading, time

PAUSE, PATIENCE = 0.04, 5.0
counts, held = {}, threading.Lock()

def count(address, name):
    with held:
        counts[address][name] += 1

def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF

def packets(address, number):
    link = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    link.connect((address, 0))
    link.setblocking(False)
    waits = waiting[address]
    sequence, due = 0, time.monotonic()
    while True:
        now = time.monotonic()
        if now >= due and not paused.is_set():
            sequence, due = (sequence + 1) & 0xFFFF, now + PAUSE
            head = struct.pack("!BBHHH", 8, 0, 0, number, sequence)
            head = struct.pack("!BBHHH", 8, 0, checksum(head), number, sequence)
            waits[sequence] = now
            count(address, "sent")
            try:
                link.send(head)
            except OSError:
                pass
        if select.select([link], [], [], PAUSE / 2)[0]:
            try:
                data = link.recv(1500)
            except OSError:
                continue
            kind, _, _, ours, which = struct.unpack("!BBHHH", data[20:28])
            if kind == 0 and ours == number and waits.pop(which, None) is not None:
                count(address, "answered")
            continue
        # Only where no answer is left to be read: this program itself may have stood still.
        for old in [each for each, since in list(waits.items()) if now - since > PATIENCE]:
            waits.pop(old, None)
            count(address, "lost")

def words(address):
    while True:
        try:
            with socket.create_connection((address, 7), timeout=PATIENCE) as link:
                link.settimeout(60)
                while True:
                    link.sendall(b"0123456789abcdef")
                    if link.recv(16, socket.MSG_WAITALL) != b"0123456789abcdef":
                        raise OSError("the connection ended")
                    count(address, "echoed")
                    time.sleep(PAUSE)
        except OSError:
            count(address, "broken")
            time.sleep(PAUSE)

paused, waiting = threading.Event(), {}
for number, address in enumerate(sys.argv[1:]):
    counts[address] = dict.fromkeys(("sent", "answered", "lost", "echoed", "broken"), 0)
    waiting[address] = {}
    mark = os.getpid() + number & 0xFFFF
    threading.Thread(target=packets, args=(address, mark), daemon=True).start()
    threading.Thread(target=words, args=(address,), daemon=True).start()
for _ in sys.stdin:
    paused.set()
    while any(waiting.values()):
        time.sleep(PAUSE)
    with held:
        print(json.dumps(counts), flush=True)
    paused.clear()
"""

# Requests one after the other, each over a connection of its own, with a pause that leaves the
# machine to what is judged.
_REQUESTS = r"""
import json, subprocess, sys, threading

counts = {"asked": 0, "failed": 0, "first": ""}
done = threading.Event()

def ask():
    while not done.is_set():
        out = subprocess.run(sys.argv[1:], capture_output=True, text=True)
        counts["asked"] += 1
        if out.stdout != "200":
            counts["failed"] += 1
            counts["first"] = counts["first"] or out.stdout + out.stderr
        done.wait(0.1)

thread = threading.Thread(target=ask)
thread.start()
sys.stdin.readline()
done.set()
thread.join()
print(json.dumps(counts), flush=True)
"""

_KEPT = r"""
import http.client, socket, ssl, sys

name, address = sys.argv[1:]
context = ssl.create_default_context(cafile="/root.crt")
link = http.client.HTTPSConnection(name, context=context)
link.sock = context.wrap_socket(socket.create_connection((address, 443)), server_hostname=name)
link.auto_open = 0
for _ in sys.stdin:
    try:
        link.request("GET", "/")
        answer = link.getresponse()
        answer.read()
        print(answer.status, answer.getheader("connection", "keep-alive"), flush=True)
    except Exception as error:
        print(repr(error), flush=True)
"""
KEPT = ("python3", "-u", "-c", _KEPT)


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one address: packets sent, answered and lost; words that came back over the kept
    connection, and how often it broke."""

    sent: int
    answered: int
    lost: int
    echoed: int
    broken: int

    def since(self, before: Counts) -> Counts:
        """What came on top."""
        return Counts(
            self.sent - before.sent,
            self.answered - before.answered,
            self.lost - before.lost,
            self.echoed - before.echoed,
            self.broken - before.broken,
        )


class Traffic:
    """A client that runs; `counts` as often as wanted."""

    def __init__(self, command: Sequence[str], addresses: Sequence[str]) -> None:
        self._process = _running(command, _SCRIPT, addresses)

    def counts(self) -> dict[str, Counts]:
        """Of each address, since the beginning."""
        found = json.loads(_asked(self._process))
        return {address: Counts(**each) for address, each in found.items()}

    def flows(self, limit: float = 60) -> None:
        """Await that each address has answered anew, in both ways."""
        before, end = self.counts(), time.monotonic() + limit
        while True:
            found = {address: c.since(before[address]) for address, c in self.counts().items()}
            if all(c.answered > 3 and c.echoed > 3 for c in found.values()):
                return
            assert time.monotonic() < end, found
            time.sleep(0.1)

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError):
            self._process.stdin and self._process.stdin.close()
        self._process.wait(timeout=30)

    @contextlib.contextmanager
    def kept(self, lost: int = 0) -> Iterator[None]:
        """What is done meanwhile breaks no connection, and loses at most `lost` packets of each."""
        self.flows()
        before = self.counts()
        yield
        self.flows()
        for address, after in self.counts().items():
            found = after.since(before[address])
            assert found.sent > 3, (address, found)
            assert found.echoed > 3, (address, found)
            assert found.lost <= lost, (address, found)
            assert found.broken == 0, (address, found)


@contextlib.contextmanager
def requests(command: Sequence[str], curl: Sequence[str]) -> Iterator[dict[str, int | str]]:
    """Ask again and again by `curl`, which prints 200; the dict that is given is filled at the
    end: how many were "asked", how many "failed", and what the "first" of those said."""
    process = _running(command, _REQUESTS, curl)
    found: dict[str, int | str] = {}
    try:
        yield found
    finally:
        found |= json.loads(_asked(process))
        process.wait(timeout=30)


@contextlib.contextmanager
def talking(command: Sequence[str], *arguments: str) -> Iterator[Callable[[], str]]:
    """A program that answers each line by one; the function that is given asks it."""
    process = subprocess.Popen(
        [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield lambda: _asked(process).strip()
    finally:
        with contextlib.suppress(OSError):
            process.stdin and process.stdin.close()
        process.wait(timeout=30)


def _running(
    command: Sequence[str], script: str, arguments: Sequence[str]
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, "python3", "-u", "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _asked(process: subprocess.Popen[str]) -> str:
    assert process.stdin
    assert process.stdout
    process.stdin.write("\n")
    process.stdin.flush()
    line = process.stdout.readline()
    assert line, f"the client ended with {process.wait(timeout=30)}"
    return line
