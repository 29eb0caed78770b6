"""Archives as a stranger's work: what would leave the folder, or is not what it should be."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from builder.problems import UserError
from tests.inputs.helpers import address, deb, digest, get, left, lock, member, tar

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
    members = [plain, member("./usr/lib/a.so", LINK, "a.so.1"), member("./usr/bin/a")]
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
def test_what_is_no_archive_is_refused(how: str, tmp_path: Path) -> None:
    source = tmp_path / "tool"
    source.write_bytes(b"no archive at all")
    files = {"unpack": how, "files": {"tool": "*/tool"}}
    entry = address(source.as_uri(), source.read_bytes(), **files)
    with pytest.raises(UserError, match="its archive can't be read"):
        get(lock(tmp_path, tool=entry), "tool", tmp_path / "cache")
