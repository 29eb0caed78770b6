"""systemd-analyze as the judge of units: that they load as meant, and how exposed they leave
their programs. Units lie where the guest has them, with its programs, so that ExecStart is found.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator

from builder.tree import File, Link, Tree
from tests.judges.guest import CURRENT, GENERATION, STATE, Guest
from tests.judges.namespace import Entry, Space
from tests.judges.refusal import Refused

_FOLDER = "/usr/local/lib/systemd/system"
_KNOWN = f"ls {_FOLDER} /etc/systemd/system /lib/systemd/system"
_SUFFIXES = (".service", ".timer", ".target", ".path", ".socket", ".mount", ".slice")
_EXPOSURE = re.compile(r"Overall exposure level for (\S+): ([0-9.]+) ")
_NAMING = re.compile(
    r"^(?:Wants|Requires|Requisite|BindsTo|PartOf|Upholds|Conflicts|Before|After|OnFailure"
    r"|OnSuccess|WantedBy|RequiredBy|Unit|Sockets|PropagatesReloadTo|ReloadPropagatedFrom)"
    r"[ \t]*=(.*)$",
    re.MULTILINE,
)


def verify(files: Guest, *, foreign: Iterable[str] = ()) -> tuple[str, ...]:
    """Check all units of the folder `units/` in one go; the names of those that were checked.

    Raises Refused where systemd as much as warns, or where a unit names another that is neither
    there nor in `foreign`: systemd itself takes an After= or Wants= of a misspelt name silently.
    """
    return _verified(*_key(files), frozenset(foreign))


@functools.lru_cache(maxsize=1024)  # many guests have the same units
def _verified(tree: Tree, programs: tuple[str, ...], foreign: frozenset[str]) -> tuple[str, ...]:
    files = Guest(tree, programs=programs)
    names = tuple(_units(files))
    with Space(binds=files.binds()) as space:
        _enter(space, files)
        paths = [f"{_FOLDER}/{name}" for name in names]
        result = space.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=yes", *paths]
        )
        if result.code != 0 or result.out or result.err:
            raise Refused("systemd-analyze", result.out + result.err)
        known = set(space.must(["sh", "-c", _KNOWN]).split()) | foreign
    missing = {name for name in _named(files) if not {name, _template(name)} & known}
    if missing:
        raise Refused("systemd-analyze", f"units that nothing defines: {sorted(missing)}")
    return names


def security(files: Guest, services: Iterable[str] | None = None) -> dict[str, float]:
    """The exposure of each service of `units/` (or of those named), 0.0 to 10.0, by name."""
    chosen = services or (name for name in _units(files) if name.endswith(".service"))
    return dict(_exposed(*_key(files), tuple(name.replace("@.", "@a.") for name in chosen)))


@functools.lru_cache(maxsize=1024)
def _exposed(
    tree: Tree, programs: tuple[str, ...], names: tuple[str, ...]
) -> tuple[tuple[str, float], ...]:
    if not names:
        return ()
    files = Guest(tree, programs=programs)
    with Space(binds=files.binds()) as space:
        _enter(space, files)
        paths = [f"{_FOLDER}/{name}" for name in names]
        result = space.run(["systemd-analyze", "security", "--offline=yes", "--no-pager", *paths])
    found = {unit: float(level) for unit, level in _EXPOSURE.findall(result.out)}
    if result.code != 0 or set(found) != set(names):
        raise Refused("systemd-analyze", result.out[-2000:] + result.err)
    return tuple(found.items())


def _key(files: Guest) -> tuple[Tree, tuple[str, ...]]:
    """What a verdict on units follows from: them, and which other files there are to be run."""
    kept = [
        entry if entry.path.startswith("units/") or isinstance(entry, Link)
        else File(entry.path, mode=entry.mode)
        for entry in files.tree
    ]  # fmt: skip
    return Tree.of(kept), files.programs


def _template(name: str) -> str:
    return re.sub(r"@.*\.", "@.", name)


def _units(files: Guest) -> Iterator[str]:
    for entry in files.tree:
        folder, _, name = entry.path.rpartition("/")
        if folder == "units" and name.endswith(_SUFFIXES):
            yield name


def _enter(space: Space, files: Guest) -> None:
    files.enter(space, "nginx")
    # systemd-analyze verifies a template as its instance "i".
    slots = [Entry(f"{STATE}/slots/{daemon}/i", GENERATION) for daemon in ("nginx", "traefik")]
    space.write([Entry(_FOLDER, f"{CURRENT}/units"), *slots])


def _named(files: Guest) -> set[str]:
    """Units that the files name; names with specifiers are left out."""
    found = set[str]()
    for entry in files.tree:
        if not entry.path.startswith("units/"):
            continue
        if entry.path.endswith(".conf") or entry.path.endswith(_SUFFIXES):
            found |= _names(entry.path, files)
        folder, _, name = entry.path.rpartition("/")
        if folder.endswith((".wants", ".requires")):
            found.add(name)
    return found


def _names(path: str, files: Guest) -> set[str]:
    try:
        text = files.text(path)
    except KeyError:  # a link: to a unit, or to /dev/null
        return set()
    words = " ".join(_NAMING.findall(text)).split()
    return {word for word in words if "%" not in word}
