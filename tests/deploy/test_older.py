"""What is sent is packed against files of the release that runs: little travels, all comes out."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import tree
from builder.deploy import older
from builder.deploy.memory import Memory
from builder.host import stream
from builder.host.schema import RefusedError
from tests.deploy.making import Project, Wire, deployed

TEXT = "".join(f"line {number} of a file\n" for number in range(4000)).encode()
EDGES = (0, 1, 16383, 16384, 16385, 24576, 32768, 40000)


def unpacked(parts: list[bytes], old: bytes, begin: int, size: int) -> bytes:
    framed = b"".join(len(each).to_bytes(4, "big") + each for each in parts) + bytes(4)
    source = stream.Parts(io.BytesIO(framed))
    with stream.plain("like", source, stream.likes(old, begin, size)) as found:
        return stream.exactly(found, size - begin)


@pytest.mark.parametrize("begin", [0, 1, 16384, 20000])
@pytest.mark.parametrize("size", EDGES)
def test_each_size_comes_out_as_it_went_in(size: int, begin: int):
    new = TEXT[:size]
    for old in (b"", TEXT[5:], TEXT[: size // 2]):
        begun = min(begin, size)
        assert unpacked([*older.packed(old, begun, new)], old, begun, size) == new[begun:]


@given(st.binary(max_size=300), st.integers(0, 60000), st.integers(0, 300))
def test_any_edit_comes_out_as_it_went_in(put: bytes, at: int, drop: int):
    new = TEXT[:at] + put + TEXT[at + drop :]
    assert unpacked([*older.packed(TEXT, 0, new)], TEXT, 0, len(new)) == new


def test_a_line_costs_little_however_long_the_file_is():
    noise = random.Random(1).randbytes(100_000)  # no codec makes it smaller by itself
    new = noise[:50_000] + b"a line more\n" + noise[50_000:]
    packed = b"".join(older.packed(noise, 0, new))
    # Deflate repeats 258 bytes at a time.
    assert len(packed) < len(new) / 50


def test_another_older_file_is_refused():
    parts = [*older.packed(TEXT, 0, TEXT)]
    with pytest.raises(RefusedError, match="damaged"):
        unpacked(parts, TEXT[1:], 0, len(TEXT))


@pytest.mark.parametrize("more", [b"x", b"x" * 20000])
def test_what_goes_on_after_its_end_is_refused(more: bytes):
    for parts in (
        [*older.packed(b"", 0, b"abc"), more],
        [b"".join(older.packed(b"", 0, b"abc")) + more],
    ):
        with pytest.raises(RefusedError):
            unpacked(parts, b"", 0, 3)


def files(changed: bytes) -> dict[int, dict[str, bytes]]:
    held = {f"etc/{number}": random.Random(number).randbytes(500) for number in range(40)}
    return {103: {**held, "etc/text": TEXT[:9000] + changed}}


def test_a_changed_line_moves_little(made: Project, wire: Wire, memory: Memory):
    services = {f"s{n}": {"port": random.Random(n).random()} for n in range(200)}
    network = {"services": services}
    made.release(guests=files(b"one"), network=network)
    assert deployed(made, wire, memory).verdict.result == "done"
    wire.sent.clear()
    services["s100"] = {"port": 1}
    made.release(guests=files(b"two"), network=network)
    assert deployed(made, wire, memory).verdict.generation == 2
    assert wire.bytes() < 3000
    # Where dist/ has not got what runs, it goes as it is.
    wire.sent.clear()
    runs = made.newest()
    runs.rename(runs.with_name("gone"))
    made.release(guests=files(b"three"), network=network)
    assert deployed(made, wire, memory).verdict.generation == 3
    assert 5000 < wire.bytes() < 20000


def test_what_is_damaged_on_the_host_is_no_base(made: Project, wire: Wire, memory: Memory):
    """Nor does it keep a release from coming that needs nothing of it."""
    made.release(sysctl="a = 1\n" * 99)
    assert deployed(made, wire, memory).verdict.result == "done"
    damaged = wire.stage.store.path(tree.digest(b"{}"))
    damaged.chmod(0o644)
    damaged.write_bytes(b"altered")
    wire.sent.clear()
    made.release(sysctl="a = 1\n" * 99, network={"services": {}})
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.generation) == ("done", 2), outcome
    asked = b"".join(wire.sent)
    assert asked.count(b'"codec": "like", "objects"') == 1
    assert asked.count(b'"codec": "gzip", "objects"') == 1
