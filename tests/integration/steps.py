"""What is done with a host, in the order of its life; each step leaves it well, and confirmed."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable

from tests.integration import operators
from tests.integration.handle import CHAT, FOREIGN, Handle
from tests.integration.machine import until
from tests.integration.walk import Walk, daemons, files, running


def found(walk: Walk) -> None:
    """The host as it is found: a program of the operator's own in guest 111."""
    host = walk.host
    gateway = str(host.lab.router) if host.bridged else "10.9.0.1"
    address = f"{host.lab.at(77)}/24" if host.bridged else "10.9.0.77/24"
    operators.make(host, CHAT, address, gateway)
    walk.found()


def refused(walk: Walk) -> None:
    """Somebody else's guest is not taken without a word."""
    host = walk.host
    host.edit(host.host, ", adopt: true", "")
    done = host.invoke("deploy")
    assert (done.code, done.found["result"]) == (2, "refused"), done
    assert "guest 111 is there and is none of ours" in done.found["why"], done
    assert (files(host), running(host)) == (walk.files[0], walk.running[0])
    host.edit(host.host, f".{CHAT}", f".{CHAT}, adopt: true")


def first(walk: Walk) -> None:
    """The first deploy: foreign guests lose no packet and no connection."""
    host = walk.host
    with host.untouched():
        walk.deployed()
    # By an operator's own hand, and still there.
    before, after = (
        each["/etc/network/interfaces.d/local"] for each in (walk.files[0], files(host))
    )
    assert before == after
    text = host.run("cat", "/etc/network/interfaces")
    assert "# lab bench, do not touch -- K." in text
    assert "# by hand, see the wiki" in host.run("cat", f"/var/lib/lxc/{CHAT}/config")
    assert host.invoke("deploy").found["result"] == "unchanged"


def one_line(walk: Walk) -> None:
    """A line that the gateway alone reads: no request fails, only its daemon changes its slot."""
    host, before = walk.host, walk.daemons()
    host.edit(host.site, "rate: 1000/s", "rate: 2000/s")
    with host.untouched(), host.requests() as asked, host.connection() as kept:

        def drains() -> None:
            # The old slot goes on for whom it has, and asks them to go.
            assert len([each for each in daemons(host, 101) if "nginx@" in each]) == 2
            assert kept().endswith("close")

        assert kept() == "200 keep-alive"
        walk.deployed(drains)
        until(lambda: len(daemons(host, 101)) == 1, "the old slot is stopped")
    assert asked["failed"] == 0, asked
    assert int(asked["asked"]) > 10, asked
    after = walk.daemons()
    assert list(before.pop(101)) == ["phoenix-nginx@a.service"]
    assert list(after.pop(101)) == ["phoenix-nginx@b.service"]
    assert before == after


def cut_while_changing(walk: Walk) -> None:
    """The power goes while files change: at its next start the host is as before."""
    host = walk.host
    host.edit(host.site, "rate: 1000/s", "rate: 3000/s")
    process = host.start("deploy")
    host.reaches("changing")
    host.cut_power()
    walk.assert_is(walk.generation)
    done = host.ended(process)
    assert (done.code, done.found["result"]) == (4, "undone"), done
    host.edit(host.site, "rate: 3000/s", "rate: 1000/s")


def add(walk: Walk) -> None:
    """One guest more; the power goes while it is being made, and nothing of it is left."""
    host = walk.host
    _more(host)
    process = host.start("deploy")
    host.reaches("preparing")
    host.cut_power()
    host.killed(process)
    walk.assert_is(walk.generation)
    assert not (host.up.state.volume("lxc") / "112").exists()
    with host.untouched():
        walk.deployed()
    assert host.runs(112)


def move(walk: Walk) -> None:
    """The host gets another address, over the very one that it loses. Unconfirmed when the power
    goes, it has its old one back; and else it stays where it was confirmed."""
    host, old = walk.host, walk.host.address
    new = host.move(20)
    if host.bridged:
        done = host.invoke("deploy")
        assert done.code == 2, done
        assert "--affects 901,902,903" in done.found["why"], done
        walk.assert_is(walk.generation)
    process = host.start("deploy", affects=FOREIGN)
    host.reaches("changing")
    os.killpg(process.pid, signal.SIGSTOP)
    host.reaches("confirming")
    assert host.found_at() == new
    host.cut_power()
    host.killed(process)
    assert host.found_at() == old
    walk.assert_is(walk.generation)
    # In the LAN, the way to the guests behind a routed host is by its address.
    with host.untouched(inside=not host.bridged):
        walk.deployed()
    assert host.found_at() == new


def cut_after(walk: Walk) -> None:
    """The power goes after a deploy was confirmed: it stays."""
    before = {number: sorted(found) for number, found in walk.daemons().items()}
    walk.host.cut_power()
    walk.assert_is(walk.generation)
    assert {number: sorted(found) for number, found in walk.daemons().items()} == before


def drop(walk: Walk) -> None:
    """A guest that is declared no more is stopped and kept."""
    host = walk.host
    lines = host.host.read_text().splitlines(keepends=True)
    (line,) = (each for each in lines if "  more: " in each)
    host.edit(host.host, line, "")
    with host.untouched():
        walk.deployed()
    assert not host.runs(112)
    assert (host.up.state.volume("lxc") / "112/rootfs/etc").is_dir()
    assert "lxc.start.auto" not in host.run("cat", "/var/lib/lxc/112/config")


