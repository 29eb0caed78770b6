"""builder/load.py: from files to checked values, and what hinders it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.load import load
from builder.problems import ConfigError, UserError
from tests.written import HOST, ROOT, said, write, written

Edit = Callable[[Path], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return written(tmp_path)


# What is read.


def test_a_site_and_its_hosts_in_order(root: Path) -> None:
    for name in ("zeta", "alpha"):
        write(root, f"hosts/{name}.yaml", f"host: {name}\nlike: base\nreach: {name}\n")
    config = load(root)
    assert config.site.name == "home"
    assert [host.name for host in config.hosts] == ["alpha", "base", "zeta"]
    assert config.trust == {"alpha": None, "base": None, "zeta": None}


def test_only_some_hosts(root: Path) -> None:
    write(root, "hosts/other.yaml", "host: other\nlike: base\nreach: other\n")
    assert [host.name for host in load(root, ["other"]).hosts] == ["other"]
    with pytest.raises(UserError, match=r"host 'ohter' is not in .*did you mean 'other'\?"):
        load(root, ["ohter"])


def test_a_problem_elsewhere_is_told_whichever_hosts_are_asked_for(root: Path) -> None:
    write(root, "hosts/other.yaml", "host: other\nlike: base\nreach: root@192.0.2.99\n")
    with pytest.raises(ConfigError, match="reach-lost"):
        load(root, ["base"])


def test_the_reference_configuration_is_good() -> None:
    assert said(ROOT) == []


@pytest.mark.parametrize("name", [".#base.yaml", ".base.yaml", "base.yaml~", "README.md", "x.bak"])
def test_what_editors_leave_behind_is_no_host(root: Path, name: str) -> None:
    (root / "configs/hosts" / name).symlink_to("nowhere")
    assert [host.name for host in load(root).hosts] == ["base"]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n# the end\n",
    ],
    ids=["byte order mark", "CRLF", "no last line feed", "comment at the end"],
)
def test_other_ways_to_store_a_text_mean_the_same(root: Path, change: Callable[[str], str]) -> None:
    before = load(root)
    write(root, "hosts/base.yaml", change(HOST))
    assert load(root) == before


def test_lines_count_the_same_with_crlf(root: Path) -> None:
    bad = HOST.replace("id: 111", "id: 103")
    write(root, "hosts/base.yaml", bad)
    expected = said(root)
    assert expected
    write(root, "hosts/base.yaml", "\ufeff" + bad.replace("\n", "\r\n"))
    assert said(root) == expected


# What is not there, or not what it should be.

MISTAKES: dict[str, tuple[Edit, str]] = {
    "no configs": (
        lambda c: c.rename(c.with_name("config")),
        "there is no folder configs/\n  it holds site.yaml, and hosts/NAME.yaml for each host",
    ),
    "configs is a file": (
        lambda c: (c.rename(c.with_name("config")), c.write_text("")),
        "there is no folder configs/\n  it holds site.yaml, and hosts/NAME.yaml for each host",
    ),
    "no site": (
        lambda c: (c / "site.yaml").unlink(),
        "configs/site.yaml is not there\n  it describes what all hosts share",
    ),
    "site.yml": (
        lambda c: (c / "site.yaml").rename(c / "site.yml"),
        "configs/site.yml would not be read\n  call it configs/site.yaml",
    ),
    "no hosts": (
        lambda c: (c / "hosts").rename(c / "host"),
        "no host is described\n  describe one in configs/hosts/NAME.yaml",
    ),
    "hosts is empty": (
        lambda c: (c / "hosts/base.yaml").unlink(),
        "no host is described\n  describe one in configs/hosts/NAME.yaml",
    ),
    "hosts is a file": (
        lambda c: ((c / "hosts").rename(c / "host"), (c / "hosts").write_text("")),
        "no host is described\n  describe one in configs/hosts/NAME.yaml",
    ),
    "a second host as yml": (
        lambda c: (c / "hosts/other.yml").write_text("host: other\nlike: base\n"),
        "configs/hosts/other.yml would not be read\n  call it configs/hosts/other.yaml",
    ),
    "a folder for a host": (
        lambda c: (c / "hosts/other.yaml").mkdir(),
        "configs/hosts/other.yaml is a folder, not a file",
    ),
    "a folder for the site": (
        lambda c: ((c / "site.yaml").rename(c / "old"), os.mkdir(c / "site.yaml")),
        "configs/site.yaml is a folder, not a file",
    ),
    "a pipe for a host": (
        lambda c: os.mkfifo(c / "hosts/other.yaml"),
        "configs/hosts/other.yaml is a device or a pipe, not a file",
    ),
    "a device for a host": (
        lambda c: (c / "hosts/other.yaml").symlink_to("/dev/zero"),
        "configs/hosts/other.yaml is a device or a pipe, not a file",
    ),
    "a link to nothing": (
        lambda c: (c / "hosts/other.yaml").symlink_to("nowhere"),
        "configs/hosts/other.yaml is not there",
    ),
    "a link to itself": (
        lambda c: (c / "hosts/other.yaml").symlink_to("other.yaml"),
        "configs/hosts/other.yaml can't be read: Too many levels of symbolic links",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_with_files_is_told_in_plain_words(root: Path, name: str) -> None:
    edit, expected = MISTAKES[name]
    edit(root / "configs")
    with pytest.raises(UserError) as caught:
        load(root)
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("owner", "call", "name"),
    [(Path, "open", "configs/site.yaml"), (os, "listdir", "configs/hosts")],
)
def test_what_may_not_be_read(
    root: Path, monkeypatch: pytest.MonkeyPatch, owner: object, call: str, name: str
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(owner, call, refuse)  # root may read everything
    with pytest.raises(UserError, match=f"^{name} can't be read: Permission denied$"):
        load(root)


def test_a_file_of_any_size_is_not_read_whole(root: Path) -> None:
    with (root / "configs/hosts/base.yaml").open("wb") as file:
        file.truncate(1 << 40)
    expected = "configs/hosts/base.yaml:1:1: the file is larger than 4 MiB [yaml-too-large]"
    assert said(root) == [expected]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("site.yaml", b"", "configs/site.yaml:1:1: the file is empty"),
        ("hosts/base.yaml", b"# nothing yet\n", "configs/hosts/base.yaml:1:1: the file is empty"),
        ("hosts/base.yaml", b"host: base\n\tlike: x\n", "base.yaml:2:1: a tab can't indent"),
        ("hosts/base.yaml", b"host: \xe9\n", "base.yaml:1:7: byte 0xe9 is not UTF-8"),
        ("hosts/base.yaml", b"\0\1\2ELF", "base.yaml:1:1: NUL can't stand in a configuration"),
        ("hosts/base.yaml", HOST.encode("utf-16"), "base.yaml:1:1: byte 0xff is not UTF-8"),
    ],
)
def test_a_text_that_is_none(root: Path, name: str, text: bytes, expected: str) -> None:
    write(root, name, text)
    assert expected in said(root)[0]


def test_syntax_of_all_files_is_told_at_once(root: Path) -> None:
    write(root, "site.yaml", "site: [home\n")
    write(root, "hosts/base.yaml", "host: {base\n")
    assert [line.partition(":")[0] for line in said(root)] == [
        "configs/hosts/base.yaml",
        "configs/site.yaml",
    ]


def test_a_file_name_that_is_no_text(root: Path) -> None:
    with open(os.fsencode(root / "configs/hosts") + b"/b\xff.yaml", "wb"):
        pass
    with pytest.raises(UserError, match=r"^configs/hosts/'b\\udcff.yaml' can't be a host's file"):
        load(root)


# `reach`.

SIX = "gateway: 192.0.2.1, address6: '2001:db8::10/64', gateway6: '2001:db8::1'}"


def reached_by(root: Path, reach: str) -> None:
    """Write the base with another `reach`, and an IPv6 address on its uplink."""
    text = HOST.replace("gateway: 192.0.2.1}", SIX).replace("root@192.0.2.10", f"'{reach}'")
    write(root, "hosts/base.yaml", text)


@pytest.mark.parametrize(
    ("reach", "user", "address"),
    [
        ("192.0.2.10", "root", "192.0.2.10"),
        ("admin@node-1.example.org", "admin", "node-1.example.org"),
        ("admin@pve1", "admin", "pve1"),
        ("root@2001:db8::10", "root", "2001:db8::10"),
        ("2001:DB8::10", "root", "2001:DB8::10"),
        ("root@[2001:db8::10]", "root", "2001:db8::10"),
    ],
)
def test_a_host_is_reached_as_ssh_would(root: Path, reach: str, user: str, address: str) -> None:
    reached_by(root, reach)
    (host,) = load(root).hosts
    assert (host.user, host.reach) == (user, address)


@pytest.mark.parametrize(
    "reach",
    [
        *("root@[2001:db8::10]:22", "[2001:db8::10", "root@[pve1]", "root@", "@pve1", "a b", ""),
        *("-lroot", "root@-Gx", "Root@pve1", "root@fe80::1%eth0", "root@pve1/x"),
    ],
)
def test_what_ssh_would_take_for_something_else(root: Path, reach: str) -> None:
    reached_by(root, reach)
    (line,) = said(root)
    expected = f"'reach' must be USER@ADDRESS, as for ssh and without a port, not '{reach}'"
    assert line == f"configs/hosts/base.yaml:3:8: {expected} [wrong-format]"


@pytest.mark.parametrize("reach", ["root@192.0.2.10:22", "root@192.0.2", "root@[:::]", "a@::1:x"])
def test_what_is_neither_an_address_nor_a_name(root: Path, reach: str) -> None:
    reached_by(root, reach)
    assert [line.rpartition(" ")[2] for line in said(root)] == ["[wrong-reach]"]


def test_a_value_from_defaults_is_blamed_there(root: Path) -> None:
    write(root, "hosts/base.yaml", HOST.replace("defaults: {", "defaults: {memory: 20001KiB, "))
    expected = "configs/hosts/base.yaml:13:20: `memory` is counted in whole MiB [not-whole]"
    assert said(root) == [expected], "once, though every guest has it"
    own = HOST.replace("id: 111,", "id: 111, memory: 20001KiB,")
    write(root, "hosts/base.yaml", own.replace("defaults: {", "defaults: {memory: 1GiB, "))
    assert all(line.startswith("configs/hosts/base.yaml:12:26: ") for line in said(root))


def test_a_secret_is_not_printed(root: Path) -> None:
    secret = "hunter2hunter2"
    write(
        root, "hosts/other.yaml", f"host: other\nlike: base\nca: {{password: {secret}, kye: a}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(root)
    text = "\n".join(problem.render() for problem in caught.value.problems)
    assert "[literal-secret]" in text
    assert "[unknown-key]" in text
    assert secret not in text
