"""What is done with a Proxmox node, in the order of its life; each step leaves it well."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.integration.machine import until
from tests.integration.pve import theirs
from tests.integration.pve.node import ADOPTED, JOURNAL, OURS, THEIRS, VM, VOLUME, Host

_FOREIGN = tuple(
    f"/etc/pve/nodes/pve1/{name}.conf" for name in (f"lxc/{THEIRS}", f"qemu-server/{VM}")
)
_MADE = tuple(number for number in OURS if number != ADOPTED)
_MEMORY = "  memory: {}GiB\n"
"""What guests have that do not say it themselves: 101, 102 and the adopted one."""
HOT = (101, 102, ADOPTED)
_ADDRESS = "    address: 10.0.0.1/24 "
_ROUTE = "\n    routes: [{to: 10.77.0.0/24, via: 10.0.0.114}]"


_BOOT_UNITS = (
    "/etc/phoenix",
    *(
        f"/etc/systemd/system/{folder}phoenix-{name}.service"
        for name, folders in (
            ("early", "sysinit.target.wants/"),
            ("late", "multi-user.target.wants/"),
        )
        for folder in ("", folders)
    ),
)
"""What a host keeps of us in generation 0: recovery at boot, and an empty folder."""


@dataclass
class Life:
    """The node, and what all of its files were in each generation."""

    node: Host
    files: dict[int, dict[str, str]] = field(default_factory=dict)
    started: dict[int, int] = field(default_factory=dict)
    """The foreign guests' first processes: none is ever started anew but by a power cut."""

    def note(self, generation: int) -> None:
        """Note what the node's files are now."""
        self.files[generation] = self.node.files()

    def assert_is(self, generation: int) -> None:
        """All is as it was in this generation: each file, what runs, and what is answered."""
        self.assert_same(self.files[generation])
        assert self.node.journal() is None
        self.node.assert_as_declared(generation)
        self.node.answers()

    def assert_same(self, then: dict[str, str]) -> None:
        """Each file is as it was."""
        now = self.node.files()
        differ = [path for path in sorted({*then, *now}) if then.get(path) != now.get(path)]
        # Recovery at boot stays, also after what it took back.
        differ = [path for path in differ if path in then or not path.startswith(_BOOT_UNITS)]
        # Without quorum, `pct` itself can't take its temporary file away again.
        differ = [path for path in differ if not re.search(r"\.conf\.tmp\.\d+$", path)]
        assert differ == [], [(path, then.get(path), now.get(path)) for path in differ]

    def assert_theirs(self) -> None:
        """The foreign guests' configurations are what they were before us, and they run on."""
        now = self.node.files()
        for path in _FOREIGN:
            assert now[path] == self.files[0][path]
        assert self.node.runs()[THEIRS] == self.started[THEIRS]


def found(life: Life) -> None:
    """The node as it is found."""
    node = life.node
    theirs.guests(node)
    node.edit(node.host, "10.0.0.114}", "10.0.0.114, adopt: true, restart: allow}")
    life.started = node.runs()
    assert set(life.started) == {THEIRS, ADOPTED}
    life.note(0)


def refused_without_quorum(life: Life) -> None:
    """Without quorum nothing is begun."""
    node = life.node
    node.switch(quorum=False)
    done = node.invoke("deploy")
    node.switch(quorum=True)
    assert (done.code, done.found["result"]) == (2, "refused"), done
    assert "no quorum" in done.found["why"], done
    life.assert_same(life.files[0])
    assert node.runs() == life.started


def first(life: Life) -> None:
    """The first deploy: all guests are made, but the one that is adopted."""
    node = life.node
    with node.untouched():
        assert node.deploy() == 1
    made = [int(words[0]) for words in node.calls("create")]
    assert sorted(made) == sorted([THEIRS, ADOPTED, *_MADE])
    assert all(words[1] == VOLUME for words in node.calls("create"))
    life.assert_theirs()
    life.note(1)
    node.assert_as_declared(1)
    node.answers()
    _adopted(life)
    for number in OURS:
        assert node.guest(number, "readlink", "-f", "/opt/phoenix/current").startswith("/opt/")
    before, after = (each["/etc/network/interfaces"] for each in (life.files[0], life.files[1]))
    assert "# lab bench, do not touch -- K." in before
    assert before[before.index("# lab bench") :].strip() in after
    assert node.invoke("deploy").found["result"] == "unchanged"


