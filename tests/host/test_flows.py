"""Rules take away what slots from before still need only when these have changed: by the kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from builder.host import flows
from builder.host.decide import Effects, GuestEffect
from tests.kinds.firewall.world import Data, data, files, network, plain, with_ipv6

pytestmark = pytest.mark.needs("root", "unshare", "nft")
RULES = "/etc/phoenix/firewall.nft"
UNIT = "phoenix-firewall.service"
SWITCH = GuestEffect(102, "switch", daemons=("traefik",))
_SCRIPT = """
import json, subprocess, sys
from builder.host import flows
from builder.host.decide import Effects, GuestEffect

before, after, later, daemons = sys.argv[1:]
switch = GuestEffect(102, "switch", daemons=tuple(daemons.split()))
effects = Effects(reloaded=("phoenix-firewall.service",), guests=(switch,))
load = lambda path: subprocess.run(["nft", "-f", path], check=True)
found = {"none": sorted(flows._loaded())}
load(before)
found["before"] = sorted(flows._loaded())
held = flows.before(effects)
load(after)
found["after"] = sorted(flows._loaded())
with flows.kept(held):
    found["meanwhile"] = sorted(flows._loaded())
    if later:
        load(later)
found["then"] = sorted(flows._loaded())
print(json.dumps(found))
"""


def rules(path: Path, *dropped: str) -> Path:
    """The rules of the reference without some services."""
    site: Data = data("site.yaml")
    services = {name: each for name, each in site["services"].items() if name not in dropped}
    made = files(network(with_ipv6(plain()), {**site, "services": services}))
    path.write_bytes(made[RULES].data)
    return path


def seen(before: Path, after: Path, later: str = "", daemons: str = "traefik") -> dict[str, Any]:
    """The flows in the kernel at each step."""
    words = [sys.executable, "-c", _SCRIPT, before, after, later, daemons]
    done = subprocess.run(["unshare", "--net", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {
        step: {tuple(flow) for flow in found} for step, found in json.loads(done.stdout).items()
    }


def test_what_goes_stays_until_slots_have_changed(tmp_path: Path) -> None:
    every, fewer = rules(tmp_path / "every"), rules(tmp_path / "fewer", "chat")
    found = seen(every, fewer)
    assert found["none"] == set()
    assert {name for name, _ in found["before"] - found["after"]} == {"flows4", "flows6"}
    assert found["meanwhile"] == found["before"] | found["after"]
    assert found["then"] == found["after"]
    # Nothing goes where something comes.
    found = seen(fewer, every)
    assert found["meanwhile"] == found["then"] == found["after"]


def test_where_no_slot_changes_it_goes_at_once(tmp_path: Path) -> None:
    every, fewer = rules(tmp_path / "every"), rules(tmp_path / "fewer", "chat")
    found = seen(every, fewer, daemons="")
    assert found["before"] > found["meanwhile"] == found["after"]
    assert flows.before(Effects(guests=(SWITCH,))) == frozenset()


def test_rules_that_are_loaded_meanwhile_are_left_alone(tmp_path: Path) -> None:
    """As they are where a change is taken back."""
    every, fewer = rules(tmp_path / "every"), rules(tmp_path / "fewer", "chat")
    assert seen(every, fewer, later=str(fewer))["then"] == seen(every, fewer)["after"]
