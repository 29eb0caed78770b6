"""A host as it was declared, in a space: its real files applied, and a guest in each namespace.

The host is the space itself: `ifup -a` on our interfaces file, systemd-sysctl on our settings, nft
on our rules. Each guest is a namespace gID behind a veth with the guest's MAC and addresses; "lan"
is what is outside, on the far end of the uplink, and "stranger" a guest that nobody declared.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import yaml

from builder import declare
from builder.derive import derive
from builder.flows import ANY, flows
from builder.kinds import firewall, interfaces
from builder.kinds.artifact import HostFile
from builder.kinds.conf import addressed, veth
from builder.network import Network
from tests.judges import ifupdown2
from tests.judges.namespace import Entry, Space
from tests.kinds.firewall.frames import untagged

ROOT = Path(__file__).parents[3]
INSIDE = Path(__file__).with_name("inside.py").read_text()
NEXT, NEXT6 = "10.0.0.50", "fd00::50"
STRANGER, STRANGER_MAC = "10.0.0.200", "02:00:00:00:02:00"
LAN, LAN6 = "192.168.1.50", "2001:db8:1::50"
_SECONDS = 0.6
_CARRIER = 10.0
_NOTHING: Mapping[str, str] = {}
_AT_ONCE = {f"net.ipv6.conf.{which}.accept_dad": "0" for which in ("all", "default")}
Data = dict[str, Any]
_PING = """
import socket, sys
six = ":" in sys.argv[1]
family, protocol = (socket.AF_INET6, 58) if six else (socket.AF_INET, 1)
echo = socket.socket(family, socket.SOCK_RAW, protocol)
echo.settimeout(1)
# Type, code, checksum (the kernel fills in that of ICMPv6), identifier, sequence.
echo.sendto(bytes.fromhex("800000005aa50001" if six else "08009d595aa50001"), (sys.argv[1], 0))
answer = 129 if six else 0
while echo.recv(200)[0 if six else 20] != answer:
    pass
"""


@cache
def _read(name: str) -> str:
    return (ROOT / "configs" / name).read_text()


def data(name: str = "hosts/pve1.yaml") -> Data:
    """A document of the reference, to be changed."""
    found: Data = yaml.safe_load(_read(name))
    return found


def network(
    host: Mapping[str, Any] | None = None, site: Mapping[str, Any] | None = None
) -> Network:
    """The derived network of a host; of the reference where none is given."""
    return derive(
        declare.site(copy.deepcopy(site or data("site.yaml"))),
        declare.host(copy.deepcopy(host or data())),
    )


def plain(host: Data | None = None) -> Data:
    """A host on plain LXC instead."""
    return {**(host or data()), "platform": {"kind": "lxc"}}


def with_ipv6(host: Data, prefix: str = "fd00::", uplink: str = "2001:db8:1::10/64") -> Data:
    """The host with IPv6 on the bridge and for all guests but the CA."""
    bridge = host["bridges"]["vmbr0"]
    bridge["address6"] = f"{prefix}1/64"
    bridge["uplink"]["address6"] = uplink
    if "/" in uplink:
        bridge["uplink"]["gateway6"] = "2001:db8:1::1"
    return _guests6(host, prefix)


def _guests6(host: Data, prefix: str) -> Data:
    for guest in host["guests"].values():
        if guest.get("role") != "ca":
            guest["address6"] = f"{prefix}{guest['id']}"
    return host


def files(network: Network) -> dict[str, HostFile]:
    """What the kinds interfaces and firewall put on the host, by path."""
    made = (*interfaces.artifacts(network), *firewall.artifacts(network))
    return {each.path: each for each in made if isinstance(each, HostFile)}


def declared(net: Network, version: int) -> set[tuple[str, str, int]]:
    """(from, to, port) of tcp between guests, straight from the flows."""
    home = {m.guest.name: m.guest for m in net.members}

    def address(name: str) -> str:
        found = home[name].address if version == 4 else home[name].address6
        return str(found or "")

    found = set[tuple[str, str, int]]()
    for flow in flows(net):
        if flow.protocol != "tcp" or flow.destination not in home:
            continue
        for source in home if flow.source == ANY else [flow.source] if flow.source in home else []:
            ends = (f"g{home[source].id}", address(flow.destination), flow.port)
            if source != flow.destination and ends[1] and address(source):
                found.add(ends)
    return found


def bridged(host: Data) -> Data:
    """The host with its bridge on the LAN instead, and IPv6 for all guests but the CA."""
    host["bridges"]["vmbr0"] = {
        "address": "10.0.0.1/24",
        "gateway": "10.0.0.254",
        "ports": ["eno1"],
        "address6": "fd00::1/64",
        "gateway6": "fd00::fe",
    }
    return _guests6(host, "fd00::")


def local(mac: str) -> str:
    """The IPv6 link-local address that the kernel makes of a MAC (EUI-64)."""
    a, b, c, d, e, f = (int(part, 16) for part in mac.split(":"))
    return str(ip_address(f"fe80::{a ^ 2:02x}{b:02x}:{c:02x}ff:fe{d:02x}:{e:02x}{f:02x}"))


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered a call, and as whom it saw the caller; both "" where nobody did."""

    server: str
    client: str


