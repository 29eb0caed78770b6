"""Runs on a host: what every TCP connection that passes an interface carries, until its standard
input ends; then one line of JSON. Standard library only.

Each direction is put together and followed to its end: it is TLS where it is a row of TLS records
and nothing else. Whatever is not is kept as it came, for others to judge.
"""

from __future__ import annotations

import json
import os
import select
import socket
import struct
import sys
from collections.abc import Iterator

End = tuple[str, int]
KEPT = 65536
SOL_PACKET, ADD_MEMBERSHIP, STATISTICS, PROMISCUOUS = 263, 1, 6, 1
SO_RCVBUFFORCE = 33
SYN, ACK = 0x02, 0x10
# Records are at most 2^14 bytes, and what encryption adds.
LARGEST = 16384 + 256


class Direction:
    """What one end says to the other."""

    def __init__(self) -> None:
        self.next: int | None = None
        self.waiting: dict[int, bytes] = {}
        self.tls, self.left, self.head = True, 0, b""
        self.said, self.bytes = b"", 0

    def segment(self, flags: int, sequence: int, data: bytes) -> None:
        """One segment, in whatever order they come."""
        if flags & SYN:
            self.next = (sequence + 1) & 0xFFFFFFFF
            return
        if not data:
            return
        if self.next is None:
            self.next = sequence
        # Sent again, or ahead of what is missing.
        before = (self.next - sequence) & 0xFFFFFFFF
        if before < 1 << 31:
            data, sequence = data[before:], self.next
        if data:
            self.waiting[sequence] = data
        while self.next in self.waiting:
            found = self.waiting.pop(self.next)
            self.next = (self.next + len(found)) & 0xFFFFFFFF
            self.taken(found)

    def taken(self, data: bytes) -> None:
        """What comes next."""
        self.bytes += len(data)
        if len(self.said) < KEPT:
            self.said += data[: KEPT - len(self.said)]
        while data and self.tls:
            part, data = data[: self.left], data[self.left :]
            self.left -= len(part)
            if self.left or not data:
                continue
            wanted = 5 - len(self.head)
            self.head, data = self.head + data[:wanted], data[wanted:]
            if len(self.head) == 5:
                kind, major, _, self.left = struct.unpack("!BBBH", self.head)
                self.tls = 20 <= kind <= 23 and major == 3 and self.left <= LARGEST
                self.head = b""

    @property
    def lost(self) -> bool:
        """Whether something is missing in what was seen."""
        return bool(self.waiting)


def segments(frame: bytes) -> Iterator[tuple[End, End, int, int, bytes]]:
    """(source, target, flags, sequence, data) of a TCP segment; nothing of any other frame."""
    kind = frame[12:14]
    if kind == b"\x08\x00":
        start, length = 14 + (frame[14] & 15) * 4, struct.unpack_from("!H", frame, 16)[0]
        if frame[23] != 6:
            return
        ends, stop = (frame[26:30], frame[30:34]), 14 + length
        family = socket.AF_INET
    elif kind == b"\x86\xdd":
        start, length = 54, struct.unpack_from("!H", frame, 18)[0]
        if frame[20] != 6:
            return
        ends, stop = (frame[22:38], frame[38:54]), 54 + length
        family = socket.AF_INET6
    else:
        return
    source, target, sequence = struct.unpack_from("!HHI", frame, start)
    data = frame[start + (frame[start + 12] >> 4) * 4 : stop]
    one, other = (socket.inet_ntop(family, end) for end in ends)
    yield (one, source), (other, target), frame[start + 13], sequence, data


class Connection:
    """Two ends, and what each says; `caller` is the one that began."""

    def __init__(self, caller: End, called: End) -> None:
        self.caller, self.called = caller, called
        self.said = {caller: Direction(), called: Direction()}

    @classmethod
    def met(cls, one: End, other: End) -> Connection:
        """One whose beginning was not seen: who calls has the larger port."""
        return cls(one, other) if one[1] > other[1] else cls(other, one)

    def told(self) -> dict[str, object]:
        """As plain data."""
        there, back = self.said[self.caller], self.said[self.called]
        return {
            "source": self.caller[0],
            "target": self.called[0],
            "port": self.called[1],
            "bytes": there.bytes + back.bytes,
            "tls": there.tls and back.tls,
            "lost": there.lost or back.lost,
            "asked": "" if there.tls else there.said.decode("latin-1"),
            "answered": "" if back.tls else back.said.decode("latin-1"),
        }


def opened(interface: str) -> socket.socket:
    """A socket to which the kernel gives every frame that passes."""
    wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    wire.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 26)
    wire.bind((interface, 3))
    # Else a bridge shows only what is for its host.
    index = socket.if_nametoindex(interface)
    wire.setsockopt(SOL_PACKET, ADD_MEMBERSHIP, struct.pack("iHH8s", index, PROMISCUOUS, 0, b""))
    return wire


def watch(interface: str) -> tuple[list[Connection], int]:
    """Every connection, and how many frames the kernel could not keep."""
    every: list[Connection] = []
    current: dict[frozenset[End], Connection] = {}
    wire = opened(interface)
    print("watching", flush=True)
    ended = False
    while True:
        ready = select.select([wire, *([] if ended else [sys.stdin])], [], [], 0.5)[0]
        if wire in ready:
            for one, other, flags, sequence, data in segments(wire.recv(1 << 17)):
                ends = frozenset((one, other))
                found = current.get(ends)
                begins = flags & (SYN | ACK) == SYN
                if found is None or (begins and found.said[one].next is not None):
                    found = Connection(one, other) if begins else Connection.met(one, other)
                    current[ends] = found
                    every.append(found)
                found.said[one].segment(flags, sequence, data)
        elif ended:
            break
        if sys.stdin in ready:
            ended = not os.read(0, 100)
    drops = struct.unpack("II", wire.getsockopt(SOL_PACKET, STATISTICS, 8))[1]
    return every, drops


if __name__ == "__main__":
    connections, lost = watch(sys.argv[1])
    print(json.dumps({"lost": lost, "connections": [each.told() for each in connections]}))
