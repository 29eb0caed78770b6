"""A lab's host in a test's hands: its description, the commands of `./invoke` as processes, and a
look inside. What is there on plain LXC has `handle`, what on Proxmox `pve.node`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from builder.lab.up import Up
from tests.integration.traffic import requests
from tests.lab import labs
from tests.lab.client import Client, client
from tests.lab.inside import Inside

Life = TypeVar("Life")


@dataclass(frozen=True, slots=True)
class Done:
    """What a command of `./invoke` came to: its exit code, the host's part of its JSON, and what
    it told a person."""

    code: int
    found: dict[str, Any]
    told: str

    def __str__(self) -> str:
        return f"exit {self.code}: {json.dumps(self.found)[:2000]}\n{self.told}"


def until(
    condition: Callable[[], object],
    what: str,
    limit: float = 90,
    pause: float = 0.25,
    passes: bool = False,
) -> None:
    """Await a condition, which is looked at every `pause` seconds, and less often in a long wait:
    each look takes from what is awaited. One that `passes` again is looked at as often as ever."""
    began = time.monotonic()
    while not condition():
        passed = time.monotonic() - began
        assert passed < limit, f"after {limit:g} s not yet: {what}"
        time.sleep(pause if passes else max(pause, passed / 10))


def through(life: Life, steps: Iterable[Callable[[Life], None]]) -> None:
    """One step after another; what fails says in which, and each how long it took."""
    for step in steps:
        began = time.monotonic()
        print(f"== {step.__name__}: {step.__doc__}", flush=True)
        try:
            step(life)
        except BaseException as error:
            error.add_note(f"in the step {step.__name__}")
            raise
        print(f"== {step.__name__}: {time.monotonic() - began:.1f} s", flush=True)


def spawned(module: str, *words: str) -> subprocess.Popen[str]:
    """A module run as a program, in a process group of its own, so that it can be killed with all
    that it started."""
    return subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=labs.ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@dataclass
class Machine:
    """The host."""

    up: Up
    client: Client
    outside: list[str]
    """The command that runs another in the LAN's client."""
    running: dict[subprocess.Popen[str], float] = field(default_factory=dict)
    """The commands that were started and not awaited, and when."""

    def __post_init__(self) -> None:
        self.inside = Inside(self.up.engine, self.up.lab.host)

    @property
    def shape(self) -> str:
        """What kind of host it is, as `invoked` calls it."""
        return self.up.lab.shape

    # ---- what is declared

    @property
    def name(self) -> str:
        """As the host is declared."""
        return self.up.lab.called

    @property
    def site(self) -> Path:
        return self.up.state.project / "configs/site.yaml"

    @property
    def host(self) -> Path:
        return self.up.state.project / f"configs/hosts/{self.name}.yaml"

    def edit(self, place: Path, old: str, new: str) -> None:
        """Write something else into the description."""
        text = place.read_text(encoding="utf-8")
        assert old in text, (old, text)
        place.write_text(text.replace(old, new), encoding="utf-8")

    # ---- the commands

    def start(self, command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command of `./invoke`; its end is not awaited (see `ended`)."""
        lab = self.up.lab
        words = (lab.name, self.shape, str(lab.network), command, json.dumps(options))
        process = spawned("tests.integration.invoked", *words)
        self.running[process] = time.monotonic()
        return process

    def ended(self, process: subprocess.Popen[str], limit: float = 900) -> Done:
        """Await the end of a command."""
        out, told = process.communicate(timeout=limit)
        took = time.monotonic() - self.running.pop(process)
        plain = json.loads(out or "{}")
        done = Done(process.returncode, next(iter(plain.get("hosts", {}).values()), plain), told)
        words = process.args[-2:] if isinstance(process.args, list) else ()
        print(f"{' '.join(map(str, words))}, {took:.1f} s: {done}")
        return done

    def killed(self, process: subprocess.Popen[str]) -> None:
        """End a command, and its ssh, as when the deployer's machine dies."""
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.running.pop(process)

    def close(self) -> None:
        """End the commands that still run."""
        self.inside.close()
        for process in self.running:
            process.kill()
            process.communicate()

    def invoke(self, command: str, **options: Any) -> Done:
        """A command of `./invoke`, to its end."""
        return self.ended(self.start(command, **options))

    def assert_as_declared(self, generation: int) -> None:
        """This generation runs, wholly as declared; no transaction is open."""
        found = self.invoke("status").found
        faults = [each for each in found["faults"] if not self.unavoidable(each)]
        wrong = [found["drift"], faults, found["restarts"], found["open"]]
        assert (found["generation"], wrong) == (generation, [[], [], [], None]), found

    def unavoidable(self, _fault: str) -> bool:
        """Whether a fault that status tells is of the lab's own making."""
        return False

    # ---- a look inside, and hands there

    def run(self, *command: str) -> str:
        """What a command on the host prints, beside all of its networks; it must end well."""
        code, out, err = self.inside.run(*command)
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

    def events(self) -> list[dict[str, Any]]:
        """What all transactions have told."""
        path = self.up.state.volume("phoenix") / "events"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def cut_power(self) -> None:
        """End the host's container as a power cut does, and start it again; its start is not
        awaited."""
        self.up.engine.run("kill", self.up.lab.host)
        self.inside.close()
        self.up.engine.run("start", self.up.lab.host)

    # ---- clients

    def asking(self, name: str, address: str) -> list[str]:
        """A request of a client in the LAN, through gateway, mesh and front; it prints 200."""
        return [
            *("curl", "--silent", "--show-error", "--max-time", "20", "--cacert", "/root.crt"),
            *("--resolve", f"{name}:443:{address}", "--output", "/dev/null"),
            *("--write-out", "%{http_code}", f"https://{name}/"),
        ]

    def curl(self) -> list[str]:
        """`asking` for what is exposed on this host."""
        raise NotImplementedError

    def asked(self) -> str:
        """What a request comes to: 200, or what went wrong."""
        return self.client.run(*self.curl())[1]

    @contextlib.contextmanager
    def requests(self) -> Iterator[dict[str, int | str]]:
        """Requests without a pause meanwhile; see `traffic.requests`."""
        with requests(self.outside, self.curl()) as found:
            yield found


@contextlib.contextmanager
def reached(up: Up) -> Iterator[tuple[Client, list[str]]]:
    """A client in a lab's LAN, which trusts its site, and the command that runs another there."""
    with client(up) as found:
        root = (up.state.project / "configs/ca/root.crt").read_text(encoding="utf-8")
        code, said = found.run("sh", "-c", f"cat >/root.crt <<'END'\n{root}END")
        assert code == 0, said
        socket = ("--host", f"unix://{up.engine.socket}") if up.engine.socket else ()
        yield found, ["docker", *socket, "exec", "--interactive", found.id]
