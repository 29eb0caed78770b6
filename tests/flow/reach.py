"""What is not declared is not reachable: every port of every guest, from everywhere; names that
nobody has; programs behind their fronts. And what guests know each other by, and trust."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv6Address

from tests.flow import edge, names
from tests.flow.edge import CA, CHAT, GATEWAY, LAN6, MESH, NET, NET6, ONE, STORE_PORT, TWO, WEB
from tests.flow.scan import Heard, Target, datagrams, scan
from tests.integration.handle import Handle, until

ENTRANCES = {80, 443, STORE_PORT}
SSH = 22
HOLDERS = {GATEWAY, MESH, ONE, TWO}
"""Who gets certificates."""
STRAY = 40404


def declared(source: int, target: int) -> set[int]:
    """The ports of one guest that another one reaches, as one reads them in the description."""
    found = set(ENTRANCES) if target == GATEWAY else set()
    if target == MESH and source != CA:
        found |= {443}
    if target == CA and source in HOLDERS:
        found |= {9000}
    if source == CA and target in {ONE, TWO}:
        found |= {80}
    if source == MESH:
        found |= {ONE: {8000, 8001}, TWO: {8001, 8002}}.get(target, set())
    return found


def every_port(host: Handle) -> None:
    """From each place to each other, over IPv4, IPv6 and link-local: the declared, and no more."""
    places = [*edge.GUESTS, 0]
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(places, pool.map(lambda place: tried(host, place), places), strict=True))
    count = sum(map(len, found.values()))
    wrong = {
        (place, target.address): (sorted(ports), sorted(expected(host, place, target.address)))
        for place, each in found.items()
        for target, ports in each.items()
        if ports != expected(host, place, target.address)
    }
    print(f"{count * 65535} connections tried, {count} times every port")
    assert not wrong, "what is found, and what should be"


def expected(host: Handle, place: int, address: str) -> set[int]:
    """The open ports of an address, for who asks from a guest, or (0) from outside."""
    uplink = address in {str(host.lab.address), f"{LAN6}::10"}
    if place == 0:
        link = address.startswith("fe80")
        return {SSH, *ENTRANCES} if uplink else {SSH} if link else set()
    target = next((guest for guest in edge.GUESTS if address in edge.at(guest)), 0)
    if uplink:
        # Its own way round would lead the gateway to itself.
        return set() if place == GATEWAY else set(ENTRANCES)
    return declared(place, target) if target else set()


def tried(host: Handle, place: int) -> dict[Target, frozenset[int]]:
    """What is open from a guest, or (0) from the LAN's client."""
    if place:
        return scan(lambda *words: host.guest(place, *words), inner(host, place))
    return scan(lambda *words: client(host, *words), outer(host))


def inner(host: Handle, place: int) -> Iterator[Target]:
    """Everyone else there is, for a guest."""
    four, six = f"{NET}.{place}", f"{NET6}::{place}"
    local, bridge = link_local(mac(host, place)), host.run("cat", "/sys/class/net/vmbr0/address")
    for guest in edge.GUESTS.keys() - {place}:
        at = mac(host, guest)
        yield Target(four, f"{NET}.{guest}", at)
        yield Target(six, f"{NET6}::{guest}", at)
        yield Target(local, link_local(at), at)
    for source, address in (
        (four, f"{NET}.1"), (six, f"{NET6}::1"), (local, link_local(bridge.strip())),
        (four, str(host.lab.address)), (six, f"{LAN6}::10"),
    ):  # fmt: skip
        yield Target(source, address, bridge.strip())


def outer(host: Handle) -> Iterator[Target]:
    """The host and, beyond it, all guests, for the LAN's client."""
    (found,) = json.loads(client(host, "ip", "-json", "address", "show", "dev", "eth0"))
    own = {each["family"] + each["scope"]: each["local"] for each in found["addr_info"]}
    four, six = own["inetglobal"], own["inet6global"]
    at = host.run("cat", "/sys/class/net/eth0/address").strip()
    yield Target(four, str(host.lab.address), at)
    yield Target(six, f"{LAN6}::10", at)
    yield Target(own["inet6link"], link_local(at), at)
    for guest in edge.GUESTS:
        yield Target(four, f"{NET}.{guest}", at)
        yield Target(six, f"{NET6}::{guest}", at)


