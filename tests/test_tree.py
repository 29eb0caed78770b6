"""Trees and tars: every byte set, every path inside, the index true."""

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import tree
from builder.tree import File, Link, Packed, Tree


def packed(entries: Tree) -> tuple[bytes, Packed]:
    out = io.BytesIO()
    found = tree.pack(entries, out)
    return out.getvalue(), found


SAMPLE = Tree.of(
    [
        File("units/nginx@.service", b"[Unit]\n"),
        File("bin/run", b"#!/bin/sh\n" * 100, 0o755),
        Link("units/multi-user.target.wants/nginx@a.service", "../nginx@.service"),
        Link("etc", "/etc/nginx"),
        File("empty", b"", 0o400),
        File("block", b"x" * 512),
        File("Fő", b"utf-8"),
    ]
)


def test_the_bytes_are_these_on_every_machine():
    data, found = packed(SAMPLE)
    assert found.size == len(data) == 8704
    assert found.digest == hashlib.sha256(data).hexdigest()
    assert found.digest == "53a1b329a880c5a1462ab7abf75344dedcc434456f3c6156ee131be54a4a9a1d"


def test_every_header_is_set():
    data, _ = packed(SAMPLE)
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        members = tar.getmembers()
    assert [one.name for one in members] == [
        *("Fő", "bin", "bin/run", "block", "empty", "etc", "units"),
        *("units/multi-user.target.wants", "units/multi-user.target.wants/nginx@a.service"),
        "units/nginx@.service",
    ]
    for one in members:
        assert (one.uid, one.gid, one.uname, one.gname, one.mtime) == (0, 0, "", "", 0)
        assert not one.pax_headers
    modes = {one.name: one.mode for one in members}
    assert modes["bin"] == 0o755
    assert modes["bin/run"] == 0o755
    assert modes["empty"] == 0o400
    assert data[-1024:] == bytes(1024)
    assert data[-1536:-1024] != bytes(512)


def test_gnu_tar_takes_it(tmp_path: Path):
    data, _ = packed(SAMPLE)
    done = subprocess.run(
        ["tar", "-x", "-C", tmp_path], input=data, capture_output=True, check=True
    )
    assert done.stderr == b""
    assert (tmp_path / "bin/run").read_bytes() == b"#!/bin/sh\n" * 100
    assert (tmp_path / "units/multi-user.target.wants/nginx@a.service").read_bytes() == b"[Unit]\n"


def test_order_of_the_input_and_the_surroundings_do_not_count(tmp_path: Path):
    before = os.umask(0o077)
    try:
        assert packed(Tree.of(reversed(SAMPLE.entries))) == packed(SAMPLE)
    finally:
        os.umask(before)


def test_a_file_on_disk_packs_as_its_bytes(tmp_path: Path):
    held = tmp_path / "held"
    held.write_bytes(b"y" * 3_000_000)
    held.chmod(0o600)
    from_disk = packed(Tree.of([File("a", mode=0o644, source=held)]))
    assert from_disk == packed(Tree.of([File("a", b"y" * 3_000_000)]))


def test_a_file_that_changes_while_it_is_packed_is_noticed(tmp_path: Path):
    held = tmp_path / "held"
    held.write_bytes(b"y" * 10)

    class Growing(io.BytesIO):
        def write(self, data: object) -> int:
            held.write_bytes(b"y" * 20)
            return 0

    with pytest.raises(AssertionError, match="changed while"):
        tree.pack(Tree.of([File("a", source=held)]), Growing())


NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\"),
    min_size=1,
    max_size=12,
).filter(lambda name: name not in {".", ".."})
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(PATHS, st.binary(max_size=1200), max_size=8))
def test_the_index_says_where_the_bytes_lie(contents: dict[str, bytes]):
    if tree.below(contents):
        return
    data, found = packed(Tree.of(File(path, content) for path, content in contents.items()))
    assert [one.path for one in found.index] == sorted(contents)
    for one in found.index:
        held = data[one.offset : one.offset + one.size]
        assert held == contents[one.path]
        assert one.digest == tree.digest(held)
        assert one.offset % 512 == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {one.name: one.offset_data for one in tar if one.isfile()} == {
            one.path: one.offset for one in found.index
        }


def test_a_link_has_a_target_and_nothing_else():
    _, found = packed(Tree.of([Link("a", "b")]))
    assert found.index[0].as_json() == {"path": "a", "target": "b"}
    assert (found.index[0].size, found.index[0].offset, found.index[0].digest) == (0, 0, "")


BAD_PATHS = [
    *("", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/.", "a/..", "a/../b", "../a"),
    *("a\\b", "a\0", "a\n", "a\x7f", "\x1b[2J"),
]


@pytest.mark.parametrize("path", BAD_PATHS)
def test_no_path_leaves_the_tree(path: str):
    for entry in (File(path), Link(path, "x")):
        with pytest.raises(AssertionError):
            Tree.of([entry])


@pytest.mark.parametrize("path", ["..a", "a..", "...", ".a", "a/..b", "-a", "a b"])
def test_dots_are_allowed_where_they_mean_nothing(path: str):
    assert len(Tree.of([File(path)])) == 1


BAD_TARGETS = ["", ".", "/", "a//b", "a/", "./a", "a\\b", "a\n", "..", "../..", "../../a/x"]


@pytest.mark.parametrize("target", [*BAD_TARGETS[:-3], "../../a", "../../a/x", "b/../../../x"])
def test_no_link_leaves_the_tree(target: str):
    with pytest.raises(AssertionError):
        Tree.of([Link("a/link", target)])


@pytest.mark.parametrize("target", ["b", "../b", "../a/b", "b/../c", "/etc/nginx", "..", "/a/../b"])
def test_a_link_may_lead_anywhere_inside(target: str):
    assert len(Tree.of([Link("a/link", target)])) == 1


@pytest.mark.parametrize("target", ["/..", "/../etc", "/a/../../b"])
def test_an_absolute_link_stays_in_the_guest(target: str):
    with pytest.raises(AssertionError, match="leads out"):
        Tree.of([Link("a", target)])


@pytest.mark.parametrize("mode", [0o666, 0o777, 0o4755, 0o2755, 0o1755, 0o200, 0])
def test_only_sane_modes(mode: int):
    with pytest.raises(AssertionError):
        Tree.of([File("a", mode=mode)])


def test_no_path_twice_and_none_below_another():
    with pytest.raises(AssertionError, match="stands twice"):
        Tree.of([File("a"), Link("a", "b")])
    for above in (File("a"), Link("a", "/etc")):
        with pytest.raises(AssertionError, match="'a/b/c' is below a file"):
            Tree.of([File("a-b"), above, File("a/b/c")])
    with pytest.raises(AssertionError, match="stands twice"):
        Tree.of([File("a")]) + Tree.of([File("a")])
    assert len(Tree.of([File("a")]) + Tree.of([File("b")])) == 2


def test_a_file_is_found_by_its_path():
    assert SAMPLE.file("block").data == b"x" * 512
    for path in ("gone", "etc"):
        with pytest.raises(KeyError):
            SAMPLE.file(path)


@pytest.mark.parametrize(
    "entry", [File("a/" * 80 + "x" * 101), File("x" * 101), Link("a", "x" * 101)]
)
def test_what_ustar_cannot_hold_is_refused(entry: tree.Entry):
    with pytest.raises(ValueError, match="too long"):
        packed(Tree.of([entry]))


def test_long_paths_are_split():
    path = "/".join(["f" * 50] * 4 + ["name"])
    data, _ = packed(Tree.of([File(path, b"x")]))
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert path in tar.getnames()
