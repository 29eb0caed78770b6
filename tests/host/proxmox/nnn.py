"""NNN.conf as PVE reads and writes it (PVE::LXC::Config, parse_pct_config and write_pct_config):
told anew, and not with the host program's own reader, which is what is tested."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

FAST = {"description", "onboot", "startup", "protection", "hostname", "hookscript", "cores", "tags"}
HOT = FAST | {"memory", "swap", "cpulimit", "cpuunits"}
HOT_GONE = FAST | {"swap", "cpulimit", "cpuunits"}
KEYS = HOT | {
    "arch", "cmode", "console", "debug", "features", "lock", "nameserver", "ostype", "parent",
    "rootfs", "searchdomain", "snapstate", "snaptime", "template", "timezone", "tty",
    "unprivileged",
}  # fmt: skip
NUMBERED = re.compile(r"(net|mp|dev|unused)(\d+)")
_LIMITS = {"net": 32, "mp": 256, "dev": 256, "unused": 256}
_RAW = re.compile(
    r"lxc\.(apparmor|arch|autodev|cap|cgroup2?|console|environment|hook|idmap|include|init|log|mount"
    r"|monitor|net|no_new_privs|prlimit|pty|seccomp|selinux|signal|start|sysctl|tty|uts)(\..*)?"
)
_REFUSED = {"lxc.rootfs.path", "lxc.hook.start-host"}
_INTEGER = {
    "cores": (1, 8192), "memory": (16, None), "swap": (0, None), "cpuunits": (0, 500000),
    "onboot": (0, 1), "protection": (0, 1), "unprivileged": (0, 1), "template": (0, 1),
}  # fmt: skip


@dataclass
class Section:
    """Keys with their values, raw lxc.* lines, and a description."""

    keys: dict[str, str] = field(default_factory=dict)
    raw: list[tuple[str, str]] = field(default_factory=list)
    description: str = ""


@dataclass
class Conf:
    """A whole file."""

    main: Section
    pending: Section | None = None
    snapshots: dict[str, Section] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def known(key: str) -> bool:
    match = NUMBERED.fullmatch(key)
    return key in KEYS or bool(match and int(match[2]) < _LIMITS[match[1]])


def wrong(key: str, value: str) -> str | None:
    """Why `pct` refuses a value, or None."""
    if key in _INTEGER:
        low, high = _INTEGER[key]
        if not re.fullmatch(r"-?\d+", value):
            return f"type check ('integer') failed - got '{value}'"
        if (low is not None and int(value) < low) or (high is not None and int(value) > high):
            return f"value out of range ({low} - {high if high is not None else 'N'})"
    if key == "nameserver" and not re.fullmatch(r"([0-9a-fA-F.:]+[ ,;]*)+", value):
        return "invalid format - value does not look like a valid IP address"
    if key == "hostname" and not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", value):
        return f"invalid format - value does not look like a valid DNS name: {value}"
    if re.fullmatch(r"net\d+", key):
        pairs = dict(part.partition("=")[::2] for part in value.split(","))
        if "name" not in pairs:
            return "missing property - 'name'"
        names = {"name", "bridge", "firewall", "gw", "gw6", "hwaddr", "ip", "ip6", "link_down",
                 "mtu", "rate", "tag", "trunks", "type"}  # fmt: skip
        if odd := pairs.keys() - names:
            return f"property is not defined in schema: {min(odd)}"
    return None


def parse(data: bytes) -> Conf:
    """Tolerant as PVE is: what it can't read vanishes."""
    conf = Conf(Section())
    section = conf.main
    for line in data.decode("utf-8", "surrogateescape").splitlines():
        if not line.strip():
            continue
        if match := re.fullmatch(r"\[pve:pending\]\s*", line):
            section = conf.pending = Section()
        elif match := re.fullmatch(r"\[([A-Za-z][A-Za-z0-9_-]+)\]\s*", line):
            section = conf.snapshots[match[1]] = Section()
        elif line.startswith("#"):
            section.description += unquote(line[1:]) + "\n"
        elif match := re.fullmatch(r"(lxc\.[a-z0-9_.]+)(?::|\s*=)\s*(.*?)\s*", line):
            if _RAW.fullmatch(match[1]) and match[1] not in _REFUSED:
                section.raw.append((match[1], match[2]))
            else:
                conf.warnings.append(f"unsupported lxc key {match[1]}")
        elif match := re.fullmatch(r"([a-z][a-z_]*\d*):\s*(\S.*?)\s*", line):
            section.keys[match[1]] = match[2]
            if not known(match[1]):
                conf.warnings.append(f"unknown key {match[1]}")
        else:
            conf.warnings.append(f"unable to parse: {line}")
    return conf


def write(conf: Conf) -> bytes:
    """Comments on top, keys sorted, then lxc.* lines, then pending changes, then snapshots."""
    parts = list(_section(conf.main))
    if conf.pending is not None and (conf.pending.keys or conf.pending.raw):
        parts += ["", "[pve:pending]", *_section(conf.pending)]
    for name in sorted(conf.snapshots):
        parts += ["", f"[{name}]", *_section(conf.snapshots[name])]
    return ("\n".join(parts) + "\n").encode("utf-8", "surrogateescape")


def _section(section: Section) -> Iterable[str]:
    for line in section.description.splitlines():
        yield "#" + quote(line, safe=" !\"#$&'()*+,-./;<=>?@[\\]^_`{|}~")
    for key in sorted(section.keys):
        yield f"{key}: {section.keys[key]}"
    for key, value in section.raw:
        yield f"{key}: {value}"
