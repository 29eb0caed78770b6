"""What a lab is, as values: its names, addresses and the files that its host starts with.

    shape        the host as it is found                      a release's vmbr0
    lab          eth0 has the LAN's address; foreign guests   routed, eth0 is the uplink
                 on a bridge of their own, vmbr9
    lab-bridged  as Proxmox installs itself: eth0 is in       the same bridge, which the deployer
                 vmbr0 with the LAN's address, and so are     comes over
                 the foreign guests

In the LAN, .10 is the host, .1 the router and client, .254 this machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

ROUTED, BRIDGED = "lab", "lab-bridged"
NETWORKS = {ROUTED: IPv4Network("198.18.0.0/24"), BRIDGED: IPv4Network("198.18.1.0/24")}
"""The shapes, and the LAN of the lab that `lab.up` makes in it."""
RANGE = IPv4Network("198.18.0.0/15")
"""Where LANs are taken from: set aside for tests of network devices (RFC 2544), routed nowhere."""

TEMPLATE = "debian-12.tar"
ECHO = 7
"""The port on which each foreign guest gives back what it is sent."""

FOREIGN_ROOT = "/var/lib/lxc/.foreign/rootfs"

_FILES = Path(__file__).parent / "files"
_ECHO = _FILES / "echo.py"
_BEYOND = IPv4Network("10.9.0.0/24")
_NUMBERS = (901, 902, 903)
# udev would set up the machine's devices, lxc-net wants a bridge of its own, and what AppArmor
# loads, the machine's kernel keeps; so it does kernel.* values, which these files set.
_MASKED = (
    "etc/systemd/system/apparmor.service",
    "etc/systemd/system/lxc-net.service",
    "etc/systemd/system/systemd-udev-trigger.service",
    "etc/systemd/system/systemd-udevd.service",
    "etc/systemd/system/systemd-udevd-control.socket",
    "etc/systemd/system/systemd-udevd-kernel.socket",
    "etc/sysctl.d/50-pid-max.conf",
    "etc/sysctl.d/99-protect-links.conf",
)


@dataclass(frozen=True, slots=True)
class File:
    """A file in a container, at a path from its root; `link` makes it a symbolic link."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    link: str = ""


@dataclass(frozen=True, slots=True)
class Foreign:
    """A guest that is none of ours: its number, address with prefix, router and bridge.

    All have the same root file system, and one program each, so that they cost next to nothing.
    """

    number: int
    address: IPv4Address
    prefix: int
    gateway: IPv4Address
    bridge: str

    def config(self) -> str:
        """Its configuration, as plain LXC has it."""
        return (
            "lxc.include = /usr/share/lxc/config/common.conf\n"
            "lxc.include = /usr/share/lxc/config/userns.conf\n"
            "lxc.apparmor.profile = unconfined\n"
            "lxc.idmap = u 0 100000 65536\n"
            "lxc.idmap = g 0 100000 65536\n"
            f"lxc.uts.name = foreign-{self.number}\n"
            f"lxc.rootfs.path = dir:{FOREIGN_ROOT}\n"
            f"lxc.init.cmd = /usr/bin/python3 -I /{_ECHO.name}\n"
            # The one program that it is ends at it, where a whole Debian would shut down at PWR.
            "lxc.signal.halt = SIGTERM\n"
            "lxc.net.0.type = veth\n"
            f"lxc.net.0.veth.pair = veth{self.number}i0\n"
            f"lxc.net.0.link = {self.bridge}\n"
            "lxc.net.0.flags = up\n"
            "lxc.net.0.name = eth0\n"
            f"lxc.net.0.hwaddr = 02:00:00:00:09:{self.number % 100:02x}\n"
            f"lxc.net.0.ipv4.address = {self.address}/{self.prefix}\n"
            f"lxc.net.0.ipv4.gateway = {self.gateway}\n"
            "lxc.start.auto = 1\n"
        )