def _adopted(life: Life) -> None:
    """What was the guest's own is still there, what is declared as well, and it runs with it."""
    path = f"/etc/pve/nodes/pve1/lxc/{ADOPTED}.conf"
    before, after = (each[path] for each in (life.files[0], life.files[1]))
    assert after.partition("[before]")[2] == before.partition("[before]")[2] != ""
    for line in before.partition("[before]")[0].splitlines():
        if line.startswith(("#", "mp0:", "parent:", "rootfs:", "tags:")):
            assert line in after.splitlines(), line
    assert "hostname: webui" in after.splitlines()
    assert life.node.guest(ADOPTED, "hostname").strip() == "webui"
    assert "10.0.0.114/24" in life.node.guest(ADOPTED, "ip", "-4", "address", "show", "eth0")


def one_line(life: Life) -> None:
    """A line that the gateway alone reads: its daemon changes its slot, no request fails, and no
    guest is started anew."""
    node = life.node
    ran, slot = node.runs(), _slot(node)
    node.edit(node.site, "rate: 50/s", "rate: 500/s")
    with node.untouched(), node.requests() as asked:
        assert node.deploy() == 2
    assert asked["failed"] == 0, asked
    assert int(asked["asked"]) > 3, asked
    assert {slot, _slot(node)} == {"a", "b"}
    assert node.runs() == ran
    life.note(2)
    life.assert_is(2)
    assert life.files[1] == life.files[2], "nothing of it is in the host's own files"


def _settled(node: Host) -> None:
    """Await that no old slot drains any more."""
    until(lambda: node.shown("phoenix-settle", "ActiveState") == "inactive", "old slots are ended")
    assert node.guest(101, "ls", "/run/phoenix-slots").split() == [_slot(node)]


def _slot(node: Host) -> str:
    return node.guest(101, "/opt/phoenix/current/bin/phoenix-slots", "live").strip()


def quorum_lost(life: Life) -> None:
    """The cluster's quorum goes in the middle of a change: nothing of it stays."""
    node = life.node
    ran = node.runs()
    memory(node, 1, 2)
    node.edit(node.host, _ADDRESS, _ADDRESS + _ROUTE)
    assert lost_in_the_middle(node, 7)
    # It was there when the host last looked, and the write itself was refused.
    why = node.told("failed")[-1]["why"]
    assert re.match(r"/etc/pve/lxc/\d+\.conf: the cluster has no quorum", why), why
    life.assert_is(2)
    assert node.runs() == ran


def lost_in_the_middle(node: Host, after: int) -> bool:
    """Deploy while quorum goes after so many changes to /etc/pve; it comes back once the host has
    noticed. Everything is taken back; False where there were fewer changes, and all is done."""
    failed = len(node.told("failed"))
    node.switch(lose=after)
    deploying = node.start("deploy")
    until(lambda: len(node.told("failed")) > failed or deploying.poll() is not None, "it fails")
    if len(node.told("failed")) == failed:
        node.switch(quorum=True)
        assert node.ended(deploying).code == 0
        return False
    assert node.journal() is not None, "it awaits the cluster, and has taken nothing for done"
    node.switch(quorum=True)
    done = node.ended(deploying)
    assert (done.code, done.found["result"]) == (4, "undone"), done
    print(f"quorum went after {after} changes: {done.found['why']}")
    return True


def memory(node: Host, old: int, new: int) -> None:
    node.edit(node.host, _MEMORY.format(old), _MEMORY.format(new))


def hot(life: Life) -> None:
    """What `pct set` gives needs no restart, and guests keep their bridge while it is reloaded."""
    node = life.node
    ran, before = node.runs(), len(node.calls("set"))
    with node.untouched():
        assert node.deploy() == 3
    assert "via 10.0.0.114 dev vmbr0" in node.run("ip", "route", "show", "10.77.0.0/24")
    called = node.calls("set")[before:]
    assert sorted(called) == [[str(number), "--memory", "2048"] for number in HOT]
    assert node.runs() == ran
    life.note(3)
    life.assert_is(3)
    life.assert_theirs()


def rollback(life: Life) -> None:
    """To the generation before, and to the first one."""
    node = life.node
    ran = node.runs()
    for to in (2, 1):
        with node.untouched():
            done = node.invoke("rollback", to=to)
        assert (done.code, done.found["generation"]) == (0, to), done
        assert not node.run("ip", "route", "show", "10.77.0.0/24")
        life.assert_is(to)
    assert node.runs() == ran
    life.assert_theirs()
    _settled(node)


