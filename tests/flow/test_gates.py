"""A deploy that breaks a hop of the network goes back, says which hop it is, and leaves nothing
behind; one that breaks none goes through, whatever is not there yet."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator

import pytest

from tests.flow.breakages import BREAKAGES, Breakage
from tests.integration import operators
from tests.integration.altered import ALTERED
from tests.integration.handle import CHAT, FOREIGN, Handle, handle, until

pytestmark = [pytest.mark.long(4), pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen")]

_LINKS = (
    "ip -brief link | cut -d' ' -f1; ip rule; ip -4 route; ip -6 route; tc qdisc | grep ingress"
)


@contextlib.contextmanager
def found(shape: str) -> Iterator[Handle]:
    """A host with a guest of its operator's, whose program has not been started yet."""
    with handle(shape) as made:
        gateway = str(made.lab.router) if made.bridged else "10.9.0.1"
        address = f"{made.lab.at(77)}/24" if made.bridged else "10.9.0.77/24"
        operators.make(made, CHAT, address, gateway)
        stop = ("lxc-attach", "--name", str(CHAT), "--", "systemctl", "disable", "--now", "chat")
        until(lambda: made.inside.run(*stop)[0] == 0, "guest 111 has started")
        yield made


def _hops(host: Handle) -> dict[str, str]:
    """What fails of the network, by hop."""
    every = host.status()["hops"]
    assert len(every) > 8, every
    return {
        f"{each['source']} → {each['target']} ({each['name']})": each["why"]
        for each in every
        if not each["ok"]
    }


def _traces(host: Handle) -> list[str]:
    """What asking could leave behind: interfaces, rules, routes, queues."""
    return host.sh(f"{_LINKS} || true").splitlines()


def test_what_is_broken_is_named_and_goes_back(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    deep = request.config.getoption("--deep")
    with found("lab") as host:
        generation = _good(host)
        for breakage in BREAKAGES:
            if deep or not breakage.deep:
                _broken(host, breakage, generation, monkeypatch)
        host.assert_as_declared(generation)


@pytest.mark.deep
def test_a_bridged_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is translated there; what the guests do is asked all the same."""
    with found("lab-bridged") as host:
        generation = _good(host)
        for breakage in BREAKAGES:
            if all(owner in ("mesh", "chat") for owner, *_ in breakage.changes):
                _broken(host, breakage, generation, monkeypatch)


def _good(host: Handle) -> int:
    """A first deploy goes through without the program, and with it what changes a line. Nothing of
    the asking is left behind."""
    first = host.deploy(affects=FOREIGN)
    assert "not there yet, and no fault of this change: 111 → program (chat)" in first.told
    assert _hops(host) == {"111 → program (chat)": "127.0.0.1 port 8000: Connection refused"}
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
        print(f"== {breakage.what}: {took:.1f} s, {asked}, {why}", flush=True)
    except BaseException as error:
        error.add_note(breakage.what)
        raise
