"""Routes that are declared stand, those that are not go; by a kernel's own routing table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# What ifupdown2 does of all this: it runs the commands of a file.
SCRIPT = """
import json, subprocess, sys
from pathlib import Path
from builder.host import commands, network

root, told = Path(sys.argv[1]), []
def ip(*words): subprocess.run(["ip", *words], check=True)
ip("link", "set", "lo", "up"); ip("link", "add", "vmbr0", "type", "bridge")
ip("address", "add", "10.0.0.1/24", "dev", "vmbr0"); ip("link", "set", "vmbr0", "up")
ip("route", "add", "10.9.0.0/24", "via", "10.0.0.9")
real = commands.status
def status(*words, **rest):
    if words[0] != "ifreload":
        return real(*words, **rest)
    for line in (root / "etc/network/interfaces").read_text().splitlines():
        if line.split()[:1] == ["post-up"] and not (root / "lazy").exists():
            subprocess.run(line.split()[1:], check=True)
    return 0, ""
commands.status = status
for text in sys.argv[3:]:
    (root / "etc/network/interfaces").write_text(text)
    try:
        network.reload(root, sys.argv[2].split(";"), limit=0.5)
    except commands.FailedError as error:
        told.append(str(error))
    said = subprocess.run(["ip", "-json", "route"], capture_output=True, check=True).stdout
    told.append(sorted(each["dst"] for each in json.loads(said)))
print(json.dumps(told))
"""
HEAD = "auto vmbr0\niface vmbr0 inet static\n\taddress 10.0.0.1/24\n"
FIRST = HEAD + "\tpost-up ip route replace 10.7.0.0/16 via 10.0.0.7 dev vmbr0 proto 80\n"
SECOND = HEAD + "\tpost-up ip route replace 10.8.0.8/32 via 10.0.0.7 dev vmbr0 proto 80\n"
THEIRS, OWN = "10.9.0.0/24", "10.0.0.0/24"

pytestmark = [pytest.mark.needs("root", "unshare", "ip")]


def _told(root: Path, *texts: str, before: str = "") -> list[object]:
    (root / "etc/network").mkdir(parents=True)
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SCRIPT, str(root), before, *texts],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: list[object] = json.loads(done.stdout)
    return told


def test_routes_come_and_go(tmp_path: Path):
    assert _told(tmp_path, FIRST, SECOND, HEAD) == [
        [OWN, "10.7.0.0/16", THEIRS],
        [OWN, "10.8.0.8", THEIRS],
        [OWN, THEIRS],
    ]


def test_a_route_that_does_not_come_is_seen(tmp_path: Path):
    (tmp_path / "lazy").touch()
    fault, there = _told(tmp_path, FIRST)
    assert "no route to 10.7.0.0/16 by 10.0.0.7" in str(fault)
    assert there == [OWN, THEIRS]


def test_a_route_on_the_link_comes_and_goes(tmp_path: Path):
    link = HEAD + "\tpost-up ip route replace 10.6.0.0/16 dev vmbr0 proto 80\n"
    assert _told(tmp_path, link, HEAD) == [[OWN, "10.6.0.0/16", THEIRS], [OWN, THEIRS]]


def test_a_gateway_that_is_good_on_its_link_only():
    script = """
import json, subprocess, sys
from builder.host import network

def ip(*words): subprocess.run(["ip", *words], check=True)
ip("link", "add", "wan0", "type", "bridge"); ip("link", "set", "wan0", "up")
far = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec cat"],
                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
far.stdout.readline()
ip("link", "add", "wan1", "type", "veth", "peer", "name", "far", "netns", str(far.pid))
there = "ip address add fe80::1/64 dev far nodad; ip link set far up"
subprocess.run(["nsenter", f"--net=/proc/{far.pid}/ns/net", "sh", "-c", there], check=True)
ip("address", "add", "2001:db8::2/64", "dev", "wan1", "nodad"); ip("link", "set", "wan1", "up")
for text in sys.argv[1:]:
    ip("-6", "route", "replace", "default", "via", text.split()[-1], "dev", "wan1")
    print(json.dumps(network.missing(network.expected(text.encode()))))
far.communicate()
"""
    stanza = "auto wan1\niface wan1 inet6 static\n\taddress 2001:DB8::2/64\n\tgateway "
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", script, stanza + "fe80::1", stanza + "fe80::2"],
        capture_output=True, text=True, check=False, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told == [[], ["the gateway fe80::2 does not answer"]]


@pytest.mark.parametrize("before", ["", "eth5 lacks 10.5.0.1/24", "eth5 lacks 10.5.0.2/24"])
def test_what_was_not_there_before_need_not_come(tmp_path: Path, before: str):
    away = HEAD + "auto eth5\niface eth5 inet static\n\taddress 10.5.0.1/24\n"
    told = _told(tmp_path, away, before=before)
    assert told[-1] == [OWN, THEIRS]
    assert len(told) == (1 if before.endswith(".1/24") else 2)
    assert len(told) == 1 or "eth5 lacks 10.5.0.1/24" in str(told[0])
