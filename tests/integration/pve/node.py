"""A Proxmox node in a test's hands: a lab with stand-ins for what only Proxmox has, and real guests
below them; `machine`, with what is looked at there."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from builder.lab import up as labs_up
from builder.lab.shape import ROUTED
from tests.integration.machine import Machine, reached, until
from tests.integration.pve.shape import PVE, TEMPLATE, Pve
from tests.integration.traffic import Traffic
from tests.lab import labs

OURS = (101, 102, 103, 111, 112, 113, 114)
ADOPTED, THEIRS, VM = 114, 200, 201
"""A guest that becomes ours, and a container and a VM that stay somebody else's."""
VOLUME = f"local:vztmpl/{Path(TEMPLATE).name}"
NAME = "ai.home.example.org"
"""What the adopted guest's program is called outside; its certificate is of the own CA."""
JOURNAL = "/var/lib/phoenix/journal"

# Nobody reaches a public CA from a lab.
_PUBLIC = (
    "guest 101 (nginx-gateway) waits for the certificate of chat.example.org "
    "from acme-v02.api.letsencrypt.org"
)
# Speaks with pmxcfs.py.
_SWITCH = """
import socket, sys
with socket.socket(socket.AF_UNIX) as to:
    to.connect("/run/pmxcfs")
    with to.makefile("rw") as stream:
        stream.write(sys.argv[1] + "\\n")
        stream.flush()
        print(stream.readline())
"""
# All of /etc but what ifupdown2 writes as it runs, and what the cluster's file system tells itself.
_FILES = """
import json, os
found = {}
for folder, folders, names in os.walk("/etc"):
    for name in (*names, *folders):
        path = os.path.join(folder, name)
        if path.startswith(("/etc/iproute2", "/etc/pve/.v", "/etc/network/.pve-")):
            continue
        if os.path.islink(path):
            found[path] = os.readlink(path)
        elif os.path.isdir(path):
            found[path] = "/"
        else:
            with open(path, "rb") as stream:
                found[path] = f"{os.stat(path).st_mode:o} " + stream.read().decode("latin-1")
print(json.dumps(found))
"""
# Proxmox has guests' ends of their cables stay in a bridge at every reload; Debian's does so only
# where the bridge says it.
_PORTS = (
    "sed -i 's/bridgeportscondoneregex = self._get_bridge_port_condone_regex(ifaceobj)/"
    '& or re.compile("(tap|veth|fwpr)")/\' /usr/share/ifupdown2/addons/bridge.py && '
    "grep -q 'tap|veth|fwpr' /usr/share/ifupdown2/addons/bridge.py"
)


@dataclass
class Host(Machine):
    """The node."""

    @property
    def shape(self) -> str:
        return PVE

    # ---- the commands

    def deploy(self) -> int:
        """Deploy what is declared; it must end well. The generation's number."""
        done = self.invoke("deploy")
        assert (done.code, done.found["result"]) == (0, "done"), done
        return int(done.found["generation"])

    def assert_as_declared(self, generation: int) -> None:
        """This generation runs, wholly as declared, with all of our guests."""
        super().assert_as_declared(generation)
        assert set(OURS) <= self.runs().keys()

    def unavoidable(self, fault: str) -> bool:
        return fault.startswith(_PUBLIC)

    # ---- a look inside, and hands there

    def put(self, path: str, text: str) -> None:
        """Have a file on the node, as somebody there writes it."""
        code, _, err = self.up.engine.tried(
            "exec", "--interactive", self.up.lab.host, "sh", "-c", f"cat >{path}",
            given=text.encode(),
        )  # fmt: skip
        assert code == 0, err

    def switch(self, **switches: Any) -> None:
        """Turn what pmxcfs.py can be turned to."""
        self.run("python3", "-c", _SWITCH, json.dumps(switches))

    def files(self) -> dict[str, str]:
        """Every file below /etc, with its mode; where a link leads; folders."""
        found: dict[str, str] = json.loads(self.run("python3", "-c", _FILES))
        return found

    def confs(self) -> dict[str, str]:
        """What of `files` is in the cluster's file system."""
        return {path: text for path, text in self.files().items() if path.startswith("/etc/pve/")}

    def conf(self, number: int) -> list[str]:
        """The lines of a guest's configuration."""
        return self.run("cat", f"/etc/pve/lxc/{number}.conf").splitlines()

    def calls(self, verb: str) -> list[list[str]]:
        """With what `pct VERB` was called since the node's start, in order."""
        lines = self.sh("cat /run/pct/calls.log 2>/dev/null || true").splitlines()
        return [words[2:] for words in map(json.loads, lines) if words[:2] == ["pct", verb]]

    def runs(self) -> dict[int, int]:
        """The guests that run, each with its first process: another one after each start."""
        listed = "for each in $(lxc-ls --active); do echo $each $(lxc-info -n $each -pH); done"
        lines = (line.split() for line in self.sh(listed).splitlines())
        return {int(number): int(process) for number, process in lines if number.isdecimal()}

    def told(self, event: str) -> list[dict[str, Any]]:
        """All events of a name."""
        return [each for each in self.events() if each["event"] == event]

    def there(self, path: str) -> bool:
        """Whether something is at a path of the node."""
        return self.inside.run("test", "-e", path)[0] == 0

    def shown(self, unit: str, name: str) -> str:
        """A unit's property; "" while systemd does not answer yet."""
        words = ("systemctl", "show", "--value", f"--property={name}", unit)
        return self.inside.run(*words)[1].strip()

    # ---- clients

    def curl(self) -> list[str]:
        return self.asking(NAME, str(self.up.lab.address))

    def answers(self) -> None:
        """Await that a request is answered, by a certificate of the own root."""
        until(lambda: self.asked() == "200", "a request is answered", 120)

    @contextlib.contextmanager
    def untouched(self) -> Iterator[None]:
        """The foreign guest loses no packet and no connection meanwhile."""
        made = Traffic(self.outside, ["10.9.0.20"])
        try:
            with made.kept():
                yield
        finally:
            made.close()


@contextlib.contextmanager
def host() -> Iterator[Host]:
    """A new node, with a template and devices, no guest, and a client; no release is on it."""
    with labs.reserved(ROUTED) as lab:
        pve = Pve(lab.name, lab.shape, lab.network)
        up = labs_up.up(labs.ROOT, pve, labs.say)
        with reached(up) as (client, outside):
            made = Host(up, client, outside)
            try:
                _prepared(made, pve)
                yield made
            finally:
                made.close()


def _prepared(made: Host, pve: Pve) -> None:
    """What a node has that is in use, and its site's description in this LAN."""
    plain = "/var/lib/phoenix/templates/debian-12.tar"
    made.sh(f"mkdir -p /srv/models {Path(TEMPLATE).parent} && zstd -1 -q {plain} -o {TEMPLATE}")
    made.sh(f"rm -r {Path(plain).parent}")
    made.sh(_PORTS)
    made.site.write_text(pve.moved(made.site.read_text(encoding="utf-8")), encoding="utf-8")
