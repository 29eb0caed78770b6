"""A generation's own programs judge its files: in a running guest, which notices nothing of it."""

from __future__ import annotations

import pytest

from tests.kinds.slots.world import connection, leads
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine, copy, forget, put

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")]
LOOK = (
    "cat /proc/self/mountinfo; ip address; cat /proc/sys/net/ipv*/ip_nonlocal_bind;"
    " find /run /tmp /var/log /var/lib/phoenix -newer /root/now ! -path '/run/systemd*'"
    " ! -path /run ! -path /tmp ! -path '/var/log/phoenix-nginx*' ! -path '/var/log/journal*'"
)
SECOND = 2


def _checked(guest: Machine, number: int) -> tuple[int, str]:
    found = guest.run(f"/opt/phoenix/{number}/bin/phoenix-check")
    return found.code, found.out


def _state(guest: Machine) -> str:
    guest.shell("touch /root/now")
    return guest.shell(LOOK)


def test_a_good_generation(lab: Lab, guest: Machine):
    before, kept = _state(guest), connection(lab)
    assert _checked(guest, 1) == (0, "")
    assert set(guest.shell(LOOK).splitlines()) ^ set(before.splitlines()) == set()
    assert leads(guest) == "a"
    kept.close()


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("nginx/b.conf", "http {", "http {\n  listen;", "listen"),
        ("nginx/a.conf", "events {", "evens {", "evens"),
        ("slots/b.nft", "type nat hook", "type not hook", "not"),
    ],
)
def test_a_bad_one(guest: Machine, file: str, before: str, after: str, said: str):
    folder = copy(guest, 1, SECOND)
    try:
        text = (folder / file).read_text()
        assert before in text
        put(folder / file, text.replace(before, after, 1).encode())
        code, words = _checked(guest, SECOND)
        assert (code, said in words) == (1, True), words
    finally:
        forget(guest, SECOND)


def test_where_it_cannot_look_it_says_so(guest: Machine):
    script = "/opt/phoenix/1/bin/phoenix-check"
    limit = guest.run("setpriv", "--bounding-set=-all", script)
    assert limit.code == 75
    assert "namespaces" in limit.out
