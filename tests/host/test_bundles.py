"""Which bundle of secrets a guest gets, and that a newer one is not forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from builder.host import bundles
from builder.host.release import Secret, release
from tests.host.making import Stage, released


@pytest.mark.parametrize(
    ("there", "newest", "anew"),
    [
        ((), 1, 1),
        ((1,), 1, 2),
        ((1, 2), 2, 3),
        # What lay between was collected; what is pinned stays, and is old.
        ((1, 3), 3, 4),
        ((3,), 3, 4),
        ((2, 10), 10, 11),
    ],
)
def test_the_newest_that_is_here(tmp_path: Path, there: tuple[int, ...], newest: int, anew: int):
    stage = Stage(tmp_path)
    plain = release(released(stage.store, guests={101: {"bin/x": "1\n"}}))
    wanted = plain._replace(secrets=(Secret("g101", "token", 0o400, "file:token"),))
    name = bundles.needed(stage.paths, stage.store, wanted)[101]
    places = {n: name if n == 1 else f"{name}-{n}" for n in range(1, 12)}
    for number in there:
        (stage.paths.secrets(101) / places[number]).mkdir(parents=True)
    for other in (f".{name}-9", f"{name}-x", f"{'0' * len(name)}-9"):
        (stage.paths.secrets(101) / other).mkdir(parents=True)
    assert bundles.needed(stage.paths, stage.store, wanted) == {101: places[newest]}
    assert bundles.needed(stage.paths, stage.store, wanted, anew=True) == {101: places[anew]}
