"""Asks what a release says is to be asked of its network, each from where it says.

For each place a child of this process enters that network and asks all at once. What a guest's
daemons see is a client; what the host's rules see are packets of that guest, or of the uplink.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .gate import Answer, Ask
from .probe import Enter

_CONNECT, _LIMIT, _OPEN, _REST = 3.0, 5.0, 0.3, 1.0
"""Seconds: for a connection; for an answer; that a connection has to stay open; and for what
follows an answer's head."""
_BODY, _AT_ONCE, _REPEATS = 1 << 16, 16, 4
_OPENED, _CLOSED = 200, 502
"""As which status it counts that a connection without HTTP stays open, or is closed at once."""
_GRPC = b"\0\0\0\0\0"


def all_of(
    asks: Sequence[Ask], places: Mapping[str, Enter | str], trusts: Mapping[str, str]
) -> dict[str, Answer]:
    """The answers by the asks' keys. `places` says how to enter each source's network, or why it
    can't be entered; `trusts` has the certificates to trust, as PEM, by what `Ask.held` says."""
    found: dict[str, Answer] = {}
    running: list[tuple[int, int, list[Ask]]] = []
    for source in dict.fromkeys(ask.source for ask in asks):
        here = [ask for ask in asks if ask.source == source]
        place = places.get(source, "nobody knows where that is")
        if isinstance(place, str):
            found |= {ask.key: Answer(failed="place", why=place) for ask in here}
        else:
            running.append((*_started(here, place, trusts), here))
    for child, stream, here in running:
        with os.fdopen(stream, "rb") as said:
            text = said.read()
        os.waitpid(child, 0)
        try:
            plain: dict[str, Any] = json.loads(text)
        except ValueError:
            plain = {}
        lost = Answer(failed="place", why="its network can't be entered")
        for ask in here:
            each = plain.get(ask.key)
            found[ask.key] = (
                Answer(tuple(each["statuses"]), each["failed"], each["why"]) if each else lost
            )
    return found


def _started(asks: Sequence[Ask], enter: Enter, trusts: Mapping[str, str]) -> tuple[int, int]:
    """A child that asks, and the stream of what it says."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            enter()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                answers = pool.map(lambda each: _answer(each, trusts), asks)
                plain = {ask.key: got._asdict() for ask, got in zip(asks, answers, strict=True)}
            with os.fdopen(write, "wb") as stream:
                stream.write(json.dumps(plain).encode())
        finally:
            os._exit(0)
    os.close(write)
    return child, read


def _answer(ask: Ask, trusts: Mapping[str, str]) -> Answer:
    if ask.how == "ping":
        return _pinged(ask.address)
    # A balanced service answers by turns: each of its backends is to be met.
    statuses = []
    for _ in range(min(len(ask.behind), _REPEATS) or 1):
        with contextlib.ExitStack() as open_ones:
            try:
                stream = _connected(ask, open_ones)
            except OSError as error:
                return Answer(failed="connection", why=_words(error))
            try:
                stream = _shaken(ask, stream, trusts)
            except (OSError, ValueError) as error:
                return Answer(failed="handshake", why=_words(error))
            open_ones.enter_context(stream)
            statuses.append(_open(stream) if ask.how == "open" else _status(ask, stream))
    return Answer(tuple(statuses))


def _connected(ask: Ask, open_ones: contextlib.ExitStack) -> socket.socket:
    made = socket.create_connection((ask.address, ask.port), _CONNECT)
    made.settimeout(_LIMIT)
    return open_ones.enter_context(made)


def _shaken(ask: Ask, stream: socket.socket, trusts: Mapping[str, str]) -> socket.socket:
    if not ask.server:
        return stream
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ask.held:
        # It need not lead to a root that is known here; it is what was given to the guest.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=trusts.get(ask.held, ""))
    if ask.how == "open":
        context.set_alpn_protocols(["h2", "http/1.1"])
    return context.wrap_socket(stream, server_hostname=ask.server)


def _open(stream: socket.socket) -> int:
    """Whether a connection stays open, or says something."""
    stream.settimeout(_OPEN)
    try:
        return _OPENED if stream.recv(1) else _CLOSED
    except TimeoutError:
        return _OPENED
    except OSError:
        return _CLOSED


def _status(ask: Ask, stream: socket.socket) -> int:
    """The status of a request's answer; 0 for none. All that comes soon is read, so that nobody on
    the way notes a client that went away."""
    lines = [f"{'POST' if ask.how == 'grpc' else 'GET'} {ask.path} HTTP/1.1", f"Host: {ask.host}"]
    lines += ["User-Agent: phoenix", "Accept: */*", "Connection: close"]
    if ask.how == "grpc":
        lines += ["Content-Type: application/grpc", "TE: trailers", f"Content-Length: {len(_GRPC)}"]
    body = _GRPC if ask.how == "grpc" else b""
    said = b""
    try:
        stream.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        end = time.monotonic() + _LIMIT
        while b"\r\n\r\n" not in said and time.monotonic() < end:
            part = stream.recv(4096)
            said += part
            if not part:
                break
        stream.settimeout(_REST)
        end, length = time.monotonic() + _REST, len(said)
        while length < _BODY and time.monotonic() < end and (part := stream.recv(4096)):
            length += len(part)
    except OSError:
        pass
    words = said.split(None, 2)
    known = len(words) > 1 and words[0].startswith(b"HTTP/1.") and words[1].isdigit()
    return int(words[1]) if known and b"\r\n\r\n" in said else 0


def _words(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"the handshake fails: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror if isinstance(error, OSError) else "") or str(error)


# ---- ping, which unprivileged programs of the host may not be there for


def _pinged(address: str) -> Answer:
    six = ":" in address
    family, protocol = (
        (socket.AF_INET6, socket.getprotobyname("ipv6-icmp"))
        if six
        else (socket.AF_INET, socket.IPPROTO_ICMP)
    )
    number = os.getpid() & 0xFFFF
    try:
        with socket.socket(family, socket.SOCK_RAW, protocol) as raw:
            for turn in range(3):
                raw.sendto(_echo(number, turn, six), (address, 0))
                if number in _echoed(raw, address, six):
                    return Answer((_OPENED,))
    except OSError as error:
        return Answer(failed="connection", why=_words(error))
    return Answer(failed="connection", why="no answer to three pings")


def _echo(number: int, turn: int, six: bool) -> bytes:
    """An echo request; of ICMPv6, the kernel makes the sum."""
    kind = 128 if six else 8
    head = struct.pack("!BBHHH", kind, 0, 0, number, turn)
    total = sum(struct.unpack("!4H", head))
    folded = (total & 0xFFFF) + (total >> 16)  # in ones' complement (RFC 1071)
    return struct.pack("!BBHHH", kind, 0, 0 if six else ~folded & 0xFFFF, number, turn)


def _echoed(raw: socket.socket, address: str, six: bool) -> Iterator[int]:
    """The numbers of echo replies that come from there within a second."""
    end = time.monotonic() + 1
    while (left := end - time.monotonic()) > 0:
        raw.settimeout(left)
        try:
            packet, sender = raw.recvfrom(2048)
        except TimeoutError:
            return
        body = packet if six else packet[(packet[0] & 15) * 4 :]
        if sender[0] == address and len(body) >= 8 and body[0] == (129 if six else 0):
            yield int(struct.unpack("!H", body[4:6])[0])
