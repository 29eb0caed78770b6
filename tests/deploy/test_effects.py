"""A plan, told by meaning; and the commands around it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from builder import cli, manifest
from builder.deploy import effects, front, manage
from builder.deploy.effects import outlook, stanzas
from builder.deploy.memory import Memory, Place
from builder.deploy.story import Verdict
from builder.host import transaction
from builder.host.transaction import Limits
from builder.problems import UserError
from tests.deploy.making import HOST, Project, Wire, deployed
from tests.host.making import INTERFACES

BRIDGED = """\
auto eno1
iface eno1 inet manual

auto vmbr0
iface vmbr0 inet static
    address 192.168.1.10/24
    bridge-ports eno1
"""
NONE: dict[str, Any] = {
    "stopped": [],
    "modules": [],
    "sysctls": [],
    "reloaded": [],
    "network": False,
    "guests": [],
}


def plan(**more: Any) -> dict[str, Any]:
    return {"problems": [], "creates": [], "changes": [], "effects": NONE, "foreign": {}, **more}


def change(path: str, old: str, new: str, link: bool = False) -> dict[str, Any]:
    return {"path": path, "old": old, "new": new, "link": link}


@pytest.fixture
def release(made: Project) -> manifest.Release:
    made.release(address="192.168.1.10")
    return manifest.parse((made.newest() / "manifest.json").read_bytes())


def seen(release: manifest.Release, found: dict[str, Any], before: Any = None) -> effects.Outlook:
    before = before or {"host": {"a": 1}}
    return outlook(found, release, (), before, {"host": {"a": 1}}, "192.168.1.10")


def test_a_changed_port_touches_its_bridge_and_the_way_in(release: manifest.Release):
    changed = change("/etc/network/interfaces", BRIDGED, BRIDGED.replace("manual", "static"))
    found = seen(
        release,
        plan(
            changes=[changed],
            effects={**NONE, "network": True},
            foreign={"200": ["vmbr0"], "201": ["vmbr1"], "99": ["vmbr0.5"]},
        ),
    )
    assert found.management == ("192.168.1.10",)
    assert found.affected == {99: ("vmbr0.5",), 200: ("vmbr0",)}
    text = "\n".join(found.lines())
    assert "reload the host's network: eno1, vmbr0 (stops for about a second)" in text
    assert "the way to this host is on what changes: 192.168.1.10" in text
    assert "guest 200, which is not ours, hangs on vmbr0" in text


def test_another_bridge_leaves_them_alone(release: manifest.Release):
    new = BRIDGED + "\nauto vmbr1\niface vmbr1 inet manual\n    bridge-ports none\n"
    changed = change("/etc/network/interfaces", BRIDGED, new)
    found = seen(
        release,
        plan(changes=[changed], effects={**NONE, "network": True}, foreign={"200": ["vmbr0"]}),
    )
    assert not found.affected
    assert not found.management


def test_nothing(release: manifest.Release):
    found = seen(release, plan(changes=[change("/var/lib/phoenix/current", "a", "b", True)]))
    assert found.nothing
    assert list(found.lines()) == ["nothing changes"]


def test_what_each_guest_goes_through(release: manifest.Release):
    guests = [
        {"number": 101, "what": "switch", "daemons": ["nginx"], "units": ["phoenix-acme.timer"]},
        {"number": 102, "what": "switch", "daemons": [], "units": []},
        {"number": 103, "what": "restart", "daemons": [], "units": []},
        {"number": 104, "what": "owe", "daemons": [], "units": [], "keys": ["memory"]},
        {"number": 105, "what": "retire", "daemons": [], "units": []},
    ]
    changed = [change("/etc/x", "", "y")]
    found = seen(release, plan(changes=changed, effects={**NONE, "guests": guests}))
    lines = [effect.render() for effect in found.effects]
    assert lines == [
        "switch guest 101: nginx: to its other slot; no request is lost",
        "restart guest 101: phoenix-acme.timer (stops for about a second)",
        "refresh guest 102: files only",
        "restart guest 103 (stops for its start, 5 to 20 s)",
        f"owe guest 104: {effects._MORE['owe'].format(keys='memory')}",
        "retire guest 105: it is declared no more; it is stopped, and kept",
    ]
    assert found.limit > effects._GUEST
    assert json.loads(json.dumps(found.as_json()))["files"] == ["/etc/x"]


def test_meaning_is_told_from_what_runs(made: Project, wire: Wire, memory: Memory):
    made.release(network={"services": {"chat": {"port": 8000}}})
    first = deployed(made, wire, memory)
    assert first.outlook
    assert first.outlook.meaning == ("+ services: chat",)
    made.release(network={"services": {"chat": {"port": 8001}}}, sysctl="b = 1\n")
    for path in (made.root / "dist/store").glob("*-network.json"):
        if b"8000" in path.read_bytes():
            path.unlink()  # a fresh clone: the host itself knows what it runs
    second = deployed(made, wire, memory, only_plan=True)
    assert second.outlook
    assert second.outlook.meaning == ("~ service chat: port 8000 → 8001",)
    assert second.verdict.code == cli.DONE
    assert wire.stage.paths.generations.joinpath("2").exists() is False, "a plan changes nothing"


def test_stanzas():
    found = stanzas(INTERFACES.decode() + "allow-hotplug x\n  lost y\n# iface z inet\n")
    assert sorted(found) == ["lo", "vmbr0"]
    assert "lost" not in "".join(found.values())
    assert stanzas("iface a inet manual\n  bridge-allow-untagged no\n  mtu 9000\n") == {
        "a": "iface a inet manual\nbridge-allow-untagged no\nmtu 9000"
    }


def managed(wire: Wire, memory: Memory, act: manage.Act) -> tuple[Verdict, dict[str, Any]]:
    at = Place("198.18.0.10", "root")
    return manage.Manager(HOST, at, wire, memory, lambda _: True, "me").do(act)


def test_rollback_and_generations(made: Project, wire: Wire, memory: Memory):
    for text in ("a = 1\n", "b = 1\n"):
        made.release(sysctl=text)
        deployed(made, wire, memory)
    verdict, _ = managed(wire, memory, manage.rollback(None))
    assert (verdict.result, verdict.generation) == ("done", 1)
    verdict, found = managed(wire, memory, manage.generations)
    lines = manage.render(HOST, verdict, found)
    assert [line[:6] for line in lines] == ["     0", "*    1", "     2"]
    with pytest.raises(UserError, match="keeps no generation 7") as told:
        managed(wire, memory, manage.rollback(7))
    verdict, found = managed(wire, memory, manage.pinned({1: True}))
    assert manage.render(HOST, verdict, found)[1].endswith("  pinned")
    _, again = managed(wire, memory, manage.generations)
    assert again == found
    _, found = managed(wire, memory, manage.pinned({1: False}))
    assert not any(each["pinned"] for each in found["generations"])
    assert told.value.hint == "it keeps 0, 1, 2"
    verdict, found = managed(wire, memory, manage.status)
    assert manage.render(HOST, verdict, found)[1:] == ["  all is as declared"]
    wire.stage.paths.at("/etc/sysctl.d/90-phoenix.conf").write_text("by hand\n")
    verdict, found = managed(wire, memory, manage.status)
    assert "  differs: /etc/sysctl.d/90-phoenix.conf" in manage.render(HOST, verdict, found)
    verdict, _ = managed(wire, memory, manage.rollback(0))
    assert verdict.generation == 0


def test_hosts_by_name():
    assert list(front.named(["b", "a", "b"], ["a", "b"], every=False)) == ["b", "a"]
    assert list(front.named([], ["b", "a"], every=True)) == ["a", "b"]
    assert list(front.named([], ["a"], every=False)) == ["a"]
    for hosts, why in (([], "which host"), (["c"], "not declared")):
        with pytest.raises(UserError, match=why):
            list(front.named(hosts, ["a", "b"], every=False))


def test_nobody_to_ask(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.stdin", open("/dev/null"))  # noqa: SIM115
    assert front.Asking(True)("deploy?")
    with pytest.raises(UserError, match="nobody is here to ask") as told:
        front.Asking(False)("deploy?")
    assert told.value.hint == "add --yes"


def test_the_page_for_the_console_takes_a_transaction_back(
    made: Project,
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """The lines of docs/by-hand.md, run as they stand but for the root."""
    page = (Path(__file__).parents[2] / "docs/by-hand.md").read_text()
    blocks = [
        re.sub(r"^    ", "", b, flags=re.MULTILINE)
        for b in re.findall(r"-c '\n(.*?)'", page, re.DOTALL)
    ]
    names, back, base = (
        block.replace("/var/lib/phoenix", str(wire.stage.paths.home)) for block in blocks
    )
    before = wire.stage.files()
    made.release()
    for path in (made.root / "dist/store").iterdir():
        (wire.stage.paths.store / path.name.partition("-")[0]).write_bytes(path.read_bytes())
    number = wire.stage.keep((made.newest() / "manifest.json").read_bytes())
    transaction.activate(wire.stage.host(), number, "me", Limits(confirm=60))
    assert wire.stage.files() != before
    exec(names, {})
    monkeypatch.setattr("sys.argv", ["-c", "/etc/network/interfaces"])
    exec(base, {})
    assert "# by hand" in capsys.readouterr().out
    root = str(wire.stage.root)
    exec(back.replace('path, old = c["path"],', f'path, old = "{root}" + c["path"],'), {})
    after = wire.stage.files()
    ours = ("var/lib/phoenix/",)
    assert {k: v for k, v in after.items() if not k.startswith(ours)} == {
        k: v for k, v in before.items() if not k.startswith(ours)
    }
