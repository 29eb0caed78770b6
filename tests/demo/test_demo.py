"""The demo's steps on a lab of the test's own: they go through, and notice what is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from builder import cli
from builder.demo import run
from builder.demo.stage import Stage
from builder.lab.shape import ROUTED
from builder.network import Network
from tests.integration.invoked import ground
from tests.lab import labs

pytestmark = [pytest.mark.long(3), pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen")]
_CERTIFICATES = "/var/lib/phoenix/certificates"


@pytest.fixture
def stage() -> Iterator[Stage]:
    with labs.own(ROUTED) as up:
        yield Stage(up, ground(up.state))


def test_the_demo(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.exit_code(lambda: run.shown(stage)) == cli.DONE
    out = capsys.readouterr().out
    assert "✗" not in out
    assert out.count("✓ meanwhile") == 2
    assert out.count("─HTTPS─▶ 102 mesh") == 1
    assert out.count("✓ 101 ") >= 2, "the gateway's hops to the mesh and to the authority"
    network = stage.network()

    def fails(step: Callable[[], object]) -> str:
        assert cli.exit_code(lambda: step() and None) == cli.USER
        said = capsys.readouterr()
        assert "✗" in said.out, said
        print(said.out, said.err)
        return said.err

    assert "no request was made" in fails(lambda: _idle(stage, network))
    assert "hops are not as they should be" in fails(lambda: _misnamed(stage, network))
    assert "requests failed: " in fails(lambda: _lossy(stage, network))
    assert "returned error: 50" in fails(lambda: _dead(stage, network))


def _idle(stage: Stage, network: Network) -> None:
    """The client can't begin."""
    stage.client("mv", "/usr/bin/sh", "/usr/bin/away")
    try:
        with run.loaded(stage, network):
            pass
    finally:
        stage.client("mv", "/usr/bin/away", "/usr/bin/sh")


def _misnamed(stage: Stage, network: Network) -> None:
    """A backend shows another name's certificate, of the same authority."""
    for file in ("certificate.pem", "key.pem"):
        own, other = (
            (number, f"{_CERTIFICATES}/{network.fqdn(name)}/{file}")
            for name, number in _guests(network, "vllm-1", "vllm-2")
        )
        code, theirs, err = stage.inside(other[0], "cat", other[1])
        assert code == 0, err
        code, _, err = stage.inside(own[0], "sh", "-c", f"cat >{own[1]} <<'END'\n{theirs}END")
        assert code == 0, err
    run.picture(stage, network)


def _lossy(stage: Stage, network: Network) -> None:
    """The mesh is away while requests are made."""
    with run.loaded(stage, network):
        _mesh(stage, network, "stop")
        for _ in range(10):  # each takes longer than one of those that are made meanwhile
            stage.client("true")
    _mesh(stage, network, "start")


def _dead(stage: Stage, network: Network) -> None:
    """The mesh does not run."""
    _mesh(stage, network, "stop")
    run.requests(stage, network)


def _mesh(stage: Stage, network: Network, verb: str) -> None:
    code, out, err = stage.inside(network.mesh.guest.id, "systemctl", verb, "phoenix-traefik@a")
    assert code == 0, out + err


def _guests(network: Network, *names: str) -> list[tuple[str, int]]:
    found = {each.guest.name: each.guest.id for each in network.members}
    return [(name, found[name]) for name in names]
