"""What a guest's NNN.conf means to Proxmox: values in, values out.

Which keys a running guest takes hot is as PVE::LXC::Config (vmconfig_hotplug_pending) has it; all
others it takes at its next start. A rewritten file changes nothing that runs, and shows no mark.
"""

from __future__ import annotations

import re

from .decide import Taken

NEW, RETIRED = "phoenix-new", "phoenix-retired"
"""Tags of a guest that a transaction makes, and of one that we made and that is ours no more."""
_LINE = re.compile(rb"^(?:([a-z][a-z_]*\d*):\s*(\S.*?)|(lxc\.[a-z0-9_.]+)(?::|\s*=)\s*(.*?))\s*$")
_SET = re.compile(r"(?:net|mp|dev|unused)\d+|rootfs|features|startup")
# What PVE itself reads when it needs it, and nothing that runs.
_COLD = re.compile(
    r"onboot|startup|protection|hookscript|tags|hostname|lock|parent|snaptime|template|unused\d+"
)
_HOT = re.compile(r"cores|memory|swap|cpulimit|cpuunits|net\d+")
_HOT_GONE = re.compile(r"cores|swap|cpulimit|cpuunits|net\d+")
_HOT_NEW = re.compile(r"(?:mp|dev)\d+")
_ID_MAP = re.compile(rb"^lxc\.idmap(?::|\s*=)\s*u\s+0\s+(\d+)\s", re.MULTILINE)


def keys(conf: bytes) -> dict[str, str]:
    """The main section; of a key that stands twice the last, as PVE reads it. A raw lxc.* line is
    a key of its own, with its value."""
    found = {}
    for line in _main(conf).splitlines():
        if match := _LINE.match(line):
            key, value, raw, rest = (each and each.decode("latin-1") for each in match.groups())
            found[key or f"{raw} {rest}"] = value or ""
    return found


def root(conf: bytes) -> int:
    """The host's number of the guest's root."""
    if match := _ID_MAP.search(_main(conf)):
        return int(match[1])
    return 100000 if keys(conf).get("unprivileged") == "1" else 0


def busy(conf: bytes) -> str | None:
    """Why PVE or somebody by it is not done with this guest."""
    held = keys(conf)
    if "lock" in held:
        return f"is locked ({held['lock']})"
    if b"\n[pve:pending]" in b"\n" + conf:
        return "has pending changes: apply them by a restart, or revert them"
    if re.search(rb"^snapstate:", conf, re.MULTILINE):
        return "has a snapshot that is not done"
    return "is a template" if held.get("template") == "1" else None


def takes(old: bytes, new: bytes) -> Taken:
    """How a running guest takes it that its file has become `new`."""
    was, now = keys(old), keys(new)
    hot: list[str] = []
    restart: list[str] = []
    for key in sorted(was.keys() | now.keys()):
        if _means(key, was.get(key)) == _means(key, now.get(key)) or _COLD.fullmatch(key):
            continue
        can = _HOT_NEW if key not in was else _HOT_GONE if key not in now else _HOT
        fits = can.fullmatch(key) or (key not in was and _HOT.fullmatch(key))
        (hot if fits else restart).append(key)
    return Taken(tuple(hot), tuple(restart))


def options(old: bytes, new: bytes) -> list[str]:
    """The options of `pct set` for what is taken hot."""
    now, hot = keys(new), takes(old, new).hot
    gone = [key for key in hot if key not in now]
    given = [word for key in hot if key in now for word in (f"--{key}", now[key])]
    return [*given, *(["--delete", ",".join(gone)] if gone else [])]


def bare(conf: bytes) -> bool:
    """Whether this is all that a `pct create` which died has left."""
    return keys(conf).keys() <= {"lock"}


def between(old: bytes, new: bytes, now: bytes) -> bool:
    """Whether `now` is half way from `old` to `new`, as PVE writes it when only part is set; also
    where the cluster fell back behind the guest's creation."""
    if bare(now):
        return True
    ends, there = (keys(old), keys(new)), keys(now)
    every = ends[0].keys() | ends[1].keys() | there.keys()
    return all(
        _means(key, there.get(key)) in [_means(key, end.get(key)) for end in ends] for key in every
    ) and _rest(now) in (_rest(old), _rest(new))


def retired(conf: bytes) -> bytes:
    """The file of a guest that we made and that is ours no more: kept, and not started at boot."""
    tags = [*_tags(conf), RETIRED]
    return _with(conf, {"onboot": "0", "tags": ";".join(tags)})


def revived(conf: bytes) -> bytes:
    """The file without our marks."""
    found = _tags(conf)
    left = [tag for tag in found if tag not in (NEW, RETIRED)]
    if left == found:
        return conf
    gone = {"onboot": None} if RETIRED in found else {}
    return _with(conf, {**gone, "tags": ";".join(left) or None})


def tagged(conf: bytes, tag: str) -> bool:
    """Whether a guest bears a tag."""
    return tag in _tags(conf)


def _tags(conf: bytes) -> list[str]:
    return [tag for tag in re.split(r"[;, ]+", keys(conf).get("tags", "")) if tag]


def _with(conf: bytes, values: dict[str, str | None]) -> bytes:
    """The file with other values, where PVE would have them: sorted, before what is raw."""
    main = _main(conf)
    lines = [line for line in main.splitlines(keepends=True) if _key(line) not in values]
    for key, value in values.items():
        if value is not None:
            place = next((i for i, line in enumerate(lines) if _after(line, key)), len(lines))
            lines.insert(place, f"{key}: {value}\n".encode("latin-1"))
    return b"".join(lines) + conf[len(main) :]


def _after(line: bytes, key: str) -> bool:
    return line.startswith(b"lxc.") or not line.strip() or _key(line) > key


def _key(line: bytes) -> str:
    match = _LINE.match(line)
    return (match[1] or match[3]).decode() if match else ""


def _main(conf: bytes) -> bytes:
    match = re.search(rb"^\[", conf, re.MULTILINE)
    return conf[: match.start()] if match else conf


def _rest(conf: bytes) -> list[bytes]:
    return sorted(line.strip() for line in conf[len(_main(conf)) :].splitlines() if line.strip())


def _means(key: str, value: str | None) -> object:
    return frozenset(value.split(",")) if value is not None and _SET.fullmatch(key) else value