def a_port_too_many(host: Handle) -> None:
    """A program that listens everywhere is not met; it is where a rule lets it, and found then."""
    listen = f"import socket; s = socket.create_server(('::', {STRAY}), family=socket.AF_INET6, "
    program = listen + "dualstack_ipv6=True); [s.accept() for _ in iter(int, 1)]"
    host.guest(TWO, "systemd-run", "--quiet", "--unit=stray", "python3", "-I", "-c", program)
    listening = f"until ss -Hltn sport = {STRAY} | grep -q .; do sleep 0.1; done"
    host.guest(TWO, "timeout", "60", "sh", "-c", listening)
    there = ((f"{NET}.{WEB}", f"{NET}.{TWO}"), (f"{NET6}::{WEB}", f"{NET6}::{TWO}"))
    targets = [Target(source, address, mac(host, TWO)) for source, address in there]
    assert set(from_guest(host, WEB, targets).values()) == {frozenset()}
    with unguarded(host, f"insert rule inet phoenix_guests judge tcp dport {STRAY} accept"):
        assert set(from_guest(host, WEB, targets).values()) == {frozenset({STRAY})}
    assert set(from_guest(host, WEB, targets).values()) == {frozenset()}
    host.guest(TWO, "systemctl", "stop", "stray")


def around_the_front(host: Handle) -> None:
    """Even where no firewall of the host is in between, only fronts are met: no program on
    loopback, and no slot's own port."""
    at, four, six = mac(host, ONE), f"{NET}.{WEB}", f"{NET6}::{WEB}"
    fronts = [Target(four, f"{NET}.{ONE}", at), Target(six, f"{NET6}::{ONE}", at)]
    loopback = [Target(four, "127.0.0.1", at), Target(six, "::1", at)]
    local = Target(link_local(mac(host, WEB)), link_local(at), at)
    gone = "delete table inet phoenix_guests; delete table bridge phoenix_guests"
    with unguarded(host, gone):
        found = from_guest(host, WEB, [*fronts, *loopback, local])
        assert {found[front] for front in (*fronts, local)} == {frozenset({80, 8000, 8001})}
        assert {found[each] for each in loopback} == {frozenset()}
        # What would be found by the same packets, if the guest took them.
        setting = "/proc/sys/net/ipv4/conf/eth0/route_localnet"
        into = f"nsenter --net=/proc/$(lxc-info --name {ONE} --pid --no-humanize)/ns/net"
        host.sh(f"{into} sh -c 'echo 1 >{setting}'")
        assert from_guest(host, WEB, loopback)[loopback[0]] >= {8000, 8001}
        host.sh(f"{into} sh -c 'echo 0 >{setting}'")


def no_datagram(host: Handle) -> None:
    """Nothing is declared over UDP: guests take none from anyone, and nobody answers; a program
    that does is met where a rule lets it."""
    answers = (
        f"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); "
        f"s.bind(('::', {STRAY})); [s.sendto(*s.recvfrom(9)) for _ in iter(int, 1)]"
    )
    host.guest(TWO, "systemd-run", "--quiet", "--unit=stray", "python3", "-I", "-c", answers)
    listening = f"until ss -Hlun sport = {STRAY} | grep -q .; do sleep 0.1; done"
    host.guest(TWO, "timeout", "60", "sh", "-c", listening)
    for place in (*edge.GUESTS, 0):
        for address, heard in sent(host, place, 1, 1023).items():
            ours = any(address in edge.at(guest) for guest in edge.GUESTS)
            assert not heard.answered, (place, address, heard)
            assert not (ours and heard.refused), (place, address, heard)
    near = {f"{NET}.{TWO}", f"{NET6}::{TWO}"}
    found = sent(host, WEB, STRAY - 1, STRAY)
    assert {found[address] for address in near} == {Heard(frozenset(), frozenset())}
    with unguarded(host, "insert rule inet phoenix_guests judge meta l4proto udp accept"):
        met = Heard(frozenset({STRAY}), frozenset({STRAY - 1}))

        def every_one_met() -> bool:
            found = sent(host, WEB, STRAY - 1, STRAY)
            return {found[address] for address in near} == {met}

        until(every_one_met, "a program that answers is met")
    host.guest(TWO, "systemctl", "stop", "stray")


