"""NNN.conf read as PVE reads it, but strictly: what it would drop or warn of is an error here.

The forms are those of PVE::LXC::Config (parse_pct_config, $confdesc, $netconf_desc) and of
PVE::JSONSchema's property strings, for the keys that we write.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote

_NAME = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_KEYS = {
    "arch": "amd64",
    "cores": "[1-9][0-9]*",
    "hostname": _NAME,
    "memory": "[1-9][0-9]*",
    "nameserver": r"[0-9a-f.:]+( [0-9a-f.:]+)*",
    "onboot": "[01]",
    "ostype": "debian",
    "searchdomain": rf"{_NAME}(\.{_NAME})*",
    "startup": r"order=[0-9]+(,up=[0-9]+)?(,down=[0-9]+)?",
    "swap": "[0-9]+",
    "tags": r"[a-z0-9_][a-z0-9_+.-]*(;[a-z0-9_][a-z0-9_+.-]*)*",
    "unprivileged": "1",
}
_V4, _V6 = r"[0-9]+(\.[0-9]+){3}", r"[0-9a-f:]*:[0-9a-f:]*"
_NET = {
    "name": r"[-_.\w]+",
    "bridge": r"[-_.\w]+",
    "firewall": "1",
    "gw": _V4,
    "gw6": _V6,
    "hwaddr": "[0-9A-F]{2}(:[0-9A-F]{2}){5}",
    "ip": rf"{_V4}/[0-9]+",
    "ip6": rf"{_V6}/[0-9]+",
    "mtu": "[0-9]+",
    "tag": "[0-9]+",
    "type": "veth",
}
_FEATURES = {
    "fuse": "1",
    "keyctl": "1",
    "mknod": "1",
    "mount": "[a-z0-9]+(;[a-z0-9]+)*",
    "nesting": "[01]",
}
_DEVICE = {"": r"/dev/[\w./-]+", "gid": "[0-9]+", "mode": "0[0-7]{3}", "uid": "[0-9]+"}
_ENTRY = r"/\S+ [^/\s]\S* none bind(,ro)?,create=dir 0 0"
_GROUPS = {
    r"net([0-9]|[12][0-9]|3[01])": (_NET, "name"),
    r"dev(0|[1-9][0-9]{0,2})": (_DEVICE, ""),
    "features": (_FEATURES, ""),
}


class SkippedError(Exception):
    """A line that PVE would drop or warn of, or that it would write in another place or form."""


@dataclass(frozen=True, slots=True)
class Conf:
    """The main section of a container's file."""

    description: str
    keys: dict[str, str]
    raw: tuple[tuple[str, str], ...]

    def properties(self, key: str) -> dict[str, str]:
        """A property string by its names; "" for the one without."""
        parts = (part.partition("=") for part in self.keys[key].split(","))
        return {name if mark else "": value if mark else name for name, mark, value in parts}


def read(text: str) -> Conf:
    """The file's meaning; SkippedError where it is not in the form that PVE writes itself."""
    comments: list[str] = []
    keys: dict[str, str] = {}
    raw: list[tuple[str, str]] = []
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("#"):
            comments.append(_comment(line, early=not keys and not raw))
            continue
        key, mark, value = line.partition(": ")
        if not mark or key in keys:
            raise SkippedError(line)
        if key == "lxc.mount.entry" and re.fullmatch(_ENTRY, value):
            raw.append((key, value))
        elif raw or (keys and key < max(keys)) or not _valid(key, value):
            raise SkippedError(line)
        else:
            keys[key] = value
    return Conf("\n".join(comments), keys, tuple(raw))


def _comment(line: str, *, early: bool) -> str:
    if not early or re.search(r"[^\x20-\x7e]|:", line[1:]):
        raise SkippedError(line)
    return unquote(line[1:])


def _valid(key: str, value: str) -> bool:
    if key in _KEYS:
        return re.fullmatch(_KEYS[key], value) is not None
    for pattern, (parts, first) in _GROUPS.items():
        if re.fullmatch(pattern, key):
            return _properties(value, parts, first)
    return False


def _properties(value: str, known: dict[str, str], first: str) -> bool:
    split = [part.partition("=") for part in value.split(",")]
    pairs = [(name if mark else "", rest if mark else name) for name, mark, rest in split]
    names = [name for name, _ in pairs]
    if names != sorted(set(names), key=lambda name: (name != first, name)):
        return False
    return all(name in known and re.fullmatch(known[name], text) for name, text in pairs)
