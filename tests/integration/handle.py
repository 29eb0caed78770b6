"""A host of a lab in a test's hands: its description (`described`), the commands of `./invoke`, a
look inside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.lab.shape import BRIDGED, Lab
from builder.lab.up import Up
from tests.integration import described
from tests.integration.described import NAME
from tests.integration.traffic import KEPT, Traffic, requests, talking
from tests.lab import labs
from tests.lab.client import Client, client

FOREIGN = (901, 902, 903)
CHAT = 111
"""The guest whose program answers."""
JOURNAL = "/var/lib/phoenix/journal"


@dataclass(frozen=True, slots=True)
class Done:
    """What a command of `./invoke` came to: its exit code, the host's part of its JSON, and what
    it told a person."""

    code: int
    found: dict[str, Any]
    told: str

    def __str__(self) -> str:
        return f"exit {self.code}: {json.dumps(self.found)[:2000]}\n{self.told}"


def read(code: int, out: str, told: str) -> Done:
    """What a command came to, from what it printed."""
    plain = json.loads(out or "{}")
    return Done(code, next(iter(plain.get("hosts", {}).values()), plain), told)


@dataclass
class Handle:
    """The host. `address` is where it is declared to be, at first where the lab has made it."""

    up: Up
    client: Client
    outside: list[str]
    """The command that runs another in the LAN's client."""
    running: dict[subprocess.Popen[str], float] = field(default_factory=dict)

    @property
    def lab(self) -> Lab:
        return self.up.lab

    @property
    def bridged(self) -> bool:
        return self.lab.shape == BRIDGED

    # ---- what is declared

    @property
    def site(self) -> Path:
        return self.up.state.project / "configs/site.yaml"

    @property
    def host(self) -> Path:
        return self.up.state.project / f"configs/hosts/{self.lab.name}.yaml"

    @property
    def address(self) -> str:
        """Where the host is declared to be reached."""
        lines = self.host.read_text(encoding="utf-8").splitlines()
        (line,) = (line for line in lines if line.startswith("reach: "))
        return line.partition("@")[2]

    def declare(self, site: str, host: str) -> None:
        """Write this description, in place of the lab's own; its CA stays."""
        lines = self.host.read_text(encoding="utf-8").splitlines()
        (issued,) = (line for line in lines if line.startswith("ca: "))
        for other in self.host.parent.glob("*.yaml"):
            other.unlink()
        self.site.write_text(site, encoding="utf-8")
        self.host.write_text(f"{host}{issued}\n", encoding="utf-8")

    def edit(self, place: Path, old: str, new: str) -> None:
        """Write something else into the description."""
        text = place.read_text(encoding="utf-8")
        assert old in text, (old, text)
        place.write_text(text.replace(old, new), encoding="utf-8")

    def move(self, last: int) -> str:
        """Declare another address of the host in its LAN; the new one."""
        old, new = self.address, str(self.lab.at(last))
        self.edit(self.host, f"@{old}\n", f"@{new}\n")
        self.edit(self.host, f"{old}/24", f"{new}/24")
        return new

    # ---- the commands

    def start(self, command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command of `./invoke`; its end is not awaited (see `ended`)."""
        lab = self.lab
        words = [lab.name, lab.shape, str(lab.network), command, json.dumps(options)]
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.invoked", *words],
            cwd=labs.ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running[process] = time.monotonic()
        return process

    def ended(self, process: subprocess.Popen[str], limit: float = 400) -> Done:
        """Await the end of a command."""
        out, told = process.communicate(timeout=limit)
        took = time.monotonic() - self.running.pop(process)
        done = read(process.returncode, out, told)
        words = process.args[-2:] if isinstance(process.args, list) else ()
        print(f"{' '.join(map(str, words))}, {took:.1f} s: {done}")
        return done

    def killed(self, process: subprocess.Popen[str]) -> None:
        """End a command, and its ssh, as when the deployer's machine dies."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.running.pop(process)

    def invoke(self, command: str, **options: Any) -> Done:
        """A command of `./invoke`, to its end."""
        return self.ended(self.start(command, **options))

    def deploy(self, **options: Any) -> Done:
        """Deploy what is declared; it must end well. Foreign guests may be touched."""
        done = self.invoke("deploy", **{"affects": FOREIGN, **options})
        assert done.code == 0, done
        return done

    def rollback(self, to: int) -> Done:
        """Roll back; it must end well."""
        done = self.invoke("rollback", to=to)
        assert (done.code, done.found["generation"]) == (0, to), done
        return done

    def status(self) -> dict[str, Any]:
        """What `status` finds."""
        return self.invoke("status").found

    def assert_as_declared(self, generation: int) -> None:
        """This generation runs, wholly as declared; no transaction is open."""
        found = self.status()
        wrong = [found["drift"], found["faults"], found["restarts"], found["open"]]
        assert (found["generation"], wrong) == (generation, [[], [], [], None]), found

    def reaches(self, stage: str) -> None:
        """Await this stage of a transaction."""
        until(lambda: self.stage() == stage, f"a transaction is {stage}", pause=0.02)

    # ---- a look inside, and hands there

    def run(self, *command: str) -> str:
        """What a command on the host prints, beside all of its networks; it must end well."""
        code, out, err = self.up.engine.inside(self.lab.host, *command)
        assert code == 0, (command, code, out, err)
        return out

    def sh(self, script: str) -> str:
        """What a script on the host prints."""
        return self.run("sh", "-c", script)

    def guest(self, number: int, *command: str) -> str:
        """What a command in a guest prints."""
        return self.run("lxc-attach", "--name", str(number), "--clear-env", "--", *command)

    def journal(self) -> dict[str, Any] | None:
        """The journal of the transaction that is open; None where none is."""
        try:
            path = self.up.state.volume("phoenix") / "journal"
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return found

    def stage(self) -> str | None:
        """The stage of the transaction that is open."""
        found = self.journal()
        return str(found["stage"]) if found else None

    def events(self) -> list[dict[str, Any]]:
        """What all transactions have told."""
        path = self.up.state.volume("phoenix") / "events"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def tells(self, event: str, after: int) -> None:
        """Await that a transaction tells this, beyond the first `after` events."""

        def told() -> bool:
            return any(each["event"] == event for each in self.events()[after:])

        until(told, f"{event} is told", pause=0.02)

    def runs(self, number: int) -> bool:
        """Whether a guest runs."""
        said = self.run("lxc-info", "--name", str(number), "--state", "--no-humanize")
        return said.strip() == "RUNNING"

    def booted(self) -> bool:
        """Whether the host's start has come to its end."""
        _, out, _ = self.up.engine.inside(self.lab.host, "systemctl", "is-system-running")
        return out.strip() in ("running", "degraded")

    def cut_power(self) -> None:
        """End the host's container as a power cut does, and start it again."""
        engine = self.up.engine
        engine.run("kill", self.lab.host)
        engine.run("start", self.lab.host)
        until(self.booted, "the host has booted")

    def found_at(self) -> str:
        """The host's address in its LAN, as it is now."""
        link = "vmbr0" if self.bridged else "eth0"
        (found,) = json.loads(self.run("ip", "-json", "-4", "address", "show", "dev", link))
        (address,) = (each["local"] for each in found["addr_info"])
        return str(address)

    # ---- clients

    @contextlib.contextmanager
    def traffic(self, inside: bool = False) -> Iterator[Traffic]:
        """A client in the LAN, or on the host, that talks with all foreign guests without a
        pause."""
        addresses = [str(each.address) for each in self.lab.foreign()]
        command = [*self.outside[:-1], self.lab.host] if inside else self.outside
        made = Traffic(command, addresses)
        try:
            yield made
        finally:
            made.close()

    @contextlib.contextmanager
    def untouched(self, inside: bool = False) -> Iterator[None]:
        """Foreign guests lose nothing meanwhile: no packet, and no connection."""
        with self.traffic(inside) as running, running.kept():
            yield

    def route(self, address: str) -> None:
        """Have the LAN's router know where the host is, and so what is behind it."""
        if not self.bridged:
            beyond = f"ip route replace 10.9.0.0/24 via {address}"
            code, out, err = self.up.engine.inside(self.lab.lan, "sh", "-c", beyond)
            assert code == 0, out + err

    def gateway(self) -> str:
        """Where clients in the LAN find the gateway."""
        return str(self.lab.at(101)) if self.bridged else self.found_at()

    def curl(self) -> list[str]:
        """A request of a client in the LAN, through gateway, mesh and front; it prints 200."""
        return [
            *("curl", "--silent", "--show-error", "--max-time", "20", "--cacert", "/root.crt"),
            *("--resolve", f"{NAME}:443:{self.gateway()}", "--output", "/dev/null"),
            *("--write-out", "%{http_code}", f"https://{NAME}/"),
        ]

    @contextlib.contextmanager
    def connection(self) -> Iterator[Callable[[], str]]:
        """A connection through the whole chain that is kept: each call is a request over it, and
        gives its status and what is said about the connection."""
        with talking([*self.outside, *KEPT], NAME, self.gateway()) as asks:
            yield asks

    def asked(self) -> str:
        """What a request comes to: 200, or what went wrong."""
        return self.client.run(*self.curl())[1]

    @contextlib.contextmanager
    def requests(self) -> Iterator[dict[str, int | str]]:
        """Requests without a pause meanwhile; see `traffic.requests`."""
        with requests(self.outside, self.curl()) as found:
            yield found


def until(
    condition: Callable[[], object], what: str, limit: float = 90, pause: float = 0.25
) -> None:
    """Await a condition, which is looked at every `pause` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"after {limit:g} s not yet: {what}"
        time.sleep(pause)


@contextlib.contextmanager
def handle(
    shape: str, site: str = described.SITE, host: Callable[[Lab], str] = described.host
) -> Iterator[Handle]:
    """A new lab of this shape, with this description and a client; no release is on it."""
    with labs.own(shape) as up, client(up) as found:
        command = ["docker", *_socket(up), "exec", "--interactive", found.id]
        made = Handle(up, found, command)
        made.declare(site, host(up.lab))
        root = (up.state.project / "configs/ca/root.crt").read_text(encoding="utf-8")
        code, said = found.run("sh", "-c", f"cat >/root.crt <<'END'\n{root}END")
        assert code == 0, said
        try:
            yield made
        finally:
            for process in made.running:
                process.kill()
                process.communicate()


def _socket(up: Up) -> Sequence[str]:
    return ("--host", f"unix://{up.engine.socket}") if up.engine.socket else ()
