"""ifupdown2 (Debian's 3.0) as the judge of an interfaces file: checked, and read back.

`ifup -s` alone lets unknown words pass, so the judges' root has its syntax check of attributes
switched on, anything said counts as refused, and what was written is compared with `ifquery`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.judges.namespace import Entry, Result, Space
from tests.judges.refusal import Refused

_FILE = "/etc/network/interfaces"
# Said of what is right: PVE itself writes `bridge-ports none`, and the MTU of a bridge is set (and
# where none is given, reset to 1500) by the real `ifup` (address.py, _process_mtu_config_*).
_WRONGLY_SAID = re.compile(
    r"warning: \S+: (?:bridge-ports: invalid value \"none\": valid attribute values: .*"
    r"|bridge inherits mtu from its ports\. There is no need to assign mtu on a bridge)"
)
# Now and then its netlink socket fails at once, on a loaded machine, whatever it was asked.
_LOST = "recv() error: [Errno 22]"
_TRIES = 4
_TOPS = ("auto", "allow-", "source", "source-directory", "mapping", "no-auto-down", "no-scripts")
Stanza = dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Interface:
    """One `iface` stanza as ifupdown2 holds it; `attributes` has every value by its name."""

    name: str
    family: str
    method: str
    auto: bool
    attributes: Stanza


def check(interfaces: str) -> tuple[Interface, ...]:
    """What ifupdown2 reads in the file. Raises Refused, also for a mere warning."""
    with Space() as space:
        space.write([Entry(_FILE, interfaces.encode())])
        _check_syntax(space)
        # Without -a it needs names; with it, only what is marked auto would be shown.
        names = sorted({name for name, _, _, _ in _written(interfaces)})
        queried = _quiet(space, ["ifquery", "-i", _FILE, "--format", "json", *names])
    found = tuple(_interface(each) for each in json.loads(queried))
    _compare(interfaces, found)
    return found


def apply(space: Space, command: str = "ifup") -> None:
    """Put the interfaces file of a space into effect. Raises Refused."""
    result = _ran(space, [command, "-a"])
    if result.code != 0:
        raise Refused("ifupdown2", f"{command}: {result.err}{result.out}")


def _ran(space: Space, argv: list[str]) -> Result:
    """Run it again where it lost the kernel's answer, which says nothing of the file."""
    for _ in range(_TRIES):
        result = space.run(argv)
        if _LOST not in result.err:
            break
    return result


def _check_syntax(space: Space) -> None:
    result = _ran(space, ["ifup", "-a", "-s", "-i", _FILE])
    said = [line for line in result.err.splitlines() if line.strip()]
    if any(not _WRONGLY_SAID.fullmatch(line) for line in said) or (result.code != 0 and not said):
        raise Refused("ifupdown2", f"ifup -s: {result.err}{result.out}")


def _quiet(space: Space, argv: list[str]) -> str:
    result = _ran(space, argv)
    if result.code != 0 or result.err:
        raise Refused("ifupdown2", f"{argv[0]}: {result.err}{result.out}")
    return result.out


def _interface(each: dict[str, Any]) -> Interface:
    config = {
        name: value if isinstance(value, list) else [value]
        for name, value in each["config"].items()
    }
    family = each.get("addr_family", "")
    return Interface(each["name"], family, each.get("addr_method", ""), each["auto"], config)


def _written(interfaces: str) -> list[tuple[str, str, str, Stanza]]:
    """Each iface stanza as written: name, family, method, attributes."""
    stanzas = list[tuple[str, str, str, Stanza]]()
    inside: Stanza | None = None
    for number, line in enumerate(interfaces.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] == "iface":
            name, family, method = (*words[1:], "", "")[:3]
            inside = {}
            stanzas.append((name, family, method, inside))
        elif words[0].startswith(_TOPS):
            inside = None
        elif inside is None or len(words) < 2:
            raise Refused("ifupdown2", f"line {number} would be passed over: {line}")
        else:
            inside.setdefault(words[0], []).append(" ".join(words[1:]))
    return stanzas


def _compare(interfaces: str, found: tuple[Interface, ...]) -> None:
    held = [(each.name, each.family, each.method, each.attributes) for each in found]
    for stanza in _written(interfaces):
        if stanza not in held:
            near = [each for each in held if each[0] == stanza[0]]
            raise Refused("ifupdown2", f"written is {stanza}, held is {near}")
    autos = {
        word
        for line in interfaces.splitlines()
        if line.split()[:1] == ["auto"]
        for word in line.split()[1:]
    }
    lost = autos - {each.name for each in found if each.auto}
    if lost:
        raise Refused("ifupdown2", f"marked auto, but not held so: {sorted(lost)}")
