"""What a power cut can leave of recorded steps.

POSIX and no more: a rename is there whole or not at all; an fsync of a file keeps its content and
mode, not its name; an fsync of a folder keeps the names in it. All else that was done since can be
there or not, each name for itself and in any order; content that was not synced can be as it was
before, empty, or torn. /etc/pve is another file system, whose fsync does nothing: it is rolled back
to any earlier moment since the last syncfs of where its database lies.

Where more than `MANY` names hang in the air, not every subset of them is made, but: each beginning,
each one alone, and all but each one. Where more than two files do, all of them are torn alike, and
each one alone is.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.host.crash.record import Step
from tests.host.crash.scene import content

MANY = 5
PVE, DATABASE = "etc/pve/", "var/lib/pve-cluster"
Node = tuple[str, object]
"""("file", its inode), ("link", where it leads) or ("folder", None)."""
Tree = Mapping[str, tuple[str, bytes, int]]
"""Names with kind, content, mode and owner (see scene.content)."""


@dataclass(frozen=True)
class Naming:
    """An operation on names, which is there whole or not at all."""

    folders: tuple[str, ...]
    gone: tuple[str, ...]
    made: tuple[tuple[str, Node], ...]


class Disk:
    """A disk while steps are done on it."""

    def __init__(self, root: Path) -> None:
        self.kept: dict[str, Node] = {}
        self.pending: list[Naming] = []
        self.safe: dict[int, tuple[bytes, int]] = {}
        self.now: dict[int, tuple[bytes, int]] = {}
        self._load(root)
        self.names = dict(self.kept)
        self.moments = [self._cluster()]

    def do(self, step: Step) -> None:
        """Carry a step out."""
        if step.what == "sync all":
            if step.path.startswith(DATABASE):
                self.moments = self.moments[-1:]
            else:
                self._sync_all()
        elif step.what == "sync":
            self._sync(step.path)
        elif step.what == "data":
            node = self.names[step.path]
            assert isinstance(node[1], int)
            self.now[node[1]] = (step.data, step.mode)
        else:
            self._name(step)
        if step.path.startswith(PVE) and (found := self._cluster()) != self.moments[-1]:
            self.moments.append(found)

    def states(self, deep: bool) -> Iterator[Tree]:
        """What can be left now."""
        moments = (
            self.moments
            if deep or len(self.moments) < 2
            else self.moments[:: len(self.moments) - 1]
        )
        for names in self._subsets():
            for left in self._contents(names):
                for moment in moments:
                    yield {**left, **moment}

    def _name(self, step: Step) -> None:
        path, other = step.path, step.other
        gone: tuple[str, ...] = ()
        made: tuple[tuple[str, Node], ...] = ()
        if step.what == "create":
            number = len(self.now)
            self.now[number], self.safe[number] = (step.data, step.mode), (b"", step.mode)
            made = ((path, ("file", number)),)
        elif step.what == "mkdir":
            made = ((path, ("folder", None)),)
        elif step.what == "symlink":
            made = ((path, ("link", other)),)
        elif step.what == "link":
            made = ((other, self.names[path]),)
        elif step.what == "rename":
            made, gone = ((other, self.names[path]),), (path,)
            self.pending = [_moved(each, path, other) for each in self.pending]
        else:
            assert step.what in ("unlink", "rmdir"), step.what
            gone = (path,)
        naming = Naming(tuple({os.path.dirname(n) for n in (path, other) if n}), gone, made)
        if step.what == "symlink":
            naming = Naming((os.path.dirname(path),), gone, made)
        _apply(self.names, naming)
        if not path.startswith(PVE):
            self.pending.append(naming)

    def _sync(self, path: str) -> None:
        node = self.names.get(path)
        if node and node[0] == "file":
            assert isinstance(node[1], int)
            self.safe[node[1]] = self.now[node[1]]
            return
        done = [each for each in self.pending if path in each.folders]
        for each in done:
            _apply(self.kept, each)
        touched = {name for each in done for name in (*each.gone, *dict(each.made))}
        # What came before on the same names is overtaken.
        last = max((self.pending.index(each) for each in done), default=-1)
        self.pending = [
            each
            for place, each in enumerate(self.pending)
            if each not in done and not (place < last and touched & {*each.gone, *dict(each.made)})
        ]

    def _sync_all(self) -> None:
        self.kept = {n: node for n, node in self.names.items() if not n.startswith(PVE)}
        self.pending.clear()
        self.safe = dict(self.now)

    def _subsets(self) -> Iterator[dict[str, Node]]:
        every = range(len(self.pending))
        kept: set[tuple[int, ...]] = set()
        if len(every) <= MANY:
            for size in range(len(every) + 1):
                kept |= {*itertools.combinations(every, size)}
        else:
            kept |= {tuple(every[:end]) for end in range(len(every) + 1)}
            kept |= {(one,) for one in every}
            kept |= {tuple(each for each in every if each != one) for one in every}
        for chosen in sorted(kept):
            names = dict(self.kept)
            for one in chosen:
                _apply(names, self.pending[one])
            yield {
                n: node for n, node in names.items() if not n.startswith(PVE) and _reached(n, names)
            }

    def _contents(self, names: Mapping[str, Node]) -> Iterator[dict[str, tuple[str, bytes, int]]]:
        unsafe = sorted(
            {
                int(str(node[1]))
                for node in names.values()
                if node[0] == "file" and self.safe[int(str(node[1]))] != self.now[int(str(node[1]))]
            }
        )
        ways = [self._ways(number) for number in unsafe]
        if len(unsafe) <= 2:
            chosen = [*itertools.product(*ways)]
        else:
            chosen = [tuple(way[kind] for way in ways) for kind in range(3)]
            for place in range(len(ways)):
                chosen.append(tuple(w[0 if i == place else 2] for i, w in enumerate(ways)))
        for each in dict.fromkeys(chosen):
            found = {**self.now, **dict(zip(unsafe, each, strict=True))}
            yield {name: _plain(node, found) for name, node in names.items()}

    def _ways(self, number: int) -> tuple[tuple[bytes, int], ...]:
        now, safe = self.now[number], self.safe[number]
        return (safe, (now[0][: len(now[0]) // 2], now[1]), now)

    def _cluster(self) -> Tree:
        return {n: _plain(node, self.now) for n, node in self.names.items() if n.startswith(PVE)}

    def _load(self, root: Path) -> None:
        inodes: dict[int, int] = {}
        for folder, folders, files in os.walk(root):
            for name in (*folders, *files):
                full = f"{folder}/{name}"
                path = full[len(str(root)) + 1 :]
                if path.startswith("run/"):
                    continue
                if os.path.islink(full):
                    self.kept[path] = ("link", os.readlink(full))
                elif os.path.isdir(full):
                    self.kept[path] = ("folder", None)
                else:
                    number = inodes.setdefault(os.stat(full).st_ino, len(inodes))
                    self.kept[path] = ("file", number)
                    mode, data = content(full)
                    self.now[number] = (data, mode)
        self.safe = dict(self.now)


def tree(root: Path) -> Tree:
    """What is there."""
    disk = Disk(root)
    return {name: _plain(node, disk.now) for name, node in disk.names.items()}


def lay(root: Path, was: Tree, now: Tree) -> None:
    """Have a host that is as `was` be as `now`."""
    for name in sorted(was, reverse=True):
        if was[name] != now.get(name):
            path = root / name
            if was[name][0] != "folder":
                path.unlink()
            elif name not in now:
                path.rmdir()
    for name in sorted(now):
        if was.get(name) != now[name]:
            kind, data, mode = now[name]
            path = root / name
            if kind == "folder":
                path.mkdir(mode=0o755)
            elif kind == "link":
                path.symlink_to(data.decode())
            else:
                path.write_bytes(data)
                os.chown(path, mode >> 12, -1)
                path.chmod(mode & 0o7777)


def _apply(names: dict[str, Node], naming: Naming) -> None:
    for name in naming.gone:
        found = names.pop(name, None)
        if found and found[0] == "folder" and naming.made:
            # A folder goes with what is in it.
            new = naming.made[0][0]
            for below in [each for each in names if each.startswith(f"{name}/")]:
                names[new + below[len(name) :]] = names.pop(below)
    names.update(naming.made)


def _moved(naming: Naming, old: str, new: str) -> Naming:
    """What was done in a folder before it got another name."""

    def name(path: str) -> str:
        return new + path[len(old) :] if path.startswith(f"{old}/") else path

    folders = tuple(new if each == old else name(each) for each in naming.folders)
    gone, made = tuple(map(name, naming.gone)), tuple((name(n), node) for n, node in naming.made)
    return replace(naming, folders=folders, gone=gone, made=made)


def _reached(name: str, names: Mapping[str, Node]) -> bool:
    while "/" in name:
        name = name.rpartition("/")[0]
        if names.get(name, ("", None))[0] != "folder":
            return False
    return True


def _plain(node: Node, contents: Mapping[int, tuple[bytes, int]]) -> tuple[str, bytes, int]:
    if node[0] == "file":
        return ("file", *contents[int(str(node[1]))])
    return (node[0], str(node[1] or "").encode(), 0)
