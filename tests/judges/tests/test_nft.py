"""nft's judge takes a good ruleset, and says no to a wrong one and to one that piles up."""

from __future__ import annotations

import pytest

from tests.judges import nft
from tests.judges.refusal import Refused
from tests.judges.tests import refuses

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

GOOD = """
table inet phoenix
delete table inet phoenix
table inet phoenix {
    map live { type inet_service : inet_service; elements = { 443 : 20001, 80 : 20000 } }
    chain pre { type nat hook prerouting priority -100; meta l4proto tcp redirect to :tcp dport map @live; }
    chain out { type nat hook output priority -100; fib daddr type local meta l4proto tcp redirect to :tcp dport map @live; }
    chain post { type nat hook postrouting priority srcnat; ip saddr 10.0.0.0/24 oifname "enp3s0" masquerade; }
    chain guard {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        tcp dport { 20000, 20001 } ct original proto-dst != { 80, 443 } drop
        iifname "vmbr0" ip saddr 10.0.0.102 ether saddr 02:00:00:00:00:66 tcp dport 443 accept
        meta l4proto icmpv6 accept
        reject with tcp reset
    }
}
"""  # noqa: E501


def test_good() -> None:
    loaded = nft.check(GOOD, before="table ip theirs { chain c { }; }")
    assert nft.tables(loaded) == {("inet", "phoenix"), ("ip", "theirs")}
    assert len(nft.rules(loaded, "guard")) == 5


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("policy drop", "policy dorp", "syntax error"),
        ("10.0.0.102", "10.0.0.302", "Could not resolve"),
        ("@live", "@dead", "No such file"),
        ("delete table inet phoenix", "", "File exists|adds"),
        ("-100; fib", "dstnat; fib", "invalid"),
        ("icmpv6", "ipv6-icmp", "Could not resolve protocol name"),
    ],
)
def test_bad(before: str, after: str, said: str) -> None:
    refuses(nft.check, GOOD, before, after, said)


def test_piling_up() -> None:
    with pytest.raises(Refused, match="loaded a second time it adds"):
        nft.check("table inet t { chain c { tcp dport 80 accept; }; }")
