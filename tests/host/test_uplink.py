"""What the kernel says of an uplink."""

from __future__ import annotations

import pytest

from builder.host import hops, uplink
from builder.host.gate import Ask, Paths

pytestmark = pytest.mark.needs("ip")
AWAY = "phx-away0"


@pytest.mark.parametrize("six", [False, True])
def test_one_that_is_away_has_nothing(six: bool):
    assert (uplink.own(AWAY, six), uplink.gateway(AWAY, six)) == ("", "")


@pytest.mark.parametrize("how", ["http", "ping"])
def test_what_leads_there_is_asked_in_vain(how: str):
    ask = Ask("k", "102", "outside", "the way out", how, "0.0.0.0")
    found = hops._addressed(Paths("", AWAY, 30, (ask,)))
    assert [each.address for each in found] == [""]
