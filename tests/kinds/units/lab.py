"""Several running guests on one bridge: the reference network in small, with a client beside it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from builder.network import Network
from tests.judges import pki
from tests.kinds.units import machine
from tests.kinds.units.machine import Machine

PASSWORD = b"of the intermediate\n"
CLIENT = Path(__file__).with_name("client.py")


class Lab:
    """Running guests by name; the bridge's own address is the host's, from which clients come."""

    def __init__(self, net: Network, holder: int) -> None:
        self.net, self.holder = net, holder
        self.guests: dict[str, Machine] = {}

    def attach(self, name: str, found: Machine) -> None:
        """Give a guest its interface, before it boots."""
        address, *more = self.net.addresses(name)
        end = f"v{int(address) % 65536}"
        self.ip(f"link add {end} type veth peer name eth0 netns {found.first}")
        self.ip(f"link set {end} master br0 up")
        for command in (
            "link set lo up",
            f"address add {address}/24 dev eth0",
            *(f"address add {each}/64 dev eth0 nodad" for each in more),
            "link set eth0 up",
            f"route add default via {self.host}",
        ):
            _ip(found.first, command)

    @property
    def host(self) -> object:
        bridge = self.net.bridge(self.net.gateway.guest.interfaces[0].bridge)
        assert bridge.address
        return bridge.address.ip

    def ip(self, command: str) -> None:
        _ip(self.holder, command)

    def client(self, *arguments: str) -> subprocess.Popen[str]:
        """Start client.py at the host's end of the bridge."""
        enter = ["nsenter", "--target", str(self.holder), "--net"]
        return subprocess.Popen(
            [*enter, sys.executable, str(CLIENT), *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def ask(self, guest: str, name: str, path: str = "/", port: int = 443) -> str:
        """What a client gets: status and body, or how it failed; TLS by the site's root."""
        address = str(self.net.member(guest).guest.address)
        with self.root() as root:
            done = self.client("once", address, str(port), name, path, root)
            return done.communicate(timeout=30)[0]

    def reach(self, address: object, *ports: int) -> list[str]:
        """For each port of an address, what a connection comes to: open, refused or silent."""
        done = self.client("reach", str(address), *map(str, ports)).communicate(timeout=30)[0]
        return [line.split()[1] for line in done.splitlines()]

    @contextlib.contextmanager
    def root(self) -> Iterator[str]:
        """The path of the site's root certificate."""
        with tempfile.NamedTemporaryFile(suffix=".crt") as stream:
            stream.write(pki.authority().root)
            stream.flush()
            yield stream.name


def ca_secrets() -> dict[str, bytes]:
    """The CA guest's secrets, for the judges' authority."""
    key = pki.authority().intermediate_key(PASSWORD.strip())
    return {"intermediate.key": key, "intermediate.password": PASSWORD}


@contextlib.contextmanager
def running(net: Network, names: tuple[str, ...]) -> Iterator[Lab]:
    """These guests of a network: the first one booted alone, then the others at once."""
    with contextlib.ExitStack() as stack:
        command = ["unshare", "--net", "sleep", "infinity"]
        holder = subprocess.Popen(command)
        stack.callback(holder.wait)
        stack.callback(holder.kill)
        _await_namespace(holder.pid)
        lab = Lab(net, holder.pid)
        lab.ip("link add br0 type bridge")
        lab.ip(f"address add {lab.host}/24 dev br0")
        if net.host.bridges[0].address6:
            lab.ip(f"address add {net.host.bridges[0].address6} dev br0 nodad")
        lab.ip("link set br0 up")
        lab.ip("link set lo up")
        lab.guests[names[0]] = stack.enter_context(_guest(lab, names[0]))
        booting = [_guest(lab, name) for name in names[1:]]
        with ThreadPoolExecutor() as pool:
            started = [pool.submit(each.__enter__) for each in booting]
            for name, each, result in zip(names[1:], booting, started, strict=True):
                lab.guests[name] = result.result()
                stack.push(each)
        yield lab


def _guest(lab: Lab, name: str) -> contextlib.AbstractContextManager[Machine]:
    member = lab.net.member(name)
    return machine.booted(
        machine.tree(lab.net, name),
        member.programs,
        secrets=ca_secrets() if member.guest.role == "ca" else {},
        begun=partial(lab.attach, name),
    )


def _ip(process: int, command: str) -> None:
    enter = ["nsenter", "--target", str(process), "--net"]
    subprocess.run([*enter, "ip", *command.split()], check=True)


def _await_namespace(process: int) -> None:
    own = Path("/proc/self/ns/net").readlink()
    while Path(f"/proc/{process}/ns/net").readlink() == own:
        pass
