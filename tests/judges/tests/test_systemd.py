"""systemd's judge takes good units, measures them, and says no to misspelt ones."""

from __future__ import annotations

import pytest

from builder.tree import Entry, File, Link, Tree
from tests.judges import systemd
from tests.judges.guest import Guest
from tests.judges.refusal import Refused
from tests.judges.tests import refuses

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

GOOD = """
[Unit]
Description=The front, in slot %i
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
User=6101
Group=6101
ExecStart=/opt/phoenix/current/programs/nginx/usr/sbin/nginx -g 'daemon off;'
Restart=on-failure
NoNewPrivileges=yes
"""
TIMER = "[Timer]\nOnCalendar=hourly\nUnit=phoenix-renew.service\n"
RENEW = "[Service]\nType=oneshot\nExecStart=/opt/phoenix/current/bin/renew\n"
HARDENED = """
ProtectSystem=strict
PrivateDevices=yes
PrivateTmp=yes
ProtectHome=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
CapabilityBoundingSet=
SystemCallFilter=@system-service
RestrictAddressFamilies=AF_INET AF_INET6
RestrictNamespaces=yes
"""


def _guest(front: str = GOOD, timer: str = TIMER) -> Guest:
    files: list[Entry] = [
        File("units/phoenix-front@.service", front.encode()),
        File("units/phoenix-renew.timer", timer.encode()),
        File("units/phoenix-renew.service", RENEW.encode()),
        File("units/phoenix-renew.service.d/more.conf", b"[Service]\nNice=5\n"),
        Link("units/multi-user.target.wants/phoenix-front@a.service", "../phoenix-front@.service"),
        File("bin/renew", b"#!/bin/sh\n", 0o755),
    ]
    return Guest(Tree.of(files), programs=["nginx"])


def test_good() -> None:
    names = systemd.verify(_guest())
    assert names == ("phoenix-front@.service", "phoenix-renew.service", "phoenix-renew.timer")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("NoNewPrivileges=yes", "NoNewPrivilege=yes", "Unknown key"),
        ("NoNewPrivileges=yes", "NoNewPrivileges=maybe", "Failed to parse"),
        ("Restart=on-failure", "Restart=sometimes", "Failed to parse"),
        ("sbin/nginx", "sbin/ngnix", "not executable"),
        ("[Service]", "[Srvice]", "Unknown section"),
        ("After=network-online.target", "After=network-onlin.target", "nothing defines"),
        ("Wants=network-online.target", "Requires=gone.service", "gone.service"),
    ],
)
def test_bad(before: str, after: str, said: str) -> None:
    refuses(lambda text: systemd.verify(_guest(text)), GOOD, before, after, said)


def test_bad_timer() -> None:
    verdict = "Failed to parse calendar"
    refuses(lambda text: systemd.verify(_guest(timer=text)), TIMER, "hourly", "hurly", verdict)


@pytest.mark.parametrize(
    "entry",
    [
        Link("units/multi-user.target.wants/gone.service", "../gone.service"),
        File("units/phoenix-renew.service.d/after.conf", b"[Unit]\nAfter=gone.service\n"),
    ],
    ids=["wants", "drop-in"],
)
def test_a_unit_that_nothing_defines(entry: Entry) -> None:
    files = Guest(_guest().tree + Tree.of([entry]), programs=["nginx"])
    with pytest.raises(Refused, match=r"nothing defines.*gone"):
        systemd.verify(files)
    assert systemd.verify(files, foreign=["gone.service"])


def test_security() -> None:
    plain = systemd.security(_guest())
    hard = systemd.security(_guest(GOOD + HARDENED))
    assert set(plain) == {"phoenix-front@a.service", "phoenix-renew.service"}
    assert plain["phoenix-front@a.service"] > 7 > hard["phoenix-front@a.service"]


def test_security_sees_drop_ins() -> None:
    files = _guest()
    hard = File("units/phoenix-renew.service.d/hard.conf", f"[Service]\n{HARDENED}".encode())
    level = systemd.security(Guest(files.tree + Tree.of([hard]), programs=["nginx"]))
    assert level["phoenix-renew.service"] < 7
