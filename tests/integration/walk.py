"""One host through its life, and what it was in each generation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.integration.handle import CHAT, FOREIGN, Handle
from tests.integration.machine import until

# All of /etc and every guest's configuration: mode and content of each file. What is below
# /etc/iproute2 ifupdown2 writes as it runs.
_FILES = """
import hashlib, json, os
found = {}
def see(path):
    if os.path.islink(path):
        found[path] = ["link", os.readlink(path)]
    elif os.path.isfile(path):
        with open(path, "rb") as stream:
            mode = oct(os.stat(path).st_mode)
            found[path] = [mode, hashlib.sha256(stream.read()).hexdigest()]
for folder, folders, names in os.walk("/etc"):
    if folder.startswith("/etc/iproute2"):
        continue
    for name in (*names, *folders):
        see(os.path.join(folder, name))
for name in os.listdir("/var/lib/lxc"):
    see(f"/var/lib/lxc/{name}/config")
print(json.dumps(found))
"""
_BOOT_UNITS = tuple(
    f"/etc/systemd/system/{folder}phoenix-{name}.service"
    for name, folders in (("early", "sysinit"), ("late", "multi-user"))
    for folder in ("", f"{folders}.target.wants/")
)
"""What a host keeps of us in generation 0."""
Files = dict[str, list[str]]


def files(host: Handle) -> Files:
    """Each file of /etc and each guest's configuration: its mode and digest, or where it leads."""
    found: Files = json.loads(host.run("python3", "-c", _FILES))
    return {path: each for path, each in found.items() if path not in _BOOT_UNITS}


def running(host: Handle) -> dict[str, Any]:
    """What of a host runs: addresses, routes, rules, guests that run, with what they are called."""
    links = json.loads(host.run("ip", "-json", "-4", "address", "show"))
    addresses = {
        link["ifname"]: [f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"]]
        for link in links
        if not link["ifname"].startswith("veth")
    }
    listed = host.run("lxc-ls", "--fancy", "--fancy-format", "NAME,STATE,AUTOSTART").splitlines()
    return {
        "addresses": addresses,
        "routes": sorted(host.run("ip", "-4", "route", "show").split("\n")),
        "tables": sorted(host.run("nft", "list", "tables").splitlines()),
        "guests": sorted(" ".join(line.split()) for line in listed[1:]),
        "names": {number: host.guest(number, "hostname").strip() for number in FOREIGN},
    }


def daemons(host: Handle, number: int) -> dict[str, str]:
    """The services of a guest that run, each with what tells one start of it from another."""
    show = ("systemctl", "show", "--property=Id,InvocationID,MainPID", "phoenix-*", "chat*")
    found = {}
    for block in host.guest(number, *show).split("\n\n"):
        facts = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if facts.get("MainPID", "0") != "0":
            found[facts["Id"]] = facts["InvocationID"]
    return found


@dataclass
class Walk:
    """The host, what it was before us, and in each generation that ran."""

    host: Handle
    files: dict[int, Files] = field(default_factory=dict)
    running: dict[int, dict[str, Any]] = field(default_factory=dict)
    address: dict[int, str] = field(default_factory=dict)
    generation: int = 0

    def found(self) -> None:
        """Note what the host is before the first deploy."""
        self._note(0)

    def deployed(self, at_once: Callable[[], None] = lambda: None) -> int:
        """Deploy what is declared; all is well then. `at_once` is done as soon as it is confirmed.
        The generation's number."""
        done = self.host.deploy()
        at_once()
        assert done.found["result"] == "done", done
        number = int(done.found["generation"])
        self.generation = number
        self.answers()
        self.host.assert_as_declared(number)
        self._note(number)
        return number

    def rolled_back(self, to: int) -> None:
        """Roll back; the host then is what it was in that generation."""
        self.host.rollback(to)
        self.generation = to
        self.assert_is(to)

    def assert_is(self, number: int) -> None:
        """The host is what it was in this generation, in files and in what runs, and answers."""
        assert self.host.journal() is None
        if number:
            self.answers()
            self.host.assert_as_declared(number)
        then, now = self.files[number], files(self.host)
        differs = [path for path in sorted({*then, *now}) if then.get(path) != now.get(path)]
        # Guests that were made later stay, stopped.
        later = {f"/var/lib/lxc/{made}/config" for made in self.made_since(number)}
        assert set(differs) <= later, [(each, then.get(each), now.get(each)) for each in differs]
        runs = running(self.host)
        ours = tuple(f"{made} " for made in self.made_since(number))
        runs["guests"] = [each for each in runs["guests"] if not each.startswith(ours)]
        assert runs == self.running[number]
        for made in self.made_since(number):
            assert not self.host.runs(made)
            conf = (self.host.up.state.volume("lxc") / f"{made}/config").read_text()
            assert "lxc.start.auto" not in conf

    def made_since(self, number: int) -> list[int]:
        """The guests that are there now, and were not when this generation ran."""
        now = [int(path.name) for path in self.host.up.state.volume("lxc").glob("[0-9]*")]
        return [each for each in now if f"/var/lib/lxc/{each}/config" not in self.files[number]]

    def answers(self) -> None:
        """A request passes the whole chain, and the foreign guests answer."""
        self.host.route(self.host.found_at())
        until(lambda: self.host.asked() == "200", "a request is answered by 200")
        for each in self.host.lab.foreign():
            assert self.host.client.echoed(each.address, 7, "one") == ["one"]

    def daemons(self) -> dict[int, dict[str, str]]:
        """The services of all of our guests."""
        return {number: daemons(self.host, number) for number in (101, 102, 103, CHAT)}

    def _note(self, number: int) -> None:
        self.files[number], self.running[number] = files(self.host), running(self.host)
        self.address[number] = self.host.found_at()
