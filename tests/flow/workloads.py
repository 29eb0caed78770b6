"""The steps of `test_workloads`: what AI programs and their users do, each through all hops."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from tests.flow.memory import Held, held
from tests.flow.stage import Flow, Found
from tests.integration.machine import until

CHAT = "https://chat.example.org"
SOCKETS = "https://sockets.example.org"
RPC = "https://rpc.example.org"
PAGE = "https://page.example.org"
"""Its profile is for ordinary pages: what the others must not do is just what it does."""
MIB = 1 << 20
FLAT = 64 * MIB
"""By how much a daemon may grow that holds nothing back."""
BOTH = ((), ("--h2",))


# ---- token by token


def tokens(flow: Flow) -> None:
    """Each token of a stream comes when it is sent, and not when the stream ends."""
    direct = flow.inside("one", "ask", "sse", "--url", "http://127.0.0.1:8000", "--n", "100")
    for protocol in BOTH:
        found = flow.outside("ask", "sse", "--url", CHAT, "--n", "100", *protocol)
        assert (found["tokens"], found["whole"]) == (100, True), found
        assert unbuffered(found), found
        print(f"{protocol}: first token {found['first'] - direct['first']:.1f} ms later than to "
              f"one in the guest, median {found['median'] - direct['median']:.1f} ms")  # fmt: skip
    found = flow.outside("ask", "sse", "--url", PAGE, "--n", "100")
    assert found["whole"], found
    assert not unbuffered(found), found


def unbuffered(found: Found) -> bool:
    """Whether half of the tokens came in the first half of the time that they took. Those that
    are collected come at the end of it, however fast the machine is."""
    return float(found["median"]) < float(found["seconds"]) * 1000 / 4


# ---- silence


@contextlib.contextmanager
def silences(flow: Flow, length: str = "70s") -> Iterator[None]:
    """All that may say nothing for long does so meanwhile, and goes on; where the profile is for
    pages, an answer that is silent for longer than a minute is given up."""
    ways = (
        ("silent", "--url", CHAT), ("silent", "--url", CHAT, "--h2"), ("ws", "--url", CHAT),
        ("ws", "--url", SOCKETS), ("grpc", "--url", RPC),
    )  # fmt: skip
    with contextlib.ExitStack() as waiting, ThreadPoolExecutor(1) as pool:
        begun = [
            waiting.enter_context(flow.started("ask", *words, "--for", length)) for words in ways
        ]
        page = pool.submit(refused, flow, "silent", "--url", PAGE, "--for", length)
        yield
        found = [each.end(3700) for each in begun]
        assert found[0]["whole"], found
        assert found[1]["whole"], found
        assert (found[2]["echoed"], found[3]["echoed"]) == (11, 11), found
        assert found[4]["talk"]["trailer"] == "10", found
        assert "status 504" in page.result(), page.result()


def refused(flow: Flow, *words: str) -> str:
    """What a `try ask` says that does not end well."""
    code, out, err = flow.tried("ask", *words, limit=3700)
    assert code != 0, out
    return err


def hours(flow: Flow, count: int = 1) -> None:
    """Token streams of so many hours come to their ends."""
    words = ("--url", CHAT, "--n", str(count * 3600), "--every", "1s")
    with contextlib.ExitStack() as waiting:
        begun = [
            waiting.enter_context(flow.started("ask", "sse", *words, *protocol))
            for protocol in BOTH
        ]
        found = [each.end(count * 3600 + 900) for each in begun]
    assert all(each["whole"] for each in found), found


# ---- both ways


def sockets(flow: Flow) -> None:
    """Web sockets, where the profile has them."""
    for url in (CHAT, SOCKETS):
        found = flow.outside("ask", "ws", "--url", url, "--n", "40")
        assert found["echoed"] == 41, found
        print(f"{url}: {found['trip']:.1f} ms there and back")
    assert "status code 101 but got" in refused(flow, "ws", "--url", PAGE)


def calls(flow: Flow) -> None:
    """gRPC: one call, streams in one and in both ways, failures, each with what trails it."""
    for where, found in {
        "outside": flow.outside("ask", "grpc", "--url", RPC, "--n", "50"),
        "inside": flow.inside("web", "ask", "grpc", "--url", "https://rpc.svc.phoenix.internal"),
    }.items():
        count = {"outside": 50, "inside": 10}[where]
        assert found["echo"] == {"whole": True, "guest": "one", "trailer": str(MIB)}, found
        assert found["fail"] == {
            "code": "ResourceExhausted", "message": "no memory is left: 100 % of it",
            "trailer": "5",
        }, found  # fmt: skip
        assert found["tokens"]["count"] == count, found
        assert found["tokens"]["trailer"] == found["talk"]["trailer"] == str(count), found
        print(f"gRPC {where}: the slowest of {count} tokens took {found['tokens']['worst']:.1f} ms")


# ---- bodies


def uploads(flow: Flow) -> None:
    """2 GB in one request, and smaller ones in every way that there is: all come whole, and
    neither gateway nor mesh nor front holds them."""
    most = 2 << 30
    ways: list[tuple[int, tuple[str, ...]]] = [
        (most, ()), (64 * MIB, ("--h2",)), (64 * MIB, ("--chunked",)),
        (64 * MIB, ("--chunked", "--h2")), (64 * MIB, ("--expect",)),
    ]  # fmt: skip
    with holding(flow) as found:
        for size, way in ways:
            got = flow.outside("ask", "upload", "--url", CHAT, "--size", str(size), *way)
            assert (got["status"], got["whole"], got["bytes"]) == (200, True, size), (way, got)
            print(f"up {size >> 20} MiB {way}: {size / got['seconds'] / 1e6:.0f} MB/s")
    flat(found)


def downloads(flow: Flow) -> None:
    """A large answer, and one to a client that takes it slowly."""
    with holding(flow) as found:
        for size, way in [(1 << 30, ()), (256 * MIB, ("--h2",)), (96 * MIB, SLOW),
                          (96 * MIB, ("--h2", *SLOW))]:  # fmt: skip
            got = flow.outside("ask", "download", "--url", CHAT, "--size", str(size), *way)
            assert got["whole"], (way, got)
            print(f"down {size >> 20} MiB {way}: {size / got['seconds'] / 1e6:.0f} MB/s")
    flat(found)


SLOW = ("--rate", str(32 * MIB))


def kept(flow: Flow) -> None:
    """What holds a body is seen to: the gateway, where the profile is for pages, puts one down in
    a file, and a program that reads one whole grows by it."""
    with holding(flow) as found:
        words = ("ask", "upload", "--url", PAGE, "--size", str(MIB), "--rate", str(MIB // 3))
        assert flow.outside(*words)["whole"]
        echoed = flow.outside("load", "--url", CHAT, "--method", "POST", "--size", str(60 * MIB),
                              "--count", "2", "--workers", "2")  # fmt: skip
        assert echoed["answered"] == 2, echoed
    assert found["101 nginx"].files > 0, found
    assert max(found[f"{number} try"].grown for number in (111, 112)) > FLAT, found


@contextlib.contextmanager
def holding(flow: Flow) -> Iterator[dict[str, Held]]:
    """What gateway, mesh and backends hold meanwhile."""
    host = [*flow.host.outside[:-1], flow.host.lab.host]
    with held(host, 101, 102, 111, 112) as found:
        yield found


def flat(found: dict[str, Held]) -> None:
    """None of our daemons grew, or put anything down."""
    ours = ("101 nginx", "102 traefik", "111 nginx", "112 nginx")
    for name in ours:
        one = found[name]
        print(f"{name}: {one.first >> 20} MiB, {one.grown >> 10} KiB more at most")
    wrong = [name for name in ours if found[name].grown > FLAT or found[name].files > 0]
    assert not wrong, found


def heads(flow: Flow) -> None:
    """HEAD: what GET would say, and no body."""
    for protocol in BOTH:
        url = f"{CHAT}/bytes?n=12345"
        found = flow.outside("ask", "get", "--url", url, "--method", "HEAD", *protocol)
        assert (found["status"], found["length"], found["body"]) == (200, 12345, ""), found
        assert "why" not in found, found


# ---- a thousand at a time


def streams(flow: Flow) -> None:
    """A thousand streams at a time, all to their ends."""
    for protocol in BOTH:
        # The last token of each waits until all are there, however slow the machine is.
        gate = str(time.monotonic_ns())
        words = ("--streams", "1000", "--n", "10", "--every", "500ms", "--gate", gate)
        with flow.started("ask", "streams", "--url", CHAT, *words, *protocol) as running:
            until(lambda: under_way(flow) == 1000, "a thousand streams are under way", limit=300)
            for guest in ("one", "two"):
                opened = f"http://127.0.0.1:8000/open?gate={gate}"
                assert flow.inside(guest, "ask", "get", "--url", opened)["status"] == 200
        found = running.found
        assert (found["whole"], found["truncated"], found["failed"]) == (1000, 0, 0), found
        print(f"1000 streams {protocol}: median delay of a token {found['median']:.1f} ms")


def under_way(flow: Flow) -> int:
    """How many token streams both programs have."""
    both = [flow.active(guest, 8000)["active"] for guest in ("one", "two")]
    return sum(one["kind"] == "/tokens" for each in both for one in each)


# ---- who goes


def disconnects(flow: Flow) -> None:
    """A client that goes is gone for the program within a second."""
    ways: list[tuple[str, ...]] = [
        *((kind, *protocol) for kind in ("sse", "silent", "upload", "download")
          for protocol in BOTH),
        ("ws",),
    ]  # fmt: skip
    for kind, *protocol in ways:
        going = partial(gone, flow, CHAT, kind, protocol, ("one", "two"), 8000)
        assert soon(going), (kind, protocol)
    assert soon(partial(gone, flow, RPC, "grpc", [], ("one",), 8002, grpc=True))
    # One who stays is none who goes.
    with flow.started("ask", "silent", "--url", CHAT, "--for", "3s", "--mark", "stays"):
        until(lambda: seen(flow, "stays", ("one", "two"), 8000)[0], "it is under way")
    (one,) = seen(flow, "stays", ("one", "two"), 8000)[1]
    assert one["how"] == "done", one


def soon(going: Callable[[int], float]) -> bool:
    """Whether it takes less than a second, one time of three: a machine may stand still in it."""
    return any(going(turn) < 1 for turn in range(3))


def gone(
    flow: Flow, url: str, kind: str, protocol: list[str], guests: tuple[str, ...], port: int,
    turn: int, grpc: bool = False,
) -> float:  # fmt: skip
    """Seconds from the client's going to when its program knew."""
    mark = f"{kind}{''.join(protocol)}-{turn}"
    words = ("ask", "disconnect", "--url", url, "--kind", kind, "--mark", mark, "--after", "0s")
    with flow.started(*words, *protocol) as running:
        until(lambda: seen(flow, mark, guests, port, grpc)[0], f"{mark} is under way")
    closed = int(running.found["closed"])
    until(lambda: seen(flow, mark, guests, port, grpc)[1], f"{mark} has ended", limit=20)
    (one,) = seen(flow, mark, guests, port, grpc)[1]
    assert one["how"] != "done", one
    took = (int(one["ended"]) - closed) / 1e9
    print(f"{mark}: gone after {took * 1000:.0f} ms ({one['how'].splitlines()[-1]})")
    return took


def seen(
    flow: Flow, mark: str, guests: tuple[str, ...], port: int, grpc: bool = False
) -> tuple[list[Found], list[Found]]:
    """Requests with this mark: under way, and ended."""
    each = [flow.active(guest, port, mark, grpc) for guest in guests]
    return [r for one in each for r in one["active"]], [r for one in each for r in one["ended"]]


STEPS: list[Callable[[Flow], None]] = [
    tokens, sockets, calls, heads, disconnects, streams, uploads, downloads, kept,
]  # fmt: skip