def sent(host: Handle, place: int, first: int, last: int) -> dict[str, Heard]:
    """What comes back of datagrams to all others, from a guest or (0) from the LAN's client."""
    targets = inner(host, place) if place else outer(host)
    run = partial(host.guest, place) if place else partial(client, host)
    return datagrams(run, (each.address for each in targets), first, last)


HANDSHAKE = """
import json, socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
found = {}
for name in json.loads(sys.argv[3]):
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as link:
            with context.wrap_socket(link, server_hostname=name or None) as stream:
                found[name] = len(stream.getpeercert(True))
    except ssl.SSLError:
        found[name] = 0
print(json.dumps(found))
"""
PLAIN = """
import socket, sys
with socket.create_connection((sys.argv[1], int(sys.argv[2])), 20) as link:
    link.sendall(f"GET / HTTP/1.1\\r\\nHost: {sys.argv[3]}\\r\\n\\r\\n".encode())
    try:
        print(link.recv(4096).decode())
    except ConnectionResetError:
        print()
"""


def unknown_names(host: Handle) -> None:
    """An unknown name, or none, gets no certificate and no answer."""
    strange = ["", "nobody.example.org", "one.phoenix.internal.example.org"]
    gateway = str(host.lab.address)

    def run(place: int, *words: str) -> str:
        return host.guest(place, *words) if place else client(host, *words)

    for place, address, port, known in (
        (0, gateway, 443, CHAT),
        (0, gateway, STORE_PORT, edge.STORE),
        (WEB, f"{NET}.{MESH}", 443, edge.PAIR),
        (MESH, f"{NET}.{ONE}", 8000, "one.phoenix.internal"),
        (MESH, f"{NET}.{TWO}", 8002, "two.phoenix.internal"),
    ):
        asked = json.dumps([*strange, known])
        found = json.loads(run(place, "python3", "-I", "-c", HANDSHAKE, address, str(port), asked))
        assert found.pop(known) > 0, (address, port)
        # A tcp client that names nobody is for the port's first service.
        if port == STORE_PORT:
            assert found.pop("") > 0
        assert set(found.values()) == {0}, (address, port, found)
    for port, name, answer in ((80, CHAT, "HTTP/1.1 308"), (80, strange[1], ""), (443, CHAT, "")):
        words = ["python3", "-I", "-c", PLAIN, gateway, str(port), name]
        assert client(host, *words)[:12].strip() == answer, (port, name)
    misled = edge.curl(host, "--header", f"Host: {strange[1]}")
    said = host.client.run(*misled)[1]
    assert said.endswith("421"), said
    assert "guest" not in said
    other = host.guest(WEB, "python3", "-I", "-c", names.WITH_HOST, edge.PAIR, strange[1])
    assert other.strip() == "404"


def mac(host: Handle, guest: int) -> str:
    """A guest's, as it is."""
    return host.guest(guest, "cat", "/sys/class/net/eth0/address").strip()


def link_local(address: str) -> str:
    """What the kernel makes of a MAC (RFC 4291, appendix A)."""
    raw = bytes.fromhex(address.replace(":", ""))
    made = b"\xfe\x80" + bytes(6) + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return str(IPv6Address(made))


def client(host: Handle, *words: str) -> str:
    """What a command of the LAN's client prints."""
    code, said = host.client.run(*words)
    assert code == 0, (words, said)
    return said


def from_guest(host: Handle, guest: int, targets: list[Target]) -> dict[Target, frozenset[int]]:
    """What is open from a guest."""
    return scan(lambda *words: host.guest(guest, *words), targets)


@contextlib.contextmanager
def unguarded(host: Handle, change: str) -> Iterator[None]:
    """The host's firewall, changed by hand meanwhile."""
    host.run("nft", change)
    try:
        yield
    finally:
        host.run("nft", "-f", "/etc/phoenix/firewall.nft")


STEPS = (
    names.resolved, names.trusted, names.not_trusted, unknown_names, a_port_too_many,
    around_the_front, every_port, no_datagram,
)  # fmt: skip
