"""A Proxmox node's life: the whole proxmox backend, with real guests; the steps are in `pve/steps`.

/etc/pve, pct and its kin are the stand-ins of tests/host/proxmox, in the lab's own host.
"""

from __future__ import annotations

import itertools
import os
import signal

import pytest

from tests.integration.machine import through, until
from tests.integration.pve import steps
from tests.integration.pve.node import ADOPTED, OURS, THEIRS, host
from tests.integration.pve.steps import STEPS, Life

pytestmark = [
    pytest.mark.long(4.5),
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen", "fuse"),
]


def test_the_life_of_a_proxmox_node() -> None:
    with host() as node:
        through(Life(node), STEPS)


@pytest.mark.deep
def test_quorum_lost_at_each_change() -> None:
    """Wherever in a deploy the cluster's quorum goes, the node is as it was."""
    with host() as node:
        life = Life(node)
        steps.found(life)
        assert node.deploy() == 1
        node.answers()
        life.note(1)
        ran = node.runs()
        steps.memory(node, 1, 2)
        for after in itertools.count():
            if not steps.lost_in_the_middle(node, after):
                break
            life.assert_is(1)
            assert node.runs() == ran
        print(f"{after} changes to /etc/pve, quorum lost at each")
        assert after > 2 * 3 * len(steps.HOT), "each file is made and renamed, three times"


@pytest.mark.deep
def test_power_cut_while_guests_are_made() -> None:
    """What a first deploy had made is taken away at boot; the next one makes all anew."""
    with host() as node:
        life = Life(node)
        steps.found(life)
        block = "touch /run/pct/reached; exec sleep 600"
        node.put("/run/pct/create.sh", f"[ $(pct list | wc -l) -lt 6 ] || {{ {block}; }}")
        deploying = node.start("deploy")
        until(lambda: node.there("/run/pct/reached"), "the fourth guest is to be made")
        os.killpg(deploying.pid, signal.SIGKILL)
        node.ended(deploying)
        node.cut_power()
        until(lambda: node.shown("pve-guests", "ActiveState") == "active", "the node has booted")
        assert node.runs().keys() == {THEIRS, ADOPTED}
        until(lambda: not node.there("/etc/pve/lxc/103.conf"), "what was made is taken away")
        until(lambda: not node.there("/var/lib/phoenix/journal"), "the transaction is over")
        life.assert_same(life.files[0])
        number = node.deploy()
        made = [int(words[0]) for words in node.calls("create")]
        assert sorted(made) == [number for number in OURS if number != ADOPTED]
        node.assert_as_declared(number)
        node.answers()
