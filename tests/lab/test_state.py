from __future__ import annotations

import stat
from pathlib import Path

import pytest

from builder.lab.shape import NETWORKS, RANGE, Lab
from builder.lab.state import State
from builder.load import load
from tests.lab.labs import ROOT

LABS = [*(Lab.of(shape) for shape in NETWORKS), Lab("other", "lab", NETWORKS["lab-bridged"])]


@pytest.fixture(params=LABS, ids=lambda lab: lab.name)
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> State:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    state = State.of(request.param)
    state.make(ROOT)
    return state


@pytest.mark.needs("ssh-keygen")
def test_the_project_describes_the_lab(made: State) -> None:
    (host,) = load(made.project, [made.lab.name]).hosts
    assert host.reach == str(made.lab.address)
    assert (made.project / "configs/ca" / f"{made.lab.name}.crt").is_file()
    assert not (ROOT / "configs/ca" / f"{made.lab.name}.crt").exists()


@pytest.mark.needs("ssh-keygen")
def test_nobody_else_reads_the_keys(made: State) -> None:
    assert stat.S_IMODE(made.folder.stat().st_mode) == 0o700
    for name in ("id_ed25519", "host_key", "signing_key", "root.password"):
        assert stat.S_IMODE((made.folder / name).stat().st_mode) == 0o600


@pytest.mark.needs("ssh-keygen")
def test_a_lab_is_up_only_with_its_note(made: State) -> None:
    assert made.found() is None
    made.finish({"network": "x"})
    assert made.found() == {"network": "x"}
    made.remove()
    assert not made.folder.exists()
    made.remove()


@pytest.mark.parametrize("lab", LABS, ids=lambda lab: lab.name)
def test_addresses(lab: Lab) -> None:
    assert lab.network.subnet_of(RANGE)
    own = {lab.address, lab.router, lab.machine}
    guests = {each.address for each in lab.foreign()}
    assert len(own | guests) == 6


def test_networks_of_the_shapes_are_apart() -> None:
    one, other = NETWORKS.values()
    assert not one.overlaps(other)
