"""Archives as a stranger's work: what would leave the folder, or is not what it should be."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.inputs import recipe
from builder.inputs.lock import Pin, Url
from builder.problems import UserError
from tests.inputs.helpers import address, deb, digest, get, left, lock, member, names, tar

LINK, HARD, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE


def layer_of(members: list[tarfile.TarInfo], tmp_path: Path, broken: bytes | None = None) -> Path:
    data = deb("tool", "1", members) if broken is None else broken
    source = tmp_path / "tool.deb"
    source.write_bytes(data)
    pin = {"package": "tool", "version": "1", "sha256": digest(data), "sources": [source.as_uri()]}
    entry: dict[str, object] = {"kind": "debian", "suite": "bookworm"}
    entry |= {"packages": [pin], "keep": ["usr/*"]}
    return get(lock(tmp_path, tool=entry), "tool", tmp_path / "cache")[0].tar_path


@pytest.fixture(autouse=True)
def no_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """APT knows no mirror, so that the package comes from its further source."""
    config = tmp_path / "apt.conf"
    folder = tmp_path / "apt"
    (folder / "lists" / "partial").mkdir(parents=True)
    keys = ["Etc::parts", "Etc::main", "Etc::sourcelist", "Etc::sourceparts"]
    lines = [f'Dir::{key} "/dev/null";' for key in keys]
    lines += [f'Dir::State "{folder}";', f'Dir::Cache "{folder}";']
    config.write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("APT_CONFIG", str(config))


@pytest.mark.needs("apt-get")
@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([member("../evil")], "its archive holds an unsafe path: '../evil'"),
        ([member("usr/../../evil")], "its archive holds an unsafe path: 'usr/../../evil'"),
        ([member("/etc/evil")], "its archive holds an unsafe path: '/etc/evil'"),
        ([member("usr/a\\b")], "its archive holds an unsafe path: 'usr/a\\\\b'"),
        ([member("usr/a", LINK, "/etc/shadow")], "its link usr/a leads outside: '/etc/shadow'"),
        ([member("usr/a", LINK, "../../b")], "its link usr/a leads outside: '../../b'"),
        ([member("usr/a", LINK, "b/../../../c")], "its link usr/a leads outside: 'b/../../../c'"),
        ([member("usr/a\nb")], "its archive holds an unsafe path: 'usr/a\\nb'"),
        ([member("usr/a", LINK, "b\nc")], "its link usr/a has an odd target: 'b\\nc'"),
        ([member("usr/a", LINK, "./")], "its link usr/a has an odd target: './'"),
        (
            [member("usr/a", LINK, "b" * 101)],
            "a file of it fits into no layer: linkname is too long",
        ),
        ([member("usr/a", HARD, "etc/b")], "usr/a is neither a file nor a link"),
        ([member("usr/a", DEVICE)], "usr/a is neither a file nor a link"),
        (
            [member("usr/a", LINK, "b"), member("usr/a/c")],
            "usr/a/c lies below a file or a link",
        ),
        ([member("usr/a"), member("usr/a")], "usr/a is twice in its packages"),
        ([member("etc/a")], "no package has a file like 'usr/*'"),
    ],
)
def test_an_unsafe_package_is_refused(
    members: list[tarfile.TarInfo], told: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as error:
        layer_of(members, tmp_path)
    assert error.value.message == f"input 'tool': {told}"
    assert [path for path in left(tmp_path / "cache") if not path.startswith("files/")] == []


@pytest.mark.needs("apt-get")
def test_links_within_and_modes_are_kept(tmp_path: Path) -> None:
    plain = member("./usr/lib/a.so.1")
    plain.mode = 0o600
    members = [plain, member("./usr/lib/a.so", LINK, ".//a.so.1"), member("./usr/bin/a")]
    with tarfile.open(layer_of(members, tmp_path)) as archive:
        found = {each.name: each for each in archive if not each.isdir()}
    root = "programs/tool/usr"
    assert found[f"{root}/lib/a.so"].linkname == "a.so.1"
    assert found[f"{root}/lib/a.so.1"].mode == 0o644
    assert found[f"{root}/bin/a"].mode == 0o755
    assert {(each.uid, each.mtime) for each in found.values()} == {(0, 0)}


@pytest.mark.needs("apt-get")
@pytest.mark.parametrize("broken", [b"not a package", deb("tool", "1", [member("usr/a")])[:-1200]])
def test_a_broken_package_is_refused(broken: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="input 'tool': "):
        layer_of([], tmp_path, broken)


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([member("../tool")], "its archive holds an unsafe path: '../tool'"),
        ([member("a/tool"), member("b/tool")], "2 files of its archive are like '*/tool'"),
        ([member("a/other")], "0 files of its archive are like '*/tool'"),
        ([member("a/tool", LINK, "/etc/shadow")], "a/tool is no regular file"),
    ],
)
def test_an_unfit_tar_is_refused(members: list[tarfile.TarInfo], told: str, tmp_path: Path) -> None:
    source = tmp_path / "tool.tar"
    source.write_bytes(tar(members))
    files = {"unpack": "tar", "files": {"tool": "*/tool"}}
    entry = address(source.as_uri(), source.read_bytes(), **files)
    with pytest.raises(UserError) as error:
        get(lock(tmp_path, tool=entry), "tool", tmp_path / "cache")
    assert error.value.message == f"input 'tool': {told}"


@pytest.mark.parametrize("how", ["tar", "zip"])
def test_one_file_is_taken_from_an_archive(how: str, tmp_path: Path) -> None:
    source = tmp_path / "archive"
    if how == "tar":
        source.write_bytes(tar([member("tool-1/bin/tool"), member("tool-1/LICENCE")]))
    else:
        with zipfile.ZipFile(source, "w") as archive:
            archive.writestr("tool-1/bin/tool", "program")
            archive.writestr("tool-1/LICENCE", "licence")
    files = {"unpack": how, "files": {"sbin/tool": "*/bin/tool"}}
    entry = address(source.as_uri(), source.read_bytes(), **files)
    got, _ = get(lock(tmp_path, tool=entry), "tool", tmp_path / "cache")
    assert names(got.tar_path) == ["programs/tool/sbin/tool"]


def archived(tmp_path: Path, how: str, data: bytes) -> Path:
    """The layer's tar of the member that is like '*/tool' in an archive of `data`."""
    source = tmp_path / "archive"
    source.write_bytes(data)
    entry = address(source.as_uri(), data, unpack=how, files={"tool": "*/tool"})
    return get(lock(tmp_path, tool=entry), "tool", tmp_path / "cache")[0].tar_path


