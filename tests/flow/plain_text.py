"""Run on the host: what listens in guests, asked in plain text from inside of their networks.

    python3 plain_text.py 101 102 …    looks again and again, until standard input is closed

Prints one JSON object: `looks` how often each guest that ran was looked at, `ports` where each was
seen to listen beyond loopback, `plain` what answered in plain text and must not: guest, port, name
and answer. What may come is in `allowed`.
"""

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

_NEWNET = 0x40000000
_LISTENS = "0A"
_PATIENCE = 3.0
_PLAIN = {80, 20000, 21000}
"""The one plain port, and what is behind it in each slot."""
_NAMES = ("chat.example.org", "chat.svc.phoenix.internal")
_PUBLIC = {80, 443, 8000, 9000}
"""Where guests are met; what is behind a redirect is not seen to listen there."""


def first(guest: str) -> int:
    """The first process of a running guest, or 0."""
    done = subprocess.run(
        ["lxc-info", "--name", guest, "--pid", "--no-humanize"], capture_output=True, text=True
    )
    return int(done.stdout or 0) if done.returncode == 0 else 0


def inside(process: int, job: Callable[[], Any]) -> Any:
    """What `job` gives in a process's network, as a child of ours."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            handle = os.open(f"/proc/{process}/ns/net", os.O_RDONLY)
            if ctypes.CDLL(None).setns(handle, _NEWNET) == 0:
                os.write(write, json.dumps(job()).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return json.loads(said) if said else None


def listening() -> set[int]:
    """The ports on which something listens beyond loopback."""
    found = set()
    for name, loopback in (("tcp", "0100007F"), ("tcp6", "0" * 24 + "01000000")):
        with open(f"/proc/self/net/{name}") as lines:
            for line in list(lines)[1:]:
                local, state = line.split()[1], line.split()[3]
                address, port = local.split(":")
                if state == _LISTENS and address != loopback:
                    found.add(int(port, 16))
    return found


def own() -> str:
    """The guest's own address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
        link.connect(("10.255.255.255", 1))
        return str(link.getsockname()[0])


def answer(address: str, port: int, host: str) -> bytes:
    """What comes to a request in plain text; nothing where none does."""
    try:
        with socket.create_connection((address, port), _PATIENCE) as link:
            link.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
            link.settimeout(_PATIENCE)
            found = b""
            while len(found) < 4096 and (part := link.recv(4096)):
                found += part
            return found
    except OSError:
        return b""


def allowed(port: int, said: bytes) -> bool:
    """Whether a plain answer is one of those that may come: a TLS port's alert or bad request, that
    Traefik knows nothing that is plain, the way to HTTPS, that there is no such challenge."""
    head, _, body = said.partition(b"\r\n\r\n")
    if said.startswith(b"\x15\x03") or head[9:12] == b"400":
        return True
    if head[9:12] == b"404" and body == b"404 page not found\n":
        return True
    # lego, which says so to whoever brings no token.
    challenge = body == b"TEST"
    return port in _PLAIN and (head[9:12] in (b"301", b"308", b"404") or challenge)


def look(known: set[int]) -> list[Any]:
    """The ports of the network that we are in, and what is wrong."""
    ports, address = listening(), own()
    wrong = []
    for port in sorted(ports | known):
        for host in _NAMES:
            said = answer(address, port, host)
            if said and not allowed(port, said):
                wrong.append([port, host, said.decode(errors="replace")[:300]])
    return [sorted(ports), wrong]


def main(guests: Sequence[str]) -> None:
    looks: dict[str, int] = dict.fromkeys(guests, 0)
    ports: dict[str, set[int]] = {each: set() for each in guests}
    plain: list[Any] = []
    while True:
        for guest in guests:
            process = first(guest)
            found = inside(process, lambda: look(_PUBLIC)) if process else None
            if found:
                looks[guest] += 1
                ports[guest].update(found[0])
                plain += [[guest, *each] for each in found[1]]
        if select.select([sys.stdin], [], [], 0.1)[0]:
            break
    told = {guest: sorted(each) for guest, each in ports.items()}
    print(json.dumps({"looks": looks, "ports": told, "plain": plain}))


if __name__ == "__main__":
    main(sys.argv[1:])
