"""liblxc as the judge of a container's `config`: loaded by it, and asked for each key.

liblxc (tried: 5.0.2) refuses unknown lxc.* keys, but passes over lines without `=` and keys that
do not begin with `lxc.`, and takes any text as a hardware address, an MTU or a mount entry, to
fail at the start only. So what it holds is compared with what was written, and these are looked at.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.judges.namespace import Entry, Space
from tests.judges.refusal import Refused

Items = dict[str, list[str]]
"""The values by key, in order; those of included files too."""

_INSIDE = Path(__file__).with_name("lxc_inside.py")
# liblxc keeps these in another form than they are written in, or not at all.
_NOT_KEPT = (
    "lxc.arch",
    "lxc.rootfs.path",
    "lxc.include",
    "lxc.mount.auto",
    "lxc.log.level",
    "lxc.signal.",
)
_MAC = re.compile(r"[0-9A-Fa-fx]{2}(:[0-9A-Fa-fx]{2}){5}")
_AT_START: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("hwaddr", lambda value: bool(_MAC.fullmatch(value))),
    ("mtu", str.isdigit),
    ("flags", lambda value: value == "up"),
)
_MOUNT_FIELDS = range(4, 7)


def load(config: str) -> Items:
    """What liblxc holds for the keys that `config` sets. Raises Refused."""
    return load_all({"config": config})["config"]


def load_all(configs: Mapping[str, str]) -> dict[str, Items]:
    """`load` for several at once, by name, which costs hardly more than one."""
    written = {name: _written(name, config) for name, config in configs.items()}
    numbered = list(enumerate(configs.values()))
    with Space() as space:
        space.write([Entry(f"/tmp/lxc/{number}", text.encode()) for number, text in numbered])
        paths = [f"/tmp/lxc/{number}" for number, _ in numbered]
        asked = json.dumps([sorted(keys) for keys in written.values()])
        command = ["python3", "-I", "-c", _INSIDE.read_text(), "/tmp/lxc/log", *paths]
        answers = json.loads(space.must(command, given=asked))
    found = dict[str, Items]()
    for name, (values, log) in zip(written, answers, strict=True):
        if values is None or log.strip():
            raise Refused("liblxc", f"{name}: {log}")
        _compare(name, written[name], values)
        found[name] = values
    return found


def _written(name: str, config: str) -> Items:
    """The keys and values as written; Refused for what liblxc would pass over silently."""
    found = Items()
    for number, line in enumerate(config.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, mark, value = (part.strip() for part in line.partition("="))
        if not mark or not key.startswith("lxc."):
            raise Refused("liblxc", f"{name}:{number}: would be passed over: {line}")
        if not _startable(key, value):
            raise Refused("liblxc", f"{name}:{number}: would fail at the start: {line}")
        found.setdefault(key, []).append(value)
    return found


def _startable(key: str, value: str) -> bool:
    if key == "lxc.mount.entry":
        return len(value.split()) in _MOUNT_FIELDS
    if key.startswith("lxc.net."):
        return all(good(value) for last, good in _AT_START if key.endswith(f".{last}"))
    return True


def _compare(name: str, written: Items, held: Items) -> None:
    for key, values in written.items():
        if key.startswith(_NOT_KEPT):
            continue
        words = [word for value in held[key] for word in value.split()]
        lost = [value for value in values if not set(value.split()) <= set(words)]
        if lost:
            raise Refused("liblxc", f"{name}: {key} = {lost} is written, {held[key]} is held")
