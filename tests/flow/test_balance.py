"""Two backends of one service: one dies under load, one is added, one is taken off; and clients
that are to stay with one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator

import pytest

from builder.lab.shape import Lab
from tests.flow.stage import Flow, Running, flow
from tests.integration import described
from tests.integration.machine import until

pytestmark = [pytest.mark.long(2), pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen")]
_SITE = """\
site: phoenix
domain: phoenix.internal
dns: [198.18.255.53]
services:
  chat:
    backends: [one, two]
    port: 8000
    health: {path: /health, interval: 3s, timeout: 3s}
    expose: [chat.example.org]
    inside: true
    grace: 15s
  stays:
    backends: [one, two]
    port: 8001
    health: {path: /health, interval: 3s, timeout: 3s}
    expose: [stays.example.org]
    sticky: {cookie: where}
    grace: 15s
"""
_GUESTS = """\
  one: {id: 111, address: NET.111GATEWAY}
  two: {id: 112, address: NET.112GATEWAY}
  three: {id: 113, address: NET.113GATEWAY}
"""
_CHAT, _STAYS = "https://chat.example.org", "https://stays.example.org"
_WORKERS = 4
_ASKED = 60
_KINDS = (("kept", "GET"), ("kept", "POST"), ("new", "GET"))


def host(lab: Lab) -> str:
    """The description of a lab's host."""
    return described.host(lab, _GUESTS)


@pytest.fixture
def made() -> Iterator[Flow]:
    """A lab, deployed, with programs that answer; `three` has them, too, and is no backend yet."""
    with flow(_SITE.replace("[one, two]", "[one, two, three]"), host) as found:
        found.host.edit(found.host.site, "[one, two, three]", "[one, two]")
        found.host.deploy()
        yield found


def test_backends_come_and_go(made: Flow) -> None:
    _dies(made)
    _comes(made)
    _is_sick(made)
    _is_added(made)
    _is_drained(made)
    _stays(made)


def _dies(made: Flow) -> None:
    """Requests that it had under way may fail, each of a client, and none after that."""
    with _loaded(made) as running:
        _program(made, "one", "stop")
        until(lambda: not _up(made, "chat", "one"), "the mesh has noticed", pause=0.1)
    lost = sum(each.found["failed"] + each.found["truncated"] for each in running)
    _told("one dies", running)
    assert lost <= _WORKERS * len(_KINDS), [each.found for each in running]
    _answered_by(made, {"two"})


def _comes(made: Flow) -> None:
    """It is asked again, and nobody notices."""
    with _loaded(made) as running:
        _program(made, "one", "start")
        until(lambda: _up(made, "chat", "one"), "the mesh has noticed", pause=0.1)
        _answered_by(made, {"one", "two"})
    _told("one is back", running)
    _none_lost(running)


def _is_sick(made: Flow) -> None:
    """Its program says that it is ill, and still answers: nothing is lost."""
    with _loaded(made) as running:
        made.host.guest(made.number("one"), "touch", "/run/try-chat.sick")
        until(lambda: not _up(made, "chat", "one"), "the mesh has noticed", pause=0.1)
    _none_lost(running)
    _answered_by(made, {"two"})
    made.host.guest(made.number("one"), "rm", "/run/try-chat.sick")
    until(lambda: _up(made, "chat", "one"), "the mesh has noticed", pause=0.1)


def _is_added(made: Flow) -> None:
    """By configuration; it takes its part."""
    made.host.edit(made.host.site, "backends: [one, two]", "backends: [one, two, three]")
    with _loaded(made) as running:
        made.host.deploy()
        _answered_by(made, {"one", "two", "three"})
    _told("three is added", running)
    _none_lost(running)


def _is_drained(made: Flow) -> None:
    """By configuration; what it has under way it answers."""
    made.host.edit(made.host.site, "backends: [one, two, three]", "backends: [two, three]")
    with _loaded(made) as running:
        made.host.deploy()
    _told("one is taken off", running)
    _none_lost(running)
    _answered_by(made, {"two", "three"})


def _stays(made: Flow) -> None:
    """A client's cookie keeps it where it was, and elsewhere where that is dead."""
    first, cookie = _met(made, "")
    assert cookie.startswith("where=")
    assert {_met(made, cookie)[0] for _ in range(20)} == {first}
    assert {_met(made, "")[0] for _ in range(20)} > {first}, "others are not kept there"
    made.host.guest(made.number(first), "systemctl", "stop", "try-stays.service")
    until(lambda: not _up(made, "stays", first), "the mesh has noticed", pause=0.1)
    then, moved = _met(made, cookie)
    assert then != first
    assert {_met(made, moved)[0] for _ in range(20)} == {then}


def _met(made: Flow, cookie: str) -> tuple[str, str]:
    """Who answers a client with this cookie, and the one that it has then."""
    more = ("--header", f"Cookie: {cookie}") if cookie else ()
    found = made.outside("ask", "get", "--url", _STAYS, *more)
    assert found["status"] == 200, found
    given = found["headers"].get("Set-Cookie", [cookie])[0].partition(";")[0]
    return json.loads(found["body"])["guest"], given


@contextlib.contextmanager
def _loaded(made: Flow) -> Iterator[list[Running]]:
    """Clients of each kind ask meanwhile."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(made.started(*_load(kind, method), "--pause", "20ms"))
            for kind, method in _KINDS
        ]


def _answered_by(made: Flow, guests: set[str]) -> None:
    """All who are asked from now on are these, and each is."""
    for kind, method in _KINDS:
        found = made.outside(*_load(kind, method), "--count", str(_ASKED))
        assert found["answered"] == _ASKED, found
        assert found["guests"].keys() == guests, found


def _load(kind: str, method: str) -> tuple[str, ...]:
    return ("load", "--url", _CHAT, "--kind", kind, "--method", method, "--workers", str(_WORKERS))


def _none_lost(running: list[Running]) -> None:
    for each in running:
        assert (each.found["failed"], each.found["truncated"]) == (0, 0), each.found


def _told(what: str, running: list[Running]) -> None:
    print(f"== {what}")
    for each in running:
        print(f"   {each.found}")


def _program(made: Flow, guest: str, do: str) -> None:
    made.host.guest(made.number(guest), "systemctl", do, "try-chat.service")


def _up(made: Flow, service: str, guest: str) -> bool:
    """What the mesh's live slot thinks of a backend."""
    slot = made.host.guest(102, "/opt/phoenix/current/bin/phoenix-slots", "live").strip()
    port = {"a": 20900, "b": 21900}[slot]
    (name,) = (b.port for r in made.network.services if r.service.name == service
               for b in r.backends if b.name == guest)  # fmt: skip
    url = f"http://127.0.0.1:{port}/api/http/services/{service}.{guest}.{name}@file"
    found = json.loads(made.inside("mesh", "ask", "get", "--url", url)["body"])
    return bool(found["serverStatus"]) and set(found["serverStatus"].values()) == {"UP"}