def zipped(*members: tuple[str, int]) -> bytes:
    """A zip of members by name and file type."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kind in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = (kind | 0o755) << 16 if kind else 0
            archive.writestr(info, b"" if name.endswith("/") else b"program " * 100)
    return out.getvalue()


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ([("../tool", stat.S_IFREG)], "its archive holds an unsafe path: '../tool'"),
        ([("a/tool", stat.S_IFLNK)], "a/tool is no regular file"),
        ([("a/tool", stat.S_IFCHR)], "a/tool is no regular file"),
        ([("a/tool/", stat.S_IFDIR)], "0 files of its archive are like '*/tool'"),
        (
            [("a/tool", stat.S_IFREG), ("./a/tool", stat.S_IFREG)],
            "2 files of its archive are like '*/tool'",
        ),
    ],
)
def test_an_unfit_zip_is_refused(members: list[tuple[str, int]], told: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        archived(tmp_path, "zip", zipped(*members))
    assert error.value.message == f"input 'tool': {told}"


def test_a_zip_of_another_system_and_a_folder_of_the_same_name_do_no_harm(tmp_path: Path) -> None:
    data = zipped(("a/tool/", stat.S_IFDIR), ("b/tool", 0))
    with tarfile.open(archived(tmp_path, "zip", data)) as archive:
        assert "programs/tool/tool" in archive.getnames()


def with_password(data: bytes) -> bytes:
    """The zip with the flags set that say that its member is encrypted."""
    local, central = data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8
    changed = bytearray(data)
    changed[local] |= 1
    changed[central] |= 1
    return bytes(changed)


def test_a_zip_with_a_password_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"its archive can't be read: .* encrypted"):
        archived(tmp_path, "zip", with_password(zipped(("a/tool", stat.S_IFREG))))


TAR = tar([member("a/tool")], random.Random(1).randbytes(3000) + b"tool " * 3000)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, None])
def test_a_broken_archive_is_read_or_refused(
    pack: Callable[[bytes], bytes] | None, tmp_path: Path
) -> None:
    data = pack(TAR) if pack else zipped(("a/tool", stat.S_IFREG))
    pin = Pin((tmp_path / "archive").as_uri(), "1", digest(data))
    entry = Url("tool", "amd64", pin, "tar" if pack else "zip", (("tool", "*/tool"),))
    chance, told = random.Random(7), list[str]()
    for _ in range(400):
        broken = bytearray(data)
        for _ in range(chance.randint(1, 3)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        (tmp_path / "archive").write_bytes(broken[: chance.randint(0, 5 * len(broken))])
        try:
            recipe.tree(entry, [tmp_path / "archive"], tmp_path / "scratch")
        except UserError as error:
            told.append(error.message)
    assert len(told) > 50
    assert all(line.startswith("input 'tool': ") for line in told)


@pytest.mark.parametrize("how", ["tar", "zip"])
def test_what_is_no_archive_is_refused(how: str, tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(b"no archive at all")
    files = {"unpack": how, "files": {"tool": "*/tool"}}
    entry = address(source.as_uri(), source.read_bytes(), **files)
    with pytest.raises(UserError, match="its archive can't be read"):
        get(lock(tmp_path, tool=entry), "tool", tmp_path / "cache")