def drift(walk: Walk) -> None:
    """What somebody changes by hand is named by status, and mended by repair."""
    host = walk.host
    slot = host.guest(101, "/opt/phoenix/current/bin/phoenix-slots", "live").strip()
    other = _other_node(host, 103)
    host.sh(
        "echo 'net.ipv4.ip_forward = 0' >>/etc/sysctl.d/90-phoenix.conf;"
        "sed -i 's/^lxc.start.order = .*/lxc.start.order = 99/' /var/lib/lxc/102/config;"
        f"ln -sfn {other} /var/lib/phoenix/guests/103/current;"
        "rm /etc/systemd/system/multi-user.target.wants/phoenix-firewall.service;"
        "systemctl stop phoenix-firewall.service;"
        f"lxc-stop --name {CHAT} --kill"
    )
    host.guest(101, "systemctl", "stop", f"phoenix-nginx@{slot}.service")
    done = host.invoke("status")
    assert done.found["result"] == "drifted", done
    assert done.found["drift"] == [
        "/etc/sysctl.d/90-phoenix.conf",
        "/etc/systemd/system/multi-user.target.wants/phoenix-firewall.service",
        "/var/lib/lxc/102/config",
        "/var/lib/phoenix/guests/103/current",
    ], done
    assert done.found["faults"] == [
        "phoenix-firewall.service is inactive",
        f"guest 101 (gateway): phoenix-nginx@{slot}.service does not run",
        "guest 111 (chat) does not run",
    ], done
    done = host.invoke("repair")
    assert done.code == 0, done
    walk.assert_is(walk.generation)


def drift_of_addresses(walk: Walk) -> None:
    """An address that somebody took away, also the one that the host is reached by: found and
    mended on the console."""
    host = walk.host
    address = f"{walk.address[walk.generation]}/24" if host.bridged else "10.0.0.1/24"
    host.run("ip", "address", "del", address, "dev", "vmbr0")
    faults = json.loads(host.run("phoenix", "status"))["faults"]
    assert f"vmbr0 lacks {address}" in faults, faults
    host.run("phoenix", "repair")
    walk.assert_is(walk.generation)
    assert host.invoke("repair").found["result"] == "unchanged"


def back(walk: Walk) -> None:
    """Back to each generation that ran, some of them forward, and to the host as it was found."""
    ran = sorted(walk.files)
    for number in (*reversed(ran[1:-1]), ran[-1], 0):
        walk.rolled_back(number)


def removed(walk: Walk) -> None:
    """From generation 0 forward again, and then all is taken away but the guests that we made."""
    host = walk.host
    walk.rolled_back(min(number for number in walk.files if number))
    done = host.invoke("remove")
    assert done.code == 0, done
    walk.generation = 0
    walk.assert_is(0)
    # A town in Arizona has a time zone.
    ours = "find / -xdev -iname '*phoenix*' ! -path '*/zoneinfo/*'"
    left = host.sh(f"{ours}; find /var/lib/phoenix -mindepth 1")
    assert left.split() == [
        "/var/lib/phoenix", "/var/lib/phoenix/templates", "/var/lib/phoenix/templates/debian-12.tar"
    ], left  # fmt: skip


def cut_at_each_event(walk: Walk) -> None:
    """The power goes as each thing is told of a change that touches all kinds of things."""
    host = walk.host
    site, described = host.site.read_text(), host.host.read_text()
    for event in ("create", "changing", "effects", "health", "confirming"):
        host.edit(host.site, "rate: 2000/s", "rate: 3000/s")
        _more(host)
        host.move(20)
        told = len(host.events())
        process = host.start("deploy", affects=FOREIGN)
        host.reaches("preparing")
        if event != "create":
            host.reaches("changing")
        os.killpg(process.pid, signal.SIGSTOP)
        host.tells(event, told)
        host.cut_power()
        host.killed(process)
        walk.assert_is(walk.generation)
        host.site.write_text(site)
        host.host.write_text(described)


def each_to_each(walk: Walk) -> None:
    """From each generation, and the host as it was found, to each other one."""
    for first_one in walk.files:
        for other in walk.files:
            if other != first_one:
                if walk.generation != first_one:
                    walk.rolled_back(first_one)
                walk.rolled_back(other)


def _other_node(host: Handle, number: int) -> str:
    """The name of a guest's folder of another generation than the one that runs."""
    home = host.up.state.volume("phoenix") / f"guests/{number}"
    folders = {each.name for each in home.iterdir() if each.is_dir() and not each.is_symlink()}
    return min(folders - {os.readlink(home / "current")})


def _more(host: Handle) -> None:
    """Declare one guest more, as the program's."""
    line = next(each for each in host.host.read_text().splitlines() if "  chat: " in each)
    more = line.replace("chat", "more").replace("111", "112").replace(", adopt: true", "")
    host.edit(host.host, line, f"{line}\n{more}")


STEPS: list[Callable[[Walk], None]] = [
    found, refused, first, cut_while_changing, one_line, add, move, cut_after, drop, drift,
    drift_of_addresses, back, removed,
]  # fmt: skip


def upto(name: str) -> list[Callable[[Walk], None]]:
    """The steps that come before one."""
    return STEPS[: [step.__name__ for step in STEPS].index(name)]
