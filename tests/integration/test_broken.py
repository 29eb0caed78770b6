"""Each step of a host's life catches what it is there for: it fails where the host program is made
wrong, and the steps before it do not."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tests.integration import steps
from tests.integration.handle import handle
from tests.integration.invoked import BROKEN
from tests.integration.walk import Walk

pytestmark = [
    pytest.mark.long(4),
    pytest.mark.deep,
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen"),
]


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong: in which module which words are others, and the step that has to fail."""

    what: str
    step: str
    changes: tuple[tuple[str, str, str], ...]
    shape: str = "lab"


_RELOAD = 'commands.status("ifreload", "-a", limit=60)'
_SWITCHES = (
    ("decide.py", "if before is not None and before.read != after.read:", "if before is not None:"),
    ("decide.py", "return any(path.startswith(places) for path in differs)", "return True"),
)
_GROWS = "host.platform.exists(ref.id) and"


def _one(what: str, step: str, module: str, old: str, new: str, shape: str = "lab") -> Wrong:
    return Wrong(what, step, ((module, old, new),), shape)


WRONG = (
    _one("takes what is not ours", "refused", "preflight.py", _GROWS, "False and"),
    _one(
        "takes the network down", "first", "network.py", _RELOAD,
        'commands.status("sh", "-c", "ifdown -a; ifup -a", limit=60)', "lab-bridged",
    ),
    _one(
        "does not recover at boot", "cut_while_changing", "guard.py",
        "ExecStart=/usr/local/sbin/phoenix recover", "ExecStart=/bin/true",
    ),
    Wrong("switches what did not change", "one_line", _SWITCHES),
    _one(
        "leaves old slots running", "one_line", "guests.py",
        'platform, drains.guest, _SLOTS, "stop", drains.slot', 'platform, drains.guest, "true"',
    ),
    _one("leaves half-made guests", "add", "platform_lxc.py", "shutil.rmtree(home)", "pass"),
    _one(
        "waits for no confirmation", "move", "transaction.py",
        "if limits.confirm is None:", "if True:", "lab-bridged",
    ),
    _one(
        "lets dropped guests start", "drop", "platform_lxc.py",
        "if not line.startswith(_OURS)", "if line",
    ),
    _one("sees files only", "drift", "health.py", "if wanted is None:", "if True:"),
    _one("mends files only", "drift", "health.py", "every = tuple(found)", "every = ()"),
)  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda each: each.what)
def test_a_wrong_program_is_caught(wrong: Wrong, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BROKEN, json.dumps(wrong.changes))
    with handle(wrong.shape) as host:
        walk = Walk(host)
        for step in steps.upto(wrong.step):
            step(walk)
        with pytest.raises((AssertionError, KeyError)) as caught:
            getattr(steps, wrong.step)(walk)
        print(f"{wrong.what}: {caught.value}")
