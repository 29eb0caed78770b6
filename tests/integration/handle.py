"""A host of a lab on plain LXC in a test's hands; `machine`, with its description (`described`)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from builder.lab.shape import BRIDGED, Lab
from tests.integration import described
from tests.integration.described import NAME
from tests.integration.machine import Done, Machine, reached, until
from tests.integration.traffic import KEPT, Traffic, talking
from tests.lab import labs

FOREIGN = (901, 902, 903)
CHAT = 111
"""The guest whose program answers."""


@dataclass
class Handle(Machine):
    """The host. `address` is where it is declared to be, at first where the lab has made it."""

    @property
    def lab(self) -> Lab:
        return self.up.lab

    @property
    def bridged(self) -> bool:
        return self.lab.shape == BRIDGED

    # ---- what is declared

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

    def move(self, last: int) -> str:
        """Declare another address of the host in its LAN; the new one."""
        old, new = self.address, str(self.lab.at(last))
        self.edit(self.host, f"@{old}\n", f"@{new}\n")
        self.edit(self.host, f"{old}/24", f"{new}/24")
        return new

    # ---- the commands

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

    def reaches(self, stage: str) -> None:
        """Await this stage of a transaction."""
        until(lambda: self.stage() == stage, f"a transaction is {stage}", pause=0.02, passes=True)

    # ---- a look inside, and hands there

    def stage(self) -> str | None:
        """The stage of the transaction that is open."""
        found = self.journal()
        return str(found["stage"]) if found else None

    def tells(self, event: str, after: int) -> None:
        """Await that a transaction tells this, beyond the first `after` events."""

        def told() -> bool:
            return any(each["event"] == event for each in self.events()[after:])

        until(told, f"{event} is told", pause=0.02, passes=True)

    def runs(self, number: int) -> bool:
        """Whether a guest runs."""
        said = self.run("lxc-info", "--name", str(number), "--state", "--no-humanize")
        return said.strip() == "RUNNING"

    def booted(self) -> bool:
        """Whether the host's start has come to its end."""
        _, out, _ = self.inside.run("systemctl", "is-system-running")
        return out.strip() in ("running", "degraded")

    def cut_power(self) -> None:
        """As a power cut does, until it has booted again."""
        super().cut_power()
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
        return self.asking(NAME, self.gateway())

    @contextlib.contextmanager
    def connection(self) -> Iterator[Callable[[], str]]:
        """A connection through the whole chain that is kept: each call is a request over it, and
        gives its status and what is said about the connection."""
        with talking([*self.outside, *KEPT], NAME, self.gateway()) as asks:
            yield asks


@contextlib.contextmanager
def handle(
    shape: str,
    site: str = described.SITE,
    host: Callable[[Lab], str] = described.host,
    alone: bool = False,
) -> Iterator[Handle]:
    """A new lab of this shape, with this description and a client; no release is on it."""
    with labs.own(shape, alone) as up, reached(up) as (client, outside):
        made = Handle(up, client, outside)
        made.declare(site, host(up.lab))
        try:
            yield made
        finally:
            made.close()
