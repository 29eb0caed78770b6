"""Runs in a space: servers, callers and watchers in its network namespaces, all at once.

In: JSON {"serve": {place: [port]}, "calls": [[place, kind, source, destination, port]],
"frames": [[place, hex]], "watch": [place], "seconds": s}. A place is the name of a namespace, ""
the space's own. Out: JSON {"answers": [...], "seen": {place: [...]}}: for each call what the
server said, its place and the caller's address as it saw it, or "" where nothing came; for each
watched place the frames that came, as hex. It ends when nothing has come anywhere for so many
seconds: what came while a busy machine held this up is still taken.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

_LIBC = ctypes.CDLL(None, use_errno=True)
_ALL = 3


def within(place: str, make: Callable[[], Any]) -> Any:
    """What `make` makes in a namespace; a thread of its own enters it."""
    found: list[Any] = []

    def run() -> None:
        if place:
            with open(f"/run/netns/{place}", "rb") as namespace:
                if _LIBC.setns(namespace.fileno(), 0x40000000) != 0:
                    raise OSError(ctypes.get_errno(), place)
        found.append(make())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def listener(kind: socket.SocketKind, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET6, kind)
    made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("::", port))
    if kind == socket.SOCK_STREAM:
        made.listen(64)
    made.setblocking(False)
    return made


def caller(kind: str, source: str, destination: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in destination else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM)
    made.setblocking(False)
    try:
        if source:
            made.bind((source, 0))
        local = (0, socket.if_nametoindex("eth0")) if destination.startswith("fe80:") else ()
        made.connect((destination, port, *local))
    except BlockingIOError:
        pass
    except OSError:
        made.close()
    return made


def raw() -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
    made.bind(("eth0", _ALL))
    made.setblocking(False)
    return made


def send(frame: str) -> None:
    with raw() as made:
        made.send(bytes.fromhex(frame))


class Run:
    """One run: everything is opened, then what comes is taken until nothing does any more."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.asked = asked
        self.ready = selectors.DefaultSelector()
        self.answers = [""] * len(asked["calls"])
        self.seen: dict[str, list[str]] = {place: [] for place in asked["watch"]}
        self.open = 0

    def run(self) -> dict[str, Any]:
        for place, ports in self.asked["serve"].items():
            for port in ports:
                for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                    made = within(place, partial(listener, kind, port))
                    self.ready.register(made, selectors.EVENT_READ, ("serve", place))
        for place in self.asked["watch"]:
            self.ready.register(within(place, raw), selectors.EVENT_READ, ("watch", place))
        for place, frame in self.asked["frames"]:
            within(place, partial(send, frame))
        for number, (place, *call) in enumerate(self.asked["calls"]):
            made = within(place, partial(caller, *call))
            if made.fileno() >= 0:
                self.open += 1
                self.ready.register(made, selectors.EVENT_WRITE, ("call", number))
        self.take()
        return {"answers": self.answers, "seen": self.seen}

    def take(self) -> None:
        waits = bool(self.seen)
        while (self.open or waits) and (ready := self.ready.select(self.asked["seconds"])):
            for key, _ in ready:
                what, who = key.data
                getattr(self, what)(key.fileobj, who)

    def serve(self, made: socket.socket, place: str) -> None:
        if made.type == socket.SOCK_DGRAM:
            _, peer = made.recvfrom(64)
            made.sendto(f"{place or 'host'} {peer[0]}".replace("::ffff:", "").encode(), peer)
            return
        taken, peer = made.accept()
        taken.send(f"{place or 'host'} {peer[0]}".replace("::ffff:", "").encode())
        taken.close()

    def call(self, made: socket.socket, number: int) -> None:
        try:
            if self.ready.get_key(made).events == selectors.EVENT_WRITE:
                self.ready.modify(made, selectors.EVENT_READ, ("call", number))
                if made.type == socket.SOCK_DGRAM:
                    made.send(b"x")
                return
            self.answers[number] = made.recv(100).decode()
        except OSError:
            pass
        self.ready.unregister(made)
        made.close()
        self.open -= 1

    def watch(self, made: socket.socket, place: str) -> None:
        frame, address = made.recvfrom(200)
        if address[2] != socket.PACKET_OUTGOING:
            self.seen[place].append(frame.hex())


def main() -> None:
    """Do what standard input asks."""
    answer = Run(json.load(sys.stdin)).run()
    Path("/dev/stdout").write_text(json.dumps(answer))
    os._exit(0)


main()
