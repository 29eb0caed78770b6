"""What the host does in a guest beside the flip, so that units come and go with generations."""

from __future__ import annotations

import pytest

from builder.network import Network
from builder.tree import File, Tree
from tests.kinds.slots.world import PUBLIC, SCRIPT, leads, nft
from tests.kinds.traefik.running import network, site
from tests.kinds.units import machine
from tests.kinds.units.machine import Machine

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap")]


def fronted() -> Network:
    return network(site(webui={"backends": ["webui"], "port": PUBLIC, "inside": True}))


def test_a_front_comes_to_a_running_guest_and_goes() -> None:
    """To a guest that has nothing of ours, as one that is adopted; and what is gone is stopped."""
    full = fronted()
    with machine.prepared(Tree.of([File("units/none.service")])) as guest:
        guest.generation(2, machine.tree(full, "webui"), full.member("webui").programs)
        with machine.running(guest):
            assert ours(guest) == set()
            hosts = guest.read("/etc/hosts")
            guest.flip(2)
            guest.must("systemctl", "daemon-reload")
            guest.must("systemctl", "start", "sysinit.target", "multi-user.target")
            guest.until(lambda: guest.active("phoenix-nginx@a.service") == "active")
            assert leads(guest) == "a"
            assert "webui.phoenix.internal" in guest.read("/etc/hosts")
            for unit in ("phoenix-acme.timer", "phoenix-acme.path", "phoenix-nginx-logs.timer"):
                assert guest.active(unit) == "active"
            # Back: by the tools of the generation that knows them, while it is there.
            guest.must(SCRIPT, "off")
            guest.must("systemctl", "stop", *sorted(ours(guest)))
            guest.must("/opt/phoenix/current/bin/phoenix-names", "remove")
            guest.flip(1)
            guest.must("systemctl", "daemon-reload")
            assert ours(guest) == set()
            assert guest.read("/etc/hosts") == hosts
            guest.flip(2)
            assert "phoenix_slots" not in nft(guest, "list", "tables")


def ours(guest: Machine) -> set[str]:
    """Our units that systemd holds."""
    listed = guest.must("systemctl", "list-units", "--no-legend", "--plain", "phoenix-*")
    return {line.split()[0] for line in listed.splitlines()}
