"""Connections tried to every TCP port, and datagrams sent to UDP ports, from a guest or from a
client in the LAN, over any family.

The first packet of each connection is put straight on the wire, so that no rule, route or
connection tracking of its sender has a word in it: what comes back is up to the network and the
target alone. A port is open where a second packet of the handshake comes back.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

_SCRIPT = r"""
import json, socket, struct, sys, time

asked = json.loads(sys.argv[1])
SOURCE_PORT, ACK, RST = 61000, 0x12, 0x04

def total(data):
    data += b"\0" * (len(data) % 2)
    return sum(struct.unpack(f"!{len(data) // 2}H", data))

def folded(number):
    while number >> 16:
        number = (number & 0xFFFF) + (number >> 16)
    return ~number & 0xFFFF

def frame(family, source, target, own, mac):
    # All but the port and its checksum, and the sum of all the rest.
    tcp = struct.pack("!HHIIBBHHH", SOURCE_PORT, 0, 7, 0, 5 << 4, 2, 64240, 0, 0)
    ends = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    rest = total(ends) + socket.IPPROTO_TCP + len(tcp) + total(tcp)
    if family == socket.AF_INET:
        kind = 0x0800
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, 6, 0) + ends
        head = head[:10] + struct.pack("!H", folded(total(head))) + head[12:]
    else:
        kind = 0x86DD
        head = struct.pack("!IHBB", 6 << 28, len(tcp), 6, 64) + ends
    ether = bytes.fromhex(mac.replace(":", "")) + own + struct.pack("!H", kind)
    return bytearray(ether + head + tcp), rest, kind

def answers(wire, target, family, found):
    # Only what comes in: what is sent is not shown to a socket of one protocol.
    start = 14 + (20 if family == socket.AF_INET else 40)
    at = 26 if family == socket.AF_INET else 22
    want = socket.inet_pton(family, target)
    while True:
        try:
            data = wire.recv(200)
        except BlockingIOError:
            return
        if data[at:at + len(want)] != want or len(data) < start + 14:
            continue
        port, to = struct.unpack_from("!HH", data, start)
        if to == SOURCE_PORT and data[start + 13] & ACK == ACK:
            found["open"].add(port)
        elif to == SOURCE_PORT and data[start + 13] & RST:
            found["refused"].add(port)

def dropped():
    # Per processor: how many packets found its queue full.
    with open("/proc/net/softnet_stat") as file:
        return sum(int(line.split()[1], 16) for line in file)

def tried(source, target, mac, ports):
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    own = bytes.fromhex(open("/sys/class/net/eth0/address").read().strip().replace(":", ""))
    data, rest, kind = frame(family, source, target, own, mac)
    where = len(data) - 20
    found = {"open": set(), "refused": set()}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(kind)) as wire:
        wire.bind(("eth0", kind))
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        wire.setblocking(False)
        pack = struct.pack_into
        # Again, where the kernel lost some of any kind meanwhile.
        for _ in range(3):
            before = dropped()
            for port in ports:
                if port in found["open"] or port in found["refused"]:
                    continue
                pack("!H", data, where + 2, port)
                pack("!H", data, where + 16, folded(rest + port))
                while True:
                    try:
                        wire.send(data)
                        break
                    except (BlockingIOError, OSError):
                        time.sleep(0.001)
                if not port & 63:
                    answers(wire, target, family, found)
            end = time.monotonic() + asked["patience"]
            while time.monotonic() < end:
                answers(wire, target, family, found)
                time.sleep(0.01)
            if dropped() == before:
                break
    return {name: sorted(ports) for name, ports in found.items()}

ports = range(*asked["ports"])
print(json.dumps([
    tried(each["source"], each["address"], each["mac"], ports)["open"] for each in asked["targets"]
]))
"""


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to try: from which address of one's own, to which address, at whose MAC."""

    source: str
    address: str
    mac: str


def scan(
    run: Callable[..., str], targets: Iterable[Target], first: int = 1, last: int = 65535
) -> dict[Target, frozenset[int]]:
    """The open ports of each target, from where `run` runs a command and gives what it prints."""
    tried = list(targets)
    asked = {
        "targets": [asdict(each) for each in tried],
        "ports": [first, last + 1],
        "patience": 0.3,
    }
    found = json.loads(run("python3", "-I", "-c", _SCRIPT, json.dumps(asked)))
    return {target: frozenset(ports) for target, ports in zip(tried, found, strict=True)}


# What a port that nobody has answers is an error of the socket, which comes with the port.
_DATAGRAMS = r"""
import errno, json, socket, struct, sys, time

asked = json.loads(sys.argv[1])
IPV6_RECVERR = 25

def refused(told):
    # That nobody has the port says the target itself, and not a router that knows no way to it.
    return any(struct.unpack("=I", data[:4]) == (errno.ECONNREFUSED,) for _, _, data in told)

def heard(link, first):
    while True:
        try:
            _, told, _, where = link.recvmsg(2048, 2048, first)
        except BlockingIOError:
            return
        except OSError:
            continue
        place = found.get(where[0].partition("%")[0], {})
        if not first:
            place.setdefault("answered", set()).add(where[1])
        elif refused(told):
            place.setdefault("refused", set()).add(where[1])

def all_heard():
    for link in links:
        heard(link, 0)
        heard(link, socket.MSG_ERRQUEUE)

def sent(link, where):
    # An error is of one before, or that there is no way there at all.
    for _ in range(3):
        try:
            link.sendto(b"?", where)
            return
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            pass

found = {address: {} for address in asked["addresses"]}
four = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
six = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
four.setsockopt(0, 11, 1)
six.setsockopt(41, IPV6_RECVERR, 1)
links = (four, six)
for link in links:
    link.setblocking(False)
for address in found:
    scope = (0, socket.if_nametoindex("eth0")) if address.startswith("fe80") else ()
    for port in range(*asked["ports"]):
        sent(six if ":" in address else four, (address, port, *scope))
    all_heard()
end = time.monotonic() + asked["patience"]
while time.monotonic() < end:
    all_heard()
    time.sleep(0.01)
print(json.dumps([
    {name: sorted(each.get(name, ())) for name in ("answered", "refused")}
    for each in found.values()
]))
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """The UDP ports that answered, and those of which somebody said that nobody has them: these
    were reached, too. Kernels say so of a few only."""

    answered: frozenset[int]
    refused: frozenset[int]


def datagrams(
    run: Callable[..., str], addresses: Iterable[str], first: int, last: int
) -> dict[str, Heard]:
    """What comes back of datagrams to each port of each address."""
    tried = list(dict.fromkeys(addresses))
    asked = {"addresses": tried, "ports": [first, last + 1], "patience": 1}
    found = json.loads(run("python3", "-I", "-c", _DATAGRAMS, json.dumps(asked)))
    heard = (Heard(frozenset(each["answered"]), frozenset(each["refused"])) for each in found)
    return dict(zip(tried, heard, strict=True))
