"""Frames as a guest's root could make them, as hex."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

EVERYBODY = "ff:ff:ff:ff:ff:ff"
_MACS = 24  # digits of the two MACs that a frame begins with
_TAG = "81000005"


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _sum(data: bytes) -> bytes:
    total = sum(int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


def tcp(mac: str, to: str, source: str, destination: str, port: int = 443) -> str:
    """The first packet of a TCP connection."""
    six = ":" in source
    ends = b"".join(ip_address(end).packed for end in (source, destination))
    segment = (40000).to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(8)
    segment += b"\x50\x02\xff\xff" + bytes(4)
    length = len(segment).to_bytes(4 if six else 2, "big")
    pseudo = ends + (length + b"\0\0\0\x06" if six else b"\0\x06" + length)
    segment = segment[:16] + _sum(pseudo + segment) + segment[18:]
    if six:
        packet = b"\x86\xdd\x60\0\0\0" + length[2:] + b"\x06\x40" + ends + segment
    else:
        head = b"\x45\0\0\x28\0\x01\0\0\x40\x06"
        packet = b"\x08\0" + head + _sum(head + b"\0\0" + ends) + ends + segment
    return (_mac(to) + _mac(mac) + packet).hex()


def arp(mac: str, sender_mac: str, sender: str, target: str) -> str:
    """An ARP request that says where `sender` is."""
    body = b"\0\x01\x08\0\x06\x04\0\x01" + _mac(sender_mac) + IPv4Address(sender).packed
    body += bytes(6) + IPv4Address(target).packed
    return (_mac(EVERYBODY) + _mac(mac) + b"\x08\x06" + body + bytes(18)).hex()


def icmpv6(mac: str, to: str, source: str, destination: str, message: bytes) -> str:
    """An ICMPv6 message; its checksum is filled in."""
    ends = IPv6Address(source).packed + IPv6Address(destination).packed
    pseudo = ends + len(message).to_bytes(4, "big") + b"\0\0\0\x3a"
    filled = message[:2] + _sum(pseudo + message) + message[4:]
    head = b"\x60\0\0\0" + len(filled).to_bytes(2, "big") + b"\x3a\xff"
    return (_mac(to) + _mac(mac) + b"\x86\xdd" + head + ends + filled).hex()


def neighbour(mac: str, source: str, target: str, to: str = "33:33:00:00:00:01") -> str:
    """An advertisement to all nodes that `target` is here."""
    message = b"\x88\0\0\0\x20\0\0\0" + IPv6Address(target).packed + b"\x02\x01" + _mac(mac)
    return icmpv6(mac, to, source, "ff02::1", message)


def router(mac: str, source: str, prefix: str) -> str:
    """A router advertisement with a prefix to make addresses of, and a default route."""
    option = b"\x03\x04\x40\xc0" + (3600).to_bytes(4, "big") * 2 + bytes(4)
    message = b"\x86\0\0\0\x40\0\x07\x08" + bytes(8) + option + IPv6Address(prefix).packed
    return icmpv6(mac, "33:33:00:00:00:01", source, "ff02::1", message)


def udp(mac: str, to: str, source: str, destination: str, port: int = 5353) -> str:
    """A datagram without a checksum over IPv4."""
    segment = (40000).to_bytes(2, "big") + port.to_bytes(2, "big") + b"\0\x0a\0\0hi"
    ends = IPv4Address(source).packed + IPv4Address(destination).packed
    head = b"\x45\0\0\x1e\0\x01\0\0\x40\x11"
    packet = b"\x08\0" + head + _sum(head + b"\0\0" + ends) + ends + segment
    return (_mac(to) + _mac(mac) + packet).hex()


def tagged(frame: str) -> str:
    """A frame as a member of VLAN 5."""
    return frame[:_MACS] + _TAG + frame[_MACS:]


def untagged(frame: str) -> str:
    """A frame as it is without its tag."""
    return frame[:_MACS] + frame[_MACS:].removeprefix(_TAG)


def fragments(frame: str) -> list[str]:
    """The frame of an ICMPv6 message in two, the first with no more than its head."""
    whole = bytes.fromhex(frame)
    ethernet, packet, message = whole[:14], whole[14:54], whole[54:]
    made = []
    for part, place in ((message[:8], b"\0\1"), (message[8:], b"\0\x08")):
        piece = b"\x3a\0" + place + b"\0\0\0\7" + part
        length = len(piece).to_bytes(2, "big")
        made.append((ethernet + packet[:4] + length + b"\x2c" + packet[7:] + piece).hex())
    return made
