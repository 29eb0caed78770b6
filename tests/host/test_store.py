"""Files that come to the store: each is what its name says, whoever else sends it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from builder.host import store
from builder.host.paths import Paths
from builder.host.release import Object, digest
from builder.host.schema import RefusedError
from builder.host.store import Store

DATA = b"what a release holds\n" * 100


@pytest.fixture
def place(tmp_path: Path) -> Store:
    made = Store(Paths(tmp_path))
    made.paths.store.mkdir(parents=True)
    return made


def come(place: Store, named: bytes, data: bytes) -> Object:
    """A file that has come under the name of these bytes."""
    name = digest(named)
    place.receive(name, 0, len(data), io.BytesIO(data))
    return Object(name, len(named))


def test_another_begins_while_it_is_compared(place: Store, monkeypatch: pytest.MonkeyPatch):
    made, real = come(place, DATA, DATA), store._digest
    other = place.paths.incoming / made.digest

    def compared(path: Path) -> str:
        found = real(path)
        other.unlink(missing_ok=True)
        other.write_bytes(DATA[:7])
        return found

    monkeypatch.setattr(store, "_digest", compared)
    place.accept([made])
    assert place.read(made.digest) == DATA
    assert place.begun(made.digest) == 7, "the other goes on with its own"


def test_what_is_wrong_is_forgotten_and_the_rest_stays(place: Store):
    right, wrong = come(place, DATA, DATA), come(place, b"right", b"wrong")
    half = come(place, b"both halves", b"one")
    with pytest.raises(RefusedError, match="send it again"):
        place.accept([right, wrong, half])
    assert place.read(right.digest) == DATA
    assert (place.has(wrong.digest), place.begun(wrong.digest)) == (False, 0)
    assert (place.has(half.digest), place.begun(half.digest)) == (False, 3)
    assert [path.name for path in place.paths.incoming.iterdir()] == [half.digest]
