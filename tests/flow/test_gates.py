"""A deploy that breaks a hop of the network goes back, says which hop it is, and leaves nothing
behind; one that breaks none goes through, whatever is not there yet."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator

import pytest

from tests.flow.breakages import BREAKAGES, Breakage
from tests.integration import operators
from tests.integration.altered import ALTERED
from tests.integration.handle import CHAT, FOREIGN, Handle, handle, until

pytestmark = pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen")

_LINKS = (
    "ip -brief link | cut -d' ' -f1; ip rule; ip -4 route; ip -6 route; tc qdisc | grep ingress"
)
_QUICK = 60.0
"""Seconds that a change which breaks something may take on a machine that is quiet."""


@pytest.fixture(scope="module")
def host() -> Iterator[Handle]:
    """A routed host on which the description of all tests is deployed, though its program has not
    been started yet."""
    with handle("lab") as made:
        operators.make(made, CHAT, "10.9.0.77/24", "10.9.0.1")
        stop = ("lxc-attach", "--name", str(CHAT), "--", "systemctl", "disable", "--now", "chat")
        until(lambda: made.up.engine.inside(made.lab.host, *stop)[0] == 0, "guest 111 has started")
        yield made


def _hops(host: Handle) -> dict[str, str]:
    """What fails of the network, by hop."""
    found = host.status()["hops"]
    assert len(found) > 10, found
    return {
        f"{each['source']} → {each['target']} ({each['name']})": each["why"]
        for each in found
        if not each["ok"]
    }


def _traces(host: Handle) -> list[str]:
    """What asking could leave behind: interfaces, rules, routes, queues."""
    return host.sh(f"{_LINKS} || true").splitlines()


def test_what_is_broken_is_named_and_goes_back(
    host: Handle, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    first = host.deploy(affects=FOREIGN)
    assert "not there yet, and no fault of this change: 111 → program (chat)" in first.told
    assert _hops(host) == {
        "111 → program (chat)": "127.0.0.1 port 8000: Connection refused",
    }
    generation = _good(host)
    deep = request.config.getoption("--deep")
    for breakage in BREAKAGES:
        if deep or not breakage.deep:
            _broken(host, breakage, generation, monkeypatch)
    host.assert_as_declared(generation)


def _good(host: Handle) -> int:
    """With the program there, what changes a line goes through, and nothing is left behind."""
    host.guest(CHAT, "systemctl", "enable", "--now", "chat.service")
    until(lambda: host.asked() == "200", "the program answers")
    traces = _traces(host)
    host.edit(host.site, "rate: 1000/s", "rate: 2000/s")
    done = host.deploy()
    assert "not there yet" not in done.told
    assert _hops(host) == {}
    assert _traces(host) == traces
    return int(done.found["generation"])


def _broken(
    host: Handle, breakage: Breakage, generation: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    print(f"== {breakage.what}", flush=True)
    before = _traces(host)
    with monkeypatch.context() as patched, host.requests() as asked:
        patched.setenv(ALTERED, json.dumps(breakage.changes))
        began = time.monotonic()
        done = host.invoke("deploy")
        took = time.monotonic() - began
    try:
        assert (done.code, done.found["result"]) == (4, "undone"), done
        why = done.found["why"]
        named = [each for each in why.split("; ") if each.startswith(breakage.hop)]
        assert named, why
        assert any(breakage.why in each for each in named), why
        assert done.found["generation"] == generation, done
        assert [host.asked() for _ in range(10)] == ["200"] * 10
        assert _traces(host) == before
        assert not _left(host.events()[-1:], "degraded")
        print(f"== {breakage.what}: {took:.1f} s, {asked}, {why}", flush=True)
    except BaseException as error:
        error.add_note(breakage.what)
        raise


def _left(events: Iterable[dict[str, object]], kind: str) -> bool:
    return any(each.get("kind") == kind for each in events)
