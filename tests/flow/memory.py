"""What guests' daemons hold meanwhile: memory, and bytes that they have put down in files."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

# Of each guest and program, of all its processes together: anonymous memory at first and at most,
# and at most bytes of open files in nginx's folders for bodies and answers, with a name or without.
# Prints a line when it has looked for the first time.
_SCRIPT = r"""
import glob, json, os, re, select, sys

def processes(guest):
    below = f"/sys/fs/cgroup/**/lxc.payload.{guest}/**/cgroup.procs"
    for place in glob.glob(below, recursive=True):
        try:
            with open(place) as stream:
                yield from stream.read().split()
        except OSError:
            pass

def held(process):
    with open(f"/proc/{process}/status") as stream:
        said = dict(line.split(":", 1) for line in stream)
    files = 0
    for descriptor in os.listdir(f"/proc/{process}/fd"):
        path = f"/proc/{process}/fd/{descriptor}"
        if re.match("/run/phoenix-nginx-./[a-z]+/", os.readlink(path)):
            files += os.stat(path).st_size
    return said["Name"].strip(), int(said.get("RssAnon", "0 kB").split()[0]) << 10, files

def look():
    now = {}
    for guest in sys.argv[1:]:
        for process in set(processes(guest)):
            try:
                name, memory, files = held(process)
            except OSError:
                continue
            one = now.setdefault(f"{guest} {name}", [0, 0])
            one[0] += memory
            one[1] += files
    return now

first = look()
most = {name: list(one) for name, one in first.items()}
print(flush=True)
while not select.select([sys.stdin], [], [], 0.2)[0]:
    for name, (memory, files) in look().items():
        one = most.setdefault(name, [0, 0])
        one[0], one[1] = max(one[0], memory), max(one[1], files)
print(json.dumps({name: [first.get(name, [0, 0])[0], *one] for name, one in most.items()}))
"""


@dataclass(frozen=True, slots=True)
class Held:
    """Bytes: of memory at first and at most, and of files at most."""

    first: int
    most: int
    files: int

    @property
    def grown(self) -> int:
        """By how much the memory grew."""
        return self.most - self.first


@contextlib.contextmanager
def held(command: Sequence[str], *guests: int) -> Iterator[dict[str, Held]]:
    """What is held meanwhile, by "GUEST PROGRAM"; filled at the end. `command` runs another on the
    host."""
    process = subprocess.Popen(
        [*command, "python3", "-c", _SCRIPT, *map(str, guests)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, Held] = {}
    try:
        assert process.stdout
        assert process.stdout.readline() == "\n"
        yield found
        out, _ = process.communicate("\n", timeout=60)
        found |= {name: Held(*each) for name, each in json.loads(out).items()}
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
