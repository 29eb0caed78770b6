"""From fetched files to a layer: which members, at which path, with which mode.

With the packing in `builder.tree`, this module decides all that a layer's folder holds: its text is
part of every cache key. Archives are read as a stranger's work: a member that would leave the
folder is refused.
"""

from __future__ import annotations

import errno
import json
import lzma
import posixpath
import shutil
import stat
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import IO, TypeVar

from builder.inputs.lock import Debian, Go, Input, Url, version
from builder.problems import UserError
from builder.tree import Entry, File, Link, Tree, pack

Member = TypeVar("Member")

# What Python's readers raise for a broken archive, beside OSErrors of no disk's: RuntimeError is
# one with a password, ValueError a place before the file's beginning.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, lzma.LZMAError, zlib.error),
    *(EOFError, RuntimeError, ValueError),
)


def write_layer(entry: Input, fetched: Sequence[Path], folder: Path) -> Path:
    """Write layer.tar, index.json and meta.json of `entry` below the empty `folder`; where.

    Raises UserError as `tree` does, and for what fits into no layer.
    """
    scratch, made = folder / "scratch", folder / "layer"
    scratch.mkdir()
    made.mkdir()
    try:
        with (made / "layer.tar").open("wb") as out:
            packed = pack(tree(entry, fetched, scratch), out)
    except ValueError as error:
        told = f"input '{entry.name}': a file of it fits into no layer: {error}"
        raise UserError(told) from error
    size = {"digest": packed.digest, "size": packed.size}
    _dump(made / "index.json", size | {"index": [each.as_json() for each in packed.index]})
    named = {"name": entry.name, "version": version(entry), "input": entry.as_json()}
    _dump(made / "meta.json", size | named)
    return made


def _dump(path: Path, data: dict[str, object]) -> None:
    text = json.dumps(data, indent=1, sort_keys=True, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def tree(entry: Input, fetched: Sequence[Path], scratch: Path) -> Tree:
    """The layer of `entry` from its fetched files (one for each pin), below programs/NAME/.

    `scratch` is an empty folder for what is unpacked; the tree refers to files in it. Raises
    UserError for an archive that is broken, has an unsafe member, or lacks a declared one.
    """
    try:
        return Tree.of(_rooted(entry.name, _entries(entry, fetched, scratch)))
    except (*_BROKEN, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
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
        members = [(each.name, each) for each in archive if not each.isdir()]
        picked = [_one(name, pattern, members) for _, pattern in files]
        for each in picked:
            _regular(name, each.name, each.isreg())
        return _taken(files, (archive.extractfile(each) for each in picked), scratch)


def _zip(name: str, files: Sequence[tuple[str, str]], source: Path, scratch: Path) -> list[Entry]:
    with zipfile.ZipFile(source) as archive:
        members = [(each.filename, each) for each in archive.infolist() if not each.is_dir()]
        picked = [_one(name, pattern, members) for _, pattern in files]
        for each in picked:
            # Where the archive was not made on Unix, no type is told.
            kind = stat.S_IFMT(each.external_attr >> 16)
            _regular(name, each.filename, kind in (0, stat.S_IFREG))
        return _taken(files, (archive.open(each) for each in picked), scratch)


def _one(name: str, pattern: str, members: Iterable[tuple[str, Member]]) -> Member:
    """The one member that is like `pattern`; every member's path must be safe."""
    safe = [(_safe(name, path), member) for path, member in members]
    found = [member for path, member in safe if fnmatchcase(path, pattern)]
    if len(found) != 1:
        raise UserError(f"input '{name}': {len(found)} files of its archive are like '{pattern}'")
    return found[0]


def _regular(name: str, path: str, regular: bool) -> None:
    if not regular:
        raise UserError(f"input '{name}': {path} is no regular file")


def _taken(
    files: Sequence[tuple[str, str]], streams: Iterable[IO[bytes] | None], scratch: Path
) -> list[Entry]:
    """Write what the streams give to `scratch`, as the programs at the paths of `files`."""
    entries = list[Entry]()
    for number, ((path, _), stream) in enumerate(zip(files, streams, strict=True)):
        _write(stream, scratch / str(number))
        entries.append(File(path, mode=0o755, source=scratch / str(number)))
    return entries


def _safe(name: str, path: str) -> str:
    """A member's path without './' in front; refused where it is absolute, climbs, or is none."""
    parts = _parts(path)
    if path.startswith("/") or ".." in parts or "\\" in path or not path.isprintable():
        raise UserError(f"input '{name}': its archive holds an unsafe path: {path!r}")
    return "/".join(parts)


def _inside(name: str, path: str, target: str) -> str:
    """A link's target without '.' in it, refused where it leads out of the package."""
    landing = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
    plain = "/".join(_parts(target))
    if target.startswith("/") or landing == ".." or landing.startswith("../"):
        raise UserError(f"input '{name}': its link {path} leads outside: {target!r}")
    if not plain or "\\" in target or not target.isprintable():
        raise UserError(f"input '{name}': its link {path} has an odd target: {target!r}")
    return plain


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def _write(stream: IO[bytes] | None, target: Path) -> None:
    assert stream is not None, "only regular files are read"
    target.parent.mkdir(parents=True, exist_ok=True)
    with stream, target.open("wb") as out:
        shutil.copyfileobj(stream, out, 1 << 20)
