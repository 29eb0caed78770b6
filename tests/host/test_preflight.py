"""What a host lacks is found before anything is changed."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from builder.host import network
from builder.host.schema import RefusedError
from builder.host.transaction import Limits, activate
from tests.host.making import INTERFACES, Stage, released

BOND = b"""\
auto bond0
iface bond0 inet manual
\tbond-slaves eno1 eno2
"""


def _bridge(ports: str) -> bytes:
    return INTERFACES.replace(b"bridge-ports none", f"bridge-ports {ports}".encode())


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize(
    ("owned", "live", "there", "absent"),
    [
        (INTERFACES, b"", (), []),
        (_bridge("eno1"), b"", ("eno1",), []),
        (_bridge("eno1 eno2"), b"", ("eno1",), ["eno2"]),
        (_bridge("bond0"), BOND, (), []),
        (_bridge("bond0"), b"", (), ["bond0"]),
        (_bridge("eno1.5"), b"", (), []),
        (_bridge("eno1 regex tap.*"), b"", ("eno1",), []),
        (INTERFACES + b"auto eth0\niface eth0 inet dhcp\n", b"", (), ["eth0"]),
    ],
)
def test_interfaces(owned: bytes, live: bytes, there: tuple[str, ...], absent: list[str]):
    assert network.absent(owned, live, there) == absent


def test_an_interface_that_lacks_is_refused(stage: Stage):
    stage.paths.at("/sys/class/net").mkdir(parents=True)
    number, before = stage.keep(released(stage.store, interfaces=_bridge("eno7"))), stage.files()
    with pytest.raises(RefusedError, match="the interface eno7 is declared, and is not there"):
        activate(stage.host(), number, "test", Limits())
    assert stage.files() == before


@pytest.mark.parametrize(
    ("free", "inodes", "said"),
    [(1, 10**6, "1 MiB are free"), (10**6, 7, "7 inodes are free"), (10**6, 10**6, "")],
)
def test_a_full_disk_is_refused(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, free: int, inodes: int, said: str
):
    number = stage.keep(released(stage.store))
    held = SimpleNamespace(f_bavail=free, f_frsize=1 << 20, f_files=10**7, f_favail=inodes)
    monkeypatch.setattr(os, "statvfs", lambda _: held)
    if not said:
        assert activate(stage.host(), number, "test", Limits())
        return
    with pytest.raises(RefusedError, match=said):
        activate(stage.host(), number, "test", Limits())
