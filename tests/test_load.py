"""builder/load.py and builder/inherit.py: from files to checked values, and what hinders it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from builder import commands, inherit
from builder.cli import exit_code
from builder.load import load
from builder.problems import ConfigError, UserError

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "tests" / "problems" / "base"
SITE = (BASE / "site.yaml").read_text(encoding="utf-8")
HOST = (BASE / "hosts" / "base.yaml").read_text(encoding="utf-8")

Edit = Callable[[Path], object]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a good site and host."""
    write(tmp_path, "site.yaml", SITE)
    write(tmp_path, "hosts/base.yaml", HOST)
    return tmp_path


def write(root: Path, name: str, text: str | bytes) -> None:
    path = root / "configs" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def said(root: Path) -> list[str]:
    """The headlines of all problems; none where the configuration is good."""
    try:
        load(root)
    except ConfigError as error:
        return [problem.headline() for problem in error.problems]
    return []


# What is read.


def test_a_site_and_its_hosts_in_order(root: Path) -> None:
    for name in ("zeta", "alpha"):
        write(root, f"hosts/{name}.yaml", f"host: {name}\nlike: base\n")
    config = load(root)
    assert config.site.name == "home"
    assert [host.name for host in config.hosts] == ["alpha", "base", "zeta"]
    assert config.trust == {"alpha": None, "base": None, "zeta": None}


def test_only_some_hosts(root: Path) -> None:
    write(root, "hosts/other.yaml", "host: other\nlike: base\n")
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


def test_an_unreadable_file(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)  # root may read everything
    with pytest.raises(UserError, match=r"^configs/site.yaml can't be read: Permission denied$"):
        load(root)


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


# `like`.


def test_mappings_are_merged_and_all_else_is_replaced() -> None:
    documents: dict[str, inherit.Document] = {
        "a": {"host": "a", "x": {"k": 1, "l": [1, 2], "gone": 1}, "keep": True, "t": "text"},
        "b": {
            "host": "b",
            "like": "a",
            "x": {"l": [3], "gone": None, "m": {"n": 1}},
            "t": {"o": 2},
        },
    }
    assert inherit.whole("b", documents) == {
        "host": "b",
        "like": "a",
        "x": {"k": 1, "l": [3], "m": {"n": 1}},
        "keep": True,
        "t": {"o": 2},
    }
    assert documents["a"]["x"] == {"k": 1, "l": [1, 2], "gone": 1}, "a document is never changed"


def test_the_nearest_host_wins_and_a_name_is_never_taken_over() -> None:
    documents: dict[str, inherit.Document] = {
        "a": {"host": "a", "x": 1, "y": 1, "z": 1},
        "b": {"host": "b", "like": "a", "x": 2, "y": 2},
        "c": {"like": "b", "x": 3},
    }
    assert inherit.chain("c", documents) == ("b", "a")
    assert inherit.whole("c", documents) == {"like": "b", "x": 3, "y": 2, "z": 1}


def test_a_circle_that_one_only_leads_into_is_told_of_those_in_it(root: Path) -> None:
    for name, like in (("a", "b"), ("b", "c"), ("c", "b")):
        write(root, f"hosts/{name}.yaml", f"host: {name}\nlike: {like}\n")
    circles = [line for line in said(root) if "[like-cycle]" in line]
    assert [line.partition(":")[0] for line in circles] == [
        "configs/hosts/b.yaml",
        "configs/hosts/c.yaml",
    ]
    assert "b → c → b" in circles[0]


def test_what_a_base_does_wrong_is_told_once_and_there(root: Path) -> None:
    write(root, "hosts/base.yaml", HOST.replace("id: 111", "id: 103"))
    for i in range(20):
        write(root, f"hosts/h{i}.yaml", f"host: h{i}\nlike: base\n")
    expected = "configs/hosts/base.yaml:11:12: id 103 is also that of 'app' [duplicate-id]"
    assert said(root) == [expected]


def test_what_a_value_is_wrong_with_names_the_host_that_sees_it(root: Path) -> None:
    write(root, "hosts/other.yaml", "host: other\nlike: base\nguests: {app: {id: 103}}\n")
    expected = "base.yaml:11:12: id 103 is also that of 'app' (host 'other') [duplicate-id]"
    assert [line.removeprefix("configs/hosts/") for line in said(root)] == [expected]


def test_a_value_from_defaults_is_blamed_there(root: Path) -> None:
    write(root, "hosts/base.yaml", HOST + "defaults: {memory: 20001KiB}\n")
    expected = "configs/hosts/base.yaml:13:20: `memory` is counted in whole MiB [not-whole]"
    assert said(root) == [expected], "once, though every guest has it"
    own = HOST.replace("id: 111,", "id: 111, memory: 20001KiB,")
    write(root, "hosts/base.yaml", own + "defaults: {memory: 1GiB}\n")
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


# The command.


def run_check(root: Path, *, json_: bool, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(commands, "ROOT", root)
    return exit_code(lambda: commands.check(json_), json=json_)


def test_check_says_that_all_is_good(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_check(root, json_=False, monkeypatch=monkeypatch) == 0
    assert capsys.readouterr().out == "configs/ is good: base\n"
    assert run_check(root, json_=True, monkeypatch=monkeypatch) == 0
    assert json.loads(capsys.readouterr().out) == {"problems": []}


def test_check_ends_with_1_and_tells_problems(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(root, "hosts/base.yaml", HOST.replace("id: 111", "id: 103"))
    assert run_check(root, json_=False, monkeypatch=monkeypatch) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.endswith("           ^\n1 problem\n")
    assert run_check(root, json_=True, monkeypatch=monkeypatch) == 1
    assert json.loads(capsys.readouterr().out) == {
        "problems": [
            {
                "file": "configs/hosts/base.yaml",
                "line": 11,
                "column": 12,
                "message": "id 103 is also that of 'app'",
                "code": "duplicate-id",
            }
        ]
    }


WATCH = """
import os, sys
from pathlib import Path

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.chmod",
           "os.truncate", "os.utime", "shutil.copyfile", "tempfile.mkstemp", "tempfile.mkdtemp"}

def watch(event, values):
    if event in CHANGES or (event == "open" and values[2] & WRITING):
        os.write(1, f"{event} {values[0]}\\n".encode())

sys.dont_write_bytecode = True
from builder import commands
commands.ROOT = Path(sys.argv[1])
sys.addaudithook(watch)
if len(sys.argv) > 2:
    Path(sys.argv[2]).write_text("")
commands.check(False)
"""


def watched(*arguments: object) -> list[str]:
    """What `check` printed and wrote, in a process that tells each write."""
    command = [sys.executable, "-c", WATCH, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_check_writes_nothing(root: Path) -> None:
    assert watched(root) == ["configs/ is good: base"]


def test_a_write_would_be_seen(root: Path, tmp_path: Path) -> None:
    assert watched(root, tmp_path / "x") == [f"open {tmp_path / 'x'}", "configs/ is good: base"]
