"""A Proxmox node in a test's hands: a lab with stand-ins for what only Proxmox has, and real guests
below them; with the commands of `./invoke`, a look inside, and a client in the LAN.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.lab import up as labs_up
from builder.lab.shape import ROUTED
from builder.lab.up import Up
from tests.integration.handle import Done, read, until
from tests.integration.pve.shape import NODE, TEMPLATE, Pve, replaced
from tests.integration.traffic import Traffic, requests
from tests.lab import labs
from tests.lab.client import Client, client

OURS = (101, 102, 103, 111, 112, 113, 114)
ADOPTED, THEIRS, VM = 114, 200, 201
"""A guest that becomes ours, and a container and a VM that stay somebody else's."""
VOLUME = f"local:vztmpl/{Path(TEMPLATE).name}"
NAME = "ai.home.example.org"
"""What the adopted guest's program is called outside; its certificate is of the own CA."""
JOURNAL = "/var/lib/phoenix/journal"

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
class Host:
    """The node."""

    up: Up
    client: Client
    outside: list[str]
    """The command that runs another in the LAN's client."""
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    # ---- what is declared

    @property
    def site(self) -> Path:
        return self.up.state.project / "configs/site.yaml"

    @property
    def host(self) -> Path:
        return self.up.state.project / f"configs/hosts/{NODE}.yaml"

    def edit(self, place: Path, old: str, new: str) -> None:
        """Write something else into the description."""
        place.write_text(replaced(place.read_text(encoding="utf-8"), old, new), encoding="utf-8")

    # ---- the commands

    def start(self, command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command of `./invoke`; its end is not awaited (see `ended`)."""
        words = [self.up.lab.name, str(self.up.lab.network), command, json.dumps(options)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.pve.invoked", *words],
            cwd=labs.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def ended(self, process: subprocess.Popen[str], limit: float = 400) -> Done:
        """Await the end of a command."""
        out, told = process.communicate(timeout=limit)
        self.running.remove(process)
        done = read(process.returncode, out, told)
        print(f"{' '.join(map(str, process.args[-2:]))}: {done}")  # type: ignore[index]
        return done

    def invoke(self, command: str, **options: Any) -> Done:
        """A command of `./invoke`, to its end."""
        return self.ended(self.start(command, **options))

    def deploy(self) -> int:
        """Deploy what is declared; it must end well. The generation's number."""
        done = self.invoke("deploy")
        assert (done.code, done.found["result"]) == (0, "done"), done
        return int(done.found["generation"])

    def assert_as_declared(self, generation: int) -> None:
        """This generation runs, wholly as declared; no transaction is open."""
        found = self.invoke("status").found
        wrong = [found["drift"], found["faults"], found["restarts"], found["open"]]
        assert (found["generation"], wrong) == (generation, [[], [], [], None]), found
        assert set(OURS) <= self.runs().keys()

    # ---- a look inside, and hands there

    def sh(self, script: str) -> str:
        """What a script on the node prints; it must end well."""
        return self.run("sh", "-c", script)

    def run(self, *command: str) -> str:
        """What a command on the node prints, beside all of its networks; it must end well."""
        code, out, err = self.up.engine.inside(self.up.lab.host, *command)
        assert code == 0, (command, code, out, err)
        return out

    def guest(self, number: int, *command: str) -> str:
        """What a command in a guest prints."""
        return self.run("lxc-attach", "--name", str(number), "--clear-env", "--", *command)

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

    def journal(self) -> dict[str, Any] | None:
        """The transaction that is open; None where none is."""
        path = self.up.state.volume("phoenix") / "journal"
        try:
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    def told(self, event: str) -> list[dict[str, Any]]:
        """All events of a name."""
        path = self.up.state.volume("phoenix") / "events"
        lines = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        return [each for each in lines if each["event"] == event]

    def there(self, path: str) -> bool:
        """Whether something is at a path of the node."""
        return self.up.engine.inside(self.up.lab.host, "test", "-e", path)[0] == 0

    def cut_power(self) -> None:
        """End the node as a power cut does, and start it again; its start is not awaited."""
        self.up.engine.run("kill", self.up.lab.host)
        self.up.engine.run("start", self.up.lab.host)

    def shown(self, unit: str, name: str) -> str:
        """A unit's property; "" while systemd does not answer yet."""
        words = ("systemctl", "show", "--value", f"--property={name}", unit)
        return self.up.engine.inside(self.up.lab.host, *words)[1].strip()

    # ---- clients

    def curl(self) -> list[str]:
        """A request of a client in the LAN, through 101, 102 and the guest's front; prints 200."""
        return [
            *("curl", "--silent", "--show-error", "--max-time", "20", "--cacert", "/root.crt"),
            *("--resolve", f"{NAME}:443:{self.up.lab.address}", "--output", "/dev/null"),
            *("--write-out", "%{http_code}", f"https://{NAME}/"),
        ]

    def answers(self) -> None:
        """Await that a request is answered, by a certificate of the own root."""
        until(lambda: self.client.run(*self.curl())[1] == "200", "a request is answered", 120)

    @contextlib.contextmanager
    def requests(self) -> Iterator[dict[str, int | str]]:
        """Requests without a pause meanwhile; see `traffic.requests`."""
        with requests(self.outside, self.curl()) as found:
            yield found

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
        up = labs_up.up(labs.ROOT, Pve(lab.name, lab.shape, lab.network), labs.say)
        with client(up) as found:
            socket = ("--host", f"unix://{up.engine.socket}") if up.engine.socket else ()
            made = Host(up, found, ["docker", *socket, "exec", "--interactive", found.id])
            try:
                _prepared(made, up)
                yield made
            finally:
                for process in made.running:
                    process.kill()
                    process.communicate()


def _prepared(made: Host, up: Up) -> None:
    """What a node has that is in use, and its site's description in this LAN."""
    plain = "/var/lib/phoenix/templates/debian-12.tar"
    made.sh(f"mkdir -p /srv/models {Path(TEMPLATE).parent} && zstd -1 -q {plain} -o {TEMPLATE}")
    made.sh(f"rm -r {Path(plain).parent}")
    made.sh(_PORTS)
    assert isinstance(up.lab, Pve)
    made.site.write_text(up.lab.moved(made.site.read_text(encoding="utf-8")), encoding="utf-8")
    root = (up.state.project / "configs/ca/root.crt").read_text(encoding="utf-8")
    code, said = made.client.run("sh", "-c", f"cat >/root.crt <<'END'\n{root}END")
    assert code == 0, said
