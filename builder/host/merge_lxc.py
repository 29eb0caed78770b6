"""A guest's configuration, PVE's NNN.conf and liblxc's config alike: no key of the one is the
other's (PVE::LXC::Config, parse_pct_config; liblxc's confile.c), and sections are PVE's alone.

Ours are the keys of the main section; of a key that may come again, the one value (a mount: its
target); lxc.net.N.* as a whole; a line of the description. They stand together and in our order,
as they were judged, since to liblxc the order of profile and includes matters.

What belongs to the guest (its root file system, volumes, mapping, lock, pending changes and
snapshots) is nobody's to lay over: it is as the live file of a guest, one with a root, has it.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from .merge_units import LINE, Key, Unit, Units, exchange, filled, join, keys, of

_SECTION = re.compile(rb"^\[[^\]\n]+\][ \t\r]*$", re.MULTILINE)
_PVE_KEY = re.compile(rb"^[a-z][a-z_]*[0-9]*:", re.MULTILINE)
_PAIR = re.compile(rb"[ \t]*([A-Za-z][\w.-]*)[ \t]*[:=][ \t]*([^\n]*)\n?")
_NET = re.compile(rb"lxc\.net\.[0-9]+(?=\.)")
_REPEATED = re.compile(
    rb"lxc\.(?:include|environment|group|mount\.auto|apparmor\.raw|cap\.(?:drop|keep)|hook\..*"
    rb"|cgroup2?\.devices\.(?:allow|deny))"
)
_STATE = re.compile(
    rb"rootfs|unused[0-9]+|lock|parent|template|unprivileged|arch|ostype"
    rb"|lxc\.(?:idmap|arch|rootfs\.path)"
)
_ROOTS = {(b"rootfs",), (b"lxc.rootfs.path",)}
# Where one of these is missing, nothing is said; without `unprivileged` a guest is privileged.
_LASTING = {(b"arch",), (b"ostype",), (b"lxc.arch",)}
_MOUNT = re.compile(rb"mp[0-9]+")
_BOUND = re.compile(rb"(?:[^\n]*,)?(?:volume=)?/")
_HWADDR = re.compile(rb"[:,\s](hwaddr=[^,\s]+)")


def lay(base: bytes, owned: bytes) -> bytes:
    """`base` with the keys of `owned`."""
    return _put(base, owned, owned)


def lift(live: bytes, owned: bytes, recorded: bytes) -> bytes:
    """`live` with what `recorded` has in place of the keys of `owned`."""
    return _put(live, owned, recorded)


def rooted(data: bytes | None) -> bool:
    """Whether this is the file of a guest: one with a root file system."""
    return any(unit.key in _ROOTS for unit in _split(data or b"")[0])


def with_state(file: bytes, live: bytes) -> bytes:
    """`file` with the guest's state as `live` has it."""
    (main, _), (kept, rest) = _split(file), _split(live)
    state = tuple(filter(_is_state, kept))
    for key in keys((*state, *filter(_is_state, main))):
        ours, theirs = of(main, [key]), of(state, [key])
        same = [unit.text.strip() for unit in ours] == [unit.text.strip() for unit in theirs]
        if not same and (key not in _LASTING or (ours and theirs)):
            main = exchange(main, [key], theirs, _before_raw(main))
    return join((*(_addressed(unit, kept) for unit in main), Unit(None, rest)))


def _put(file: bytes, owned: bytes, other: bytes) -> bytes:
    main, rest = _split(file)
    ours = keys(_split(owned)[0])
    put = of(_split(other)[0], ours)
    return join((*exchange(main, ours, put, filled(main)), Unit(None, rest)))


def _split(data: bytes) -> tuple[Units, bytes]:
    """The main section, and all others with the blank lines before them."""
    cut = len(data)
    if (found := _SECTION.search(data)) and _PVE_KEY.search(data):
        cut = data.find(b"\n", len(data[: found.start()].rstrip()), found.start()) + 1
    return tuple(Unit(_key(line), line) for line in LINE.findall(data[:cut])), data[cut:]


def _key(line: bytes) -> Key | None:
    if line.lstrip().startswith(b"#"):
        return b"#", unquote_to_bytes(line.strip()[1:]).strip()
    if (pair := _PAIR.fullmatch(line)) is None:
        return None
    name, value = pair[1], pair[2].strip()
    if net := _NET.match(name):
        return (net[0],)
    if name == b"lxc.mount.entry":
        return name, (value.split()[1:2] or [value])[0].strip(b"/")
    return (name, value) if _REPEATED.fullmatch(name) else (name,)


def _is_state(unit: Unit) -> bool:
    if unit.key is None or len(unit.key) > 1:
        return False
    if _MOUNT.fullmatch(unit.key[0]):
        return not _BOUND.match(unit.text.partition(b":")[2].strip())
    return bool(_STATE.fullmatch(unit.key[0]))


def _before_raw(main: Units) -> int:
    """Where PVE has a key: before what is raw."""
    raw = (i for i, unit in enumerate(main) if unit.key and unit.key[0].startswith(b"lxc."))
    return next(raw, filled(main))


def _addressed(unit: Unit, kept: Units) -> Unit:
    """netN with the hardware address that it has in `kept`, where it says none: PVE invents one."""
    if not unit.key or not re.fullmatch(rb"net[0-9]+", unit.key[0]) or _HWADDR.search(unit.text):
        return unit
    found = _HWADDR.search(join(of(kept, [unit.key])))
    return Unit(unit.key, b"%s,%s\n" % (unit.text.rstrip(), found[1])) if found else unit
