"""The uplink's side: a network of its own whose packets enter the host as those of the uplink do.

A pair of interfaces leads there; whatever comes out of it is put, by the kernel, to where packets
that come in by the uplink begin. So each rule meets them under the uplink's own name. The network
belongs to a child of this process, and goes with it, with the pair and its route: nothing is left
of either, however this process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import commands
from .commands import FailedError
from .probe import Enter, in_network_of

_NEWNET = 0x40000000
_FOUR, _SIX = "198.51.100", "2001:db8:0:5080:"
"""Of networks that are for documents (RFC 5737, RFC 3849): no client has such an address."""
_HERE, _THERE = "02:50:48:58:00:01", "02:50:48:58:00:02"
_HOP4, _HOP6 = "169.254.80.1", "fe80::50:1"
_STRICT = 1
_TRIES = 3
"""Another one may be under way, with the same address."""
_turns = itertools.count()
# $1 the uplink, $2 a name, $3 the network's process, $4 and $5 its addresses.
_JOINED = f"""
ip link add "$2" address {_HERE} type veth peer name "$2" address {_THERE} netns "$3"
ip link set "$2" up
ip -4 route add "$4" dev "$2"
ip -4 neighbour add "$4" lladdr {_THERE} nud permanent dev "$2"
tc qdisc add dev "$2" ingress
tc filter add dev "$2" parent ffff: protocol all u32 match u32 0 0 \
    action mirred ingress redirect dev "$1"
nsenter --target "$3" --net sh -euc '
    ip link set lo up
    ip link set "$2" up
    ip -4 address add "$1/32" dev "$2"
    ip -4 route add {_HOP4} dev "$2"
    ip -4 neighbour add {_HOP4} lladdr {_HERE} nud permanent dev "$2"
    ip -4 route add default via {_HOP4}' sh "$4" "$2"
[ -n "$5" ] || exit 0
ip -6 route add "$5" dev "$2"
ip -6 neighbour add "$5" lladdr {_THERE} nud permanent dev "$2"
nsenter --target "$3" --net sh -euc '
    ip -6 address add "$1/128" dev "$2" nodad
    ip -6 neighbour add {_HOP6} lladdr {_HERE} nud permanent dev "$2"
    ip -6 route add default via {_HOP6} dev "$2"' sh "$5" "$2"
"""


@contextlib.contextmanager
def side(uplink: str, six: bool) -> Iterator[Enter | str]:
    """The uplink's side while this is open, or why there is none; `six` with IPv6 too."""
    if _strict(uplink):
        yield f"{uplink} takes only packets whose answer would leave by it (rp_filter is 1)"
        return
    ready, said = os.pipe()
    held, hold = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(hold)
            if ctypes.CDLL(None).unshare(_NEWNET) == 0:
                os.write(said, b"+")
            os.close(said)
            os.read(held, 1)  # until whoever began this closes it, or ends
        finally:
            os._exit(0)
    os.close(said)
    os.close(held)
    names: list[str] = []
    try:
        found: Enter | str = "no network can be made"
        for _ in range(_TRIES if os.read(ready, 1) else 0):
            names.append(f"phx{os.getpid()}.{next(_turns) % 1000}")
            found = _joined(uplink, names[-1], child, six)
            if not isinstance(found, str):
                break
        yield found
    finally:
        for name in names:
            # Before its network: the kernel takes its time to end one.
            commands.status("ip", "link", "delete", name)
        os.close(hold)
        os.close(ready)
        os.waitpid(child, 0)


def _joined(uplink: str, name: str, process: int, six: bool) -> Enter | str:
    number = 1 + (os.getpid() + next(_turns)) % 254
    addresses = (f"{_FOUR}.{number}", f"{_SIX}:{number:x}" if six else "")
    words = ("sh", "-euc", _JOINED, "sh", uplink, name, str(process), *addresses)
    try:
        commands.run(*words, limit=20)
    except FailedError as error:
        return f"the uplink's side can't be made: {str(error).splitlines()[-1][-200:]}"
    return in_network_of(process)


def _strict(uplink: str) -> bool:
    """Whether the kernel drops what comes in by an interface by which it would not answer."""
    found = []
    for each in ("all", uplink):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(Path(f"/proc/sys/net/ipv4/conf/{each}/rp_filter").read_text()))
    return max(found, default=0) == _STRICT


def own(uplink: str, six: bool) -> str:
    """The uplink's own address, as the kernel knows it; "" where it has none."""
    links = _ip(six, "address", "show", "dev", uplink, "scope", "global")
    every = (each for link in links for each in link.get("addr_info", ()))
    return next((str(each["local"]) for each in every if "local" in each), "")


def gateway(uplink: str, six: bool) -> str:
    """The gateway behind the uplink, as the kernel knows it; "" where there is none."""
    routes = _ip(six, "route", "show", "default", "dev", uplink)
    return next((str(each["gateway"]) for each in routes if "gateway" in each), "")


def _ip(six: bool, *words: str) -> list[dict[str, Any]]:
    # An interface that is away has nothing.
    code, said = commands.status("ip", "-json", "-6" if six else "-4", *words)
    found: list[dict[str, Any]] = json.loads(said or "[]") if code == 0 else []
    return found