class World(Space):
    """A host in a space. `without` takes lines out of its files, by a part of them: a twin that
    lacks a guard. `instead` replaces text in them; `before` are rules that stand there already."""

    def __init__(
        self,
        network: Network,
        *,
        without: Sequence[str] = (),
        instead: Mapping[str, str] = _NOTHING,
        before: str = "",
    ) -> None:
        # An address that is still looked for twice can't be used; here there are none twice.
        super().__init__(sysctls=_AT_ONCE)
        self.network = network
        try:
            self._put(without, instead)
            self._build(before)
        except BaseException:
            self.close()
            raise

    def _put(self, without: Sequence[str], instead: Mapping[str, str]) -> None:
        self.files = {path: file.data.decode() for path, file in files(self.network).items()}
        for part in (*without, *instead):
            assert any(part in text for text in self.files.values()), part
        for path, text in self.files.items():
            kept = "".join(
                f"{line}\n" for line in text.splitlines() if not any(w in line for w in without)
            )
            for old, new in instead.items():
                kept = kept.replace(old, new)
            self.files[path] = kept
        self.write(Entry(path, text.encode()) for path, text in self.files.items())

    def _build(self, before: str) -> None:
        self._outside()
        ifupdown2.apply(self)
        self.settle()
        if before:
            self.load(before)
        self.rules()
        for member in self.network.members:
            self._guest(member.guest)
        self._plug("stranger", "veth900i0", STRANGER_MAC, [f"{STRANGER}/24"], ["10.0.0.1"])
        # A port of a bridge forwards once the kernel has told of its carrier, up to a second later.
        deadline = time.monotonic() + _CARRIER
        while "state disabled" in self.must(["bridge", "link"]):
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def settle(self) -> None:
        """Apply the settings as the host does."""
        paths = [path for path in self.files if path.startswith("/etc/sysctl.d/")]
        self.must(["/usr/lib/systemd/systemd-sysctl", *paths])

    def rules(self) -> None:
        """Load the rules as the units do."""
        for path in self.files:
            if path.endswith(".nft"):
                self.must(["nft", "-f", path])

    def load(self, ruleset: str) -> None:
        """Load other rules."""
        self.must(["nft", "-f", "-"], given=ruleset)

    def _outside(self) -> None:
        uplinks = {b.uplink.interface for b in self.network.host.bridges if b.uplink}
        ports = {port for b in self.network.host.bridges for port in b.ports}
        self.ip("netns add lan")
        for name in sorted(uplinks | ports):
            self.ip(f"link add {name} type veth peer name eth0 netns lan")
            addresses = [f"{LAN}/24", "192.168.1.1/24", "2001:db8:1::1/64", f"{LAN6}/64"]
            # The LAN knows the way to a global network behind the host, and to private ones too:
            # whoever is next to the host may try.
            routes = [f"route add 10.{n}.0.0/24 via 192.168.1.10" for n in (0, 1)]
            routes += ["-6 route add fd00::/64 via 2001:db8:1::10"]
            routes += ["-6 route add 2001:db8:2::/64 via 2001:db8:1::10"]
            if name in ports:
                addresses = [f"{NEXT}/24", "10.0.0.254/24", f"{NEXT6}/64", "fd00::fe/64"]
                routes = []
            lines = [f"addr add {address} dev eth0 nodad" for address in addresses]
            self.ip("link set lo up", "link set eth0 up", *lines, *routes, place="lan")

    def _guest(self, guest: Any) -> None:
        for interface in guest.interfaces:
            four, six = addressed(self.network, interface)
            gateways = (
                self.network.default_gateway(guest, interface),
                self.network.default_gateway6(guest, interface),
            )
            addresses = [four, *([six] if six else [])]
            name, pair = f"g{guest.id}", veth(guest, interface)
            ways = [str(gateway) for gateway in gateways if gateway]
            self._plug(name, pair, interface.mac, addresses, ways, interface.bridge)

    def _plug(
        self,
        place: str,
        pair: str,
        mac: str,
        addresses: list[str],
        gateways: list[str],
        bridge: str = "vmbr0",
    ) -> None:
        self.ip(
            f"netns add {place}",
            f"link add {pair} type veth peer name eth0 address {mac} netns {place}",
            f"link set {pair} master {bridge} up",
        )
        # The kernel's own link-local address could not be used for a second.
        lines = ["link set eth0 addrgenmode none", "link set lo up", "link set eth0 up"]
        lines += [f"addr add {address} dev eth0 nodad" for address in addresses]
        lines.append(f"addr add {local(mac)}/64 dev eth0 nodad")
        # A guest in one of the bridge's further networks has its gateway on the link all the same.
        lines += [f"route add default via {gateway} dev eth0 onlink" for gateway in gateways]
        self.ip(*lines, place=place)

    def ip(self, *lines: str, place: str = "") -> None:
        """Run lines of `ip` in a namespace."""
        given = "".join(f"{line}\n" for line in lines if line and not line.startswith("-6"))
        six = "".join(f"{line[3:]}\n" for line in lines if line.startswith("-6"))
        where = ["-n", place] if place else []
        self.must(["ip", *where, "-batch", "-"], given=given)
        if six:
            self.must(["ip", *where, "-6", "-batch", "-"], given=six)

    def ask(
        self,
        calls: Iterable[tuple[str, str, int]] = (),
        *,
        serve: Mapping[str, Sequence[int]],
        source: str = "",
        kind: str = "tcp",
    ) -> list[Answer]:
        """The answer to each call (from, to, port), all made at once."""
        asked = [[place, kind, source, to, port] for place, to, port in calls]
        answers = self._run(calls=asked, serve=serve)["answers"]
        return [Answer(*(answer.split() or ("", ""))) for answer in answers]

    def ping(self, place: str, to: str) -> bool:
        """Whether one echo is answered."""
        where = ["ip", "netns", "exec", place] if place else []
        return self.run([*where, "python3", "-I", "-c", _PING, to]).code == 0

    def arrived(self, frames: Mapping[str, tuple[str, str]], watch: str) -> set[str]:
        """Which of the frames (name → where it is sent, the frame as hex) come to a place."""
        seen = self.seen(list(frames.values()), watch)
        # The kernel takes a tag off before anyone sees the frame.
        return {name for name, (_, frame) in frames.items() if untagged(frame) in seen}

    def seen(self, frames: Sequence[tuple[str, str]], watch: str) -> set[str]:
        """All that comes to a place while the frames (where, hex) are sent."""
        return set(self._run(frames=frames, watch=[watch], seconds=0.4)["seen"][watch])

    def _run(self, **asked: Any) -> Any:
        whole = {"serve": {}, "calls": [], "frames": [], "watch": [], "seconds": _SECONDS, **asked}
        return json.loads(self.must(["python3", "-I", "-c", INSIDE], given=json.dumps(whole)))
