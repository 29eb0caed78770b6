"""Certificates that live for five minutes, renewed over and over under load, and one that can't be.

The shortest life that the language allows; each is due 20 seconds after it came, so that cycles
take as long as the client's looks are apart, 35 to 44 seconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.flow import certified
from tests.flow.certified import CA, GATEWAY, HOLDERS, MESH, ONE, TWO, Watch
from tests.flow.stage import Flow, flow
from tests.integration.handle import until

pytestmark = [
    pytest.mark.long(5),
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen", "index"),
]

_TIMER = "phoenix-acme.timer"


@contextlib.contextmanager
def _brief() -> Iterator[Flow]:
    with flow(certified.site("5m", "280s"), certified.host) as made:
        yield made


def test_renewed_by_themselves_under_load() -> None:
    with _brief() as made:
        # One does not look any more: what is found below of the others is not found of it.
        made.host.guest(TWO.guest, "systemctl", "stop", _TIMER)
        _cycles(made, 3, GATEWAY, MESH, ONE)
        _told_of_what_is_late(made)
        _a_reload_is_seen(made)
        _down(made)


@pytest.mark.deep
def test_over_and_over() -> None:
    """Many cycles; then the CA is away until every certificate has ended: nobody is answered then,
    and all is well again by itself once it is there."""
    with _brief() as made:
        _cycles(made, 12, *HOLDERS)
        _ended(made)


def _cycles(made: Flow, times: int, *holders: certified.Holder) -> None:
    """Some renewals, of which clients notice nothing, and no front needs a reload."""
    watch = Watch(made)
    before = {each.guest: certified.processes(made.host, each.guest) for each in HOLDERS}
    assert all(len(each) == 1 for each in before.values()), before
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(each) for each in certified.loads(made)]
        watch.await_renewed(times, *holders, limit=120 * times)
        for each in holders:
            certified.await_served(made, each)
    for load in running:
        certified.good(load.found)
    print(watch.tells())
    assert {each.guest: certified.processes(made.host, each.guest) for each in HOLDERS} == before


def _told_of_what_is_late(made: Flow) -> None:
    """The one that does not look was not renewed, status says so while it is good for minutes yet,
    and it heals as soon as it looks."""
    watch = Watch(made, (TWO,))
    certified.await_fault(made.host, "guest 112 (two)", TWO.name, "was not renewed")
    with pytest.raises(AssertionError, match="not yet"):
        watch.await_renewed(1, TWO, limit=1)
    made.host.guest(TWO.guest, "systemctl", "start", _TIMER, "phoenix-acme.service")
    watch.await_renewed(1, TWO)
    assert certified.faults(made.host, TWO.name) == []


def _a_reload_is_seen(made: Flow) -> None:
    """What looks for reloads does find one."""
    before = certified.processes(made.host, TWO.guest)
    made.host.guest(TWO.guest, "systemctl", "reload", *before)
    until(lambda: certified.processes(made.host, TWO.guest) != before, "a reload is seen")


def _down(made: Flow) -> None:
    """The CA is down for longer than renewals may take: status says for whom and why, a deploy
    tells it and is not taken back for it, clients notice nothing; all is renewed once it is there
    again."""
    host = made.host
    watch = Watch(made)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(each) for each in certified.loads(made)]
        host.guest(CA, "systemctl", "stop", "phoenix-step-ca.service")
        for each in HOLDERS:
            # Of an order that was under way it may be told otherwise, until the next.
            why = ("not renewed: ", ": connection refused")
            said = certified.await_fault(host, f"guest {each.guest} ", each.name, *why)
            assert said.endswith(why[-1]), said
        host.edit(host.site, "rate: 1000/s", "rate: 2000/s")
        told = host.deploy().told
        assert "look after this: guest 102 (mesh) has a certificate of" in told, told
        host.guest(CA, "systemctl", "start", "phoenix-step-ca.service")
        watch.await_renewed(1, *HOLDERS)
        certified.await_well(host)
    for load in running:
        certified.good(load.found)


def _ended(made: Flow) -> None:
    host = made.host
    host.guest(CA, "systemctl", "stop", "phoenix-step-ca.service")
    for each in HOLDERS:
        certified.await_fault(host, f"guest {each.guest} ", each.name, "ended at", limit=420)
    status = made.outside("ask", "get", "--url", certified.CHAT)["status"]
    assert status == 0 or status >= 500, status
    host.guest(CA, "systemctl", "start", "phoenix-step-ca.service")
    made.answers()
    certified.await_well(host)