def power_cut(life: Life) -> None:
    """The power goes in the middle of a change, and the node comes up without quorum: no guest
    starts, until the cluster is there and all is as it was."""
    node = life.node
    memory(node, 2, 3)
    node.put("/run/pct/set.sh", "touch /run/pct/reached; exec sleep 600")
    deploying = node.start("deploy")
    until(lambda: node.there("/run/pct/reached"), "a guest's memory is to be set")
    os.killpg(deploying.pid, signal.SIGKILL)
    node.ended(deploying)
    assert life.files[1] != node.files()
    node.run("touch", "/var/lib/pve-cluster/config.db.alone")
    node.cut_power()
    until(lambda: _awaits(node, "phoenix-late"), "the boot's recovery awaits the cluster")
    assert node.journal() is not None
    assert node.runs() == {}
    assert "transaction" in node.run("phoenix", "status")
    node.run("rm", "/var/lib/pve-cluster/config.db.alone")
    node.switch(quorum=True)
    until(lambda: node.shown("pve-guests", "ActiveState") == "active", "guests are started", 180)
    assert _ended(node, "phoenix-late") <= _began(node, "pve-guests")
    assert set(node.runs()) == {THEIRS, *OURS}
    assert not node.there(JOURNAL)
    life.started = node.runs()
    life.assert_is(1)
    life.assert_theirs()


def _awaits(node: Host, unit: str) -> bool:
    return node.shown(unit, "ActiveState") == "activating"


def _ended(node: Host, unit: str) -> int:
    """When a unit's program ended, in microseconds since the machine's start."""
    return int(node.shown(unit, "ExecMainExitTimestampMonotonic"))


def _began(node: Host, unit: str) -> int:
    return int(node.shown(unit, "ExecMainStartTimestampMonotonic"))


def to_zero(life: Life) -> None:
    """The node as it was found: byte for byte, but for the guests that were made, which stay."""
    node = life.node
    with node.untouched():
        done = node.invoke("rollback", to=0)
    assert (done.code, done.found["generation"]) == (0, 0), done
    _as_found(life, _BOOT_UNITS)


def remove(life: Life) -> None:
    """Nothing of ours stays behind but those guests, which still hold what they held."""
    node = life.node
    with node.untouched():
        assert node.invoke("remove").code == 0
    _as_found(life, ())
    left = node.sh("find / -xdev -name '*phoenix*' -not -path '/var/lib/lxc/*'").split()
    assert left == ["/var/lib/phoenix"], left
    assert node.sh("ls -A /var/lib/phoenix") == "", "it is this lab's own mount, and empty"
    units = node.sh("systemctl list-units --all --plain --no-legend 'phoenix*'")
    assert units == ""
    assert "phoenix" not in node.sh("nft list tables")
    for number in _MADE:
        assert node.there(f"/var/lib/lxc/{number}/rootfs/etc/os-release")


def _as_found(life: Life, beside: tuple[str, ...]) -> None:
    """All files are as they were before us, but those of guests that were made, and what begins as
    `beside` says."""
    node = life.node
    then, now = life.files[0], node.files()
    lost = [path for path in then if now.get(path) != then[path]]
    assert lost == [], [(path, then[path], now.get(path)) for path in lost]
    made = {f"/etc/pve/nodes/pve1/lxc/{number}.conf" for number in _MADE}
    more = {path for path in now.keys() - then.keys() if not path.startswith(beside)}
    assert more - made == set()
    assert made <= more
    for number in _MADE:
        lines = node.conf(number)
        assert {"onboot: 0", "tags: phoenix-retired"} <= {*lines}, lines
        assert not [line for line in lines if "phoenix/" in line or line.startswith("net")]
    ran = node.runs()
    assert ran.keys() == {THEIRS, ADOPTED}
    assert ran[THEIRS] == life.started[THEIRS]
    assert node.guest(ADOPTED, "hostname").strip() == "chat-old"
    assert "10.9.0.114/24" in node.guest(ADOPTED, "ip", "-4", "address", "show", "eth0")
    assert "phoenix" not in node.guest(ADOPTED, "cat", "/etc/hosts").lower()


STEPS: tuple[Callable[[Life], None], ...] = (
    found,
    refused_without_quorum,
    first,
    one_line,
    quorum_lost,
    hot,
    rollback,
    power_cut,
    to_zero,
    remove,
)
