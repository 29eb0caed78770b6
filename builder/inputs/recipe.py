"""From fetched files to the tree of a layer: which members, at which path, with which mode.

With the packing in `builder.tree`, this module decides a layer's bytes: its text is part of every
cache key. Archives are read as a stranger's work: a member that would leave the folder is refused.
"""

from __future__ import annotations

import posixpath
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO

from builder.inputs.lock import Debian, Go, Input, Url
from builder.problems import UserError
from builder.tree import Entry, File, Link, Tree


def tree(entry: Input, fetched: Sequence[Path], scratch: Path) -> Tree:
    """The layer of `entry` from its fetched files (one for each pin), below programs/NAME/.

    `scratch` is an empty folder for what is unpacked; the tree refers to files in it. Raises
    UserError for an archive that is broken, has an unsafe member, or lacks a declared one.
    """
    try:
        return Tree.of(_rooted(entry.name, _entries(entry, fetched, scratch)))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"input '{entry.name}': its archive can't be read: {error}") from error


def _rooted(name: str, entries: Sequence[Entry]) -> list[Entry]:
    root = f"programs/{name}"
    return [
        Link(f"{root}/{each.path}", each.target)
        if isinstance(each, Link)
        else File(f"{root}/{each.path}", mode=each.mode, source=each.source)
        for each in entries
    ]


def _entries(entry: Input, fetched: Sequence[Path], scratch: Path) -> Sequence[Entry]:
    if isinstance(entry, Debian):
        return _debian(entry, fetched, scratch)
    if isinstance(entry, Go):
        name = entry.pin.package.rpartition("/")[2]
        return [File(name, mode=0o755, source=fetched[0])]
    unpack = entry.unpack if isinstance(entry, Url) else "zip"
    if unpack == "none":
        return [File(entry.files[0][0], mode=0o755, source=fetched[0])]
    read = _zip if unpack == "zip" else _tar
    return read(entry.name, entry.files, fetched[0], scratch)


def _debian(entry: Debian, fetched: Sequence[Path], scratch: Path) -> list[Entry]:
    found = dict[str, Entry]()
    for number, package in enumerate(fetched):
        for each in _package(entry, package, scratch / str(number)):
            if each.path in found:
                raise UserError(f"input '{entry.name}': {each.path} is twice in its packages")
            found[each.path] = each
    for path in found:
        if any(str(parent) in found for parent in PurePosixPath(path).parents):
            raise UserError(f"input '{entry.name}': {path} lies below a file or a link")
    for pattern in entry.keep:
        if not any(fnmatchcase(path, pattern) for path in found):
            raise UserError(f"input '{entry.name}': no package has a file like '{pattern}'")
    return list(found.values())


def _package(entry: Debian, package: Path, folder: Path) -> list[Entry]:
    dpkg = shutil.which("dpkg-deb")
    if dpkg is None:
        raise UserError("dpkg-deb is missing on this machine", "install the package dpkg")
    with subprocess.Popen(
        [dpkg, "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        with tarfile.open(fileobj=child.stdout, mode="r|") as archive:
            entries = _kept(entry, archive, folder)
        child.stdout.read()
        error = child.stderr.read().decode("utf-8", "replace").strip()
    if child.returncode != 0:
        raise UserError(f"input '{entry.name}': dpkg-deb can't read a package: {error}")
    return entries


def _kept(entry: Debian, archive: tarfile.TarFile, folder: Path) -> list[Entry]:
    entries = list[Entry]()
    for member in archive:
        path = _safe(entry.name, member.name)
        if member.isdir() or not any(fnmatchcase(path, pattern) for pattern in entry.keep):
            continue
        if member.issym():
            entries.append(Link(path, _inside(entry.name, path, member.linkname)))
        elif member.isreg():
            target = folder / str(len(entries))
            _write(archive.extractfile(member), target)
            mode = 0o755 if member.mode & 0o111 else 0o644
            entries.append(File(path, mode=mode, source=target))
        else:
            raise UserError(f"input '{entry.name}': {path} is neither a file nor a link")
    return entries


def _tar(name: str, files: Sequence[tuple[str, str]], source: Path, scratch: Path) -> list[Entry]:
    with tarfile.open(source) as archive:
        members = {_safe(name, member.name): member for member in archive if not member.isdir()}
        entries = list[Entry]()
        for number, (path, pattern) in enumerate(files):
            member = members[_one(name, pattern, members)]
            if not member.isreg():
                raise UserError(f"input '{name}': {member.name} is no regular file")
            _write(archive.extractfile(member), scratch / str(number))
            entries.append(File(path, mode=0o755, source=scratch / str(number)))
    return entries


def _zip(name: str, files: Sequence[tuple[str, str]], source: Path, scratch: Path) -> list[Entry]:
    with zipfile.ZipFile(source) as archive:
        members = {_safe(name, item.filename): item for item in archive.infolist()}
        entries = list[Entry]()
        for number, (path, pattern) in enumerate(files):
            with archive.open(members[_one(name, pattern, members)]) as stream:
                _write(stream, scratch / str(number))
            entries.append(File(path, mode=0o755, source=scratch / str(number)))
    return entries


def _one(name: str, pattern: str, members: Iterable[str]) -> str:
    found = [path for path in members if fnmatchcase(path, pattern)]
    if len(found) != 1:
        raise UserError(f"input '{name}': {len(found)} files of its archive are like '{pattern}'")
    return found[0]


def _safe(name: str, path: str) -> str:
    """A member's path without './' in front; refused where it is absolute or climbs."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if path.startswith("/") or ".." in parts or "\\" in path or "\0" in path:
        raise UserError(f"input '{name}': its archive holds an unsafe path: {path!r}")
    return "/".join(parts)


def _inside(name: str, path: str, target: str) -> str:
    """A link's target, refused where it leads out of the package."""
    landing = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    if target.startswith("/") or landing == ".." or landing.startswith("../"):
        raise UserError(f"input '{name}': its link {path} leads outside: {target!r}")
    return target


def _write(stream: IO[bytes] | None, target: Path) -> None:
    assert stream is not None, "only regular files are read"
    target.parent.mkdir(parents=True, exist_ok=True)
    with stream, target.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