@dataclass(frozen=True, slots=True)
class Lab:
    """A lab by name, which is also its host's, in ssh's configuration and (`called`) configs/;
    where its host is `alone`, there are no foreign guests."""

    name: str
    shape: str
    network: IPv4Network
    alone: bool = False

    @classmethod
    def of(cls, shape: str) -> Lab:
        """The one lab of this shape that the commands know."""
        return cls(shape, shape, NETWORKS[shape])

    def at(self, number: int) -> IPv4Address:
        """An address in the LAN."""
        return self.network[number]

    @property
    def address(self) -> IPv4Address:
        """The host's."""
        return self.at(10)

    @property
    def router(self) -> IPv4Address:
        """The LAN's router, from whose container tests act as clients."""
        return self.at(1)

    @property
    def machine(self) -> IPv4Address:
        """This machine's end of the LAN, from which a deployer comes."""
        return self.network[-2]

    @property
    def called(self) -> str:
        """The host's name in configs/."""
        return self.name

    @property
    def host(self) -> str:
        """The host's container."""
        return f"phoenix-{self.name}-host"

    @property
    def lan(self) -> str:
        """The router's container."""
        return f"phoenix-{self.name}-lan"

    @property
    def docker_network(self) -> str:
        """Docker's name of the LAN."""
        return f"phoenix-{self.name}"

    def foreign(self) -> tuple[Foreign, ...]:
        """The guests that are there before any release."""
        if self.alone:
            return ()
        if self.shape == BRIDGED:
            net, first, gateway, bridge = self.network, 240, self.router, "vmbr0"
        else:
            net, first, gateway, bridge = _BEYOND, 10, _BEYOND[1], "vmbr9"
        return tuple(
            Foreign(number, net[first + number % 100], net.prefixlen, gateway, bridge)
            for number in _NUMBERS
        )

    def interfaces(self) -> str:
        """The host's /etc/network/interfaces, as somebody wrote it by hand."""
        name = "interfaces-bridged" if self.shape == BRIDGED else "interfaces"
        return self._filled(name)

    def router_commands(self) -> tuple[str, ...]:
        """What the router's container does before it waits."""
        # Docker's default route leads to this machine; a router that leads nowhere says so.
        nowhere = "ip route replace unreachable default"
        beyond = f"ip route replace {_BEYOND} via {self.address}"
        return (nowhere, beyond) if self.shape == ROUTED else (nowhere,)

    def described(self) -> str:
        """What configs/hosts/NAME.yaml says of this host, on top of configs/hosts/lab.yaml."""
        name = "bridged.yaml" if self.shape == BRIDGED else "routed.yaml"
        return self._filled(name)

    def files(self, host_key: bytes, operator: bytes) -> Iterator[File]:
        """What the host's container has on top of Debian: private host key, who may log in."""
        yield File("sbin/lab-first", (_FILES / "first.sh").read_bytes(), 0o755)
        yield File("etc/hostname", f"{self.name}\n".encode())
        yield File("etc/hosts", f"127.0.0.1 localhost\n{self.address} {self.name}\n".encode())
        yield File("etc/resolv.conf", f"nameserver {self.router}\n".encode())
        for name in ("subuid", "subgid"):
            yield File(f"etc/{name}", b"root:100000:65536\n")
        yield File("etc/network/interfaces", self.interfaces().encode())
        yield File("etc/network/interfaces.d/local", (_FILES / "interfaces.d").read_bytes())
        # At boot, guests are else silently not started where their bridge is not there yet.
        after = b"[Unit]\nAfter=networking.service\n"
        yield File("etc/systemd/system/lxc.service.d/after-networking.conf", after)
        yield File("etc/ssh/ssh_host_ed25519_key", host_key, 0o600)
        yield File("root/.ssh/authorized_keys", operator, 0o600)
        yield from (File(path, link="/dev/null") for path in _MASKED)

    def _filled(self, name: str) -> str:
        text = (_FILES / name).read_text(encoding="utf-8")
        values = {
            "NAME": self.name,
            "ADDRESS": f"{self.address}/{self.network.prefixlen}",
            "HOST": str(self.address),
            "ROUTER": str(self.router),
            "LAN": str(self.network[0])[:-2],
            "BEYOND": f"{_BEYOND[1]}/{_BEYOND.prefixlen}",
        }
        for key, value in values.items():
            text = text.replace(f"@{key}@", value)
        assert "@" not in text.replace("root@", ""), text
        return text


def foreign_files() -> Iterator[File]:
    """What the foreign guests' root file system has on top of the template."""
    yield File(_ECHO.name, _ECHO.read_bytes())
