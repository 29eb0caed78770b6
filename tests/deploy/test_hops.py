"""The table of hops that `status` prints."""

from __future__ import annotations

from typing import Any

import pytest

from builder.deploy import hops

FOUND: dict[str, Any] = {
    "names": {"101": "gateway", "102": "mesh", "111": "one"},
    "minutes": 10,
    "certificates": [
        {"guest": 101, "name": "chat.example.org", "life": 9, "left": 6 * 86400 + 23 * 3600},
        {"guest": 101, "name": "page.example.org", "life": 9, "left": 5000},
        {"guest": 102, "name": "mesh.x", "life": 9, "left": 7200},
        {"guest": 112, "name": "two.x", "life": 0, "left": 0},
        {"guest": 111, "name": "one.x", "life": 9, "left": -5},
    ],
    "rates": [
        {"guest": 101, "service": "chat", "host": "chat.example.org", "asked": 120, "failed": 3},
        {"guest": 111, "service": "chat", "host": "chat.example.org", "asked": 60, "failed": 0},
        {"guest": 111, "service": "chat", "host": "one.x", "asked": 4, "failed": 4},
    ],
    "hops": [
        {"source": "uplink", "target": "101", "name": "chat.example.org", "ok": True, "why": ""},
        {"source": "103", "target": "101", "name": "ACME challenges", "ok": True, "why": ""},
        {"source": "101", "target": "102", "name": "chat.example.org", "ok": True, "why": ""},
        {"source": "102", "target": "111", "name": "chat", "ok": False, "why": "status 502"},
        {"source": "102", "target": "112", "name": "chat", "ok": False, "why": "no certificate"},
        {"source": "111", "target": "program", "name": "chat", "ok": True, "why": ""},
        {"source": "111", "target": "program", "name": "chat", "ok": True, "why": ""},
    ],
}


def test_each_hop() -> None:
    assert hops.table(FOUND) == [
        "  hop               for               up   certificate  errors in 10 min",
        "  uplink → gateway  chat.example.org  yes  6 d 23 h     3 of 120 (2.5 %)",
        "  103 → gateway     ACME challenges   yes  -            -",
        "  gateway → mesh    chat.example.org  yes  2 h          3 of 120 (2.5 %)",
        "  mesh → one        chat              no   over         4 of 64 (6.2 %)   status 502",
        "  mesh → 112        chat              no   none yet     -                 no certificate",
        "  one → program     chat              yes  -            4 of 64 (6.2 %)",
    ]


def test_a_host_that_asks_no_hops_tells_by_guest() -> None:
    lines = hops.table({**FOUND, "hops": []})
    assert [line.split()[:2] for line in lines[1:]] == [
        ["gateway", "chat.example.org"], ["gateway", "page.example.org"], ["mesh", "mesh.x"],
        ["112", "two.x"], ["one", "one.x"], ["gateway", "chat"], ["one", "chat"],
    ]  # fmt: skip
    assert lines[6].split()[2:] == ["-", "83", "min", "3", "of", "120", "(2.5", "%)"]


def test_a_host_of_before_tells_none() -> None:
    assert hops.table({}) == []


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(-1, "over"), (0, "over"), (59, "0 min"), (7199, "119 min"), (7200, "2 h"),
     (86399, "23 h"), (86400, "1 d 0 h"), (90000, "1 d 1 h")],
)  # fmt: skip
def test_time_left(seconds: int, told: str) -> None:
    assert hops.span(seconds) == told
