"""builder/emit/compiled.py: what is kept of a template is taken only as what was made from it."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jinja2
import pytest

from builder import emit
from builder.emit import compiled
from builder.emit.template import _environment

TEXT = "listen {{ port }};\n{{ 'a b' | nginx }}\n"


class Templates:
    """A folder with templates, and which of them were compiled."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.compiled: list[str | None] = []

    def rendered(self, name: str = "a.j2") -> str:
        """What a program that starts now makes of the template."""
        _environment.cache_clear()
        return emit.template(name, self.root)(port=80).decode()

    def entry(self) -> Path:
        """The one that was kept."""
        (found,) = (self.root / "__pycache__").iterdir()
        return found


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Templates:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    monkeypatch.setattr(sys, "pycache_prefix", None)
    found, compiling = Templates(tmp_path), jinja2.Environment.compile

    def noted(*args: object, **options: object) -> object:
        found.compiled.append(str(args[2]))
        return compiling(*args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(jinja2.Environment, "compile", noted)
    (tmp_path / "a.j2").write_text(TEXT)
    return found


def test_a_template_is_compiled_once(templates: Templates) -> None:
    assert templates.rendered() == 'listen 80;\n"a b"\n'
    assert templates.rendered() == 'listen 80;\n"a b"\n'
    assert templates.compiled == ["a.j2"]
    assert templates.entry().suffix == ".pyc"


def test_a_template_that_has_changed_is_compiled_again(templates: Templates) -> None:
    templates.rendered()
    (templates.root / "a.j2").write_text("other {{ port }}\n")
    assert templates.rendered() == templates.rendered() == "other 80\n"
    assert len(templates.compiled) == 2


def of_another(entry: Path) -> bytes:
    """A whole entry, made from another template."""
    (entry.parents[1] / "b.j2").write_text("another\n")
    _environment.cache_clear()
    emit.template("b.j2", entry.parents[1])
    (other,) = set(entry.parent.iterdir()) - {entry}
    return other.read_bytes()


def turned(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"no code",
        lambda entry: entry.read_bytes()[:32],
        lambda entry: entry.read_bytes()[:-1],
        lambda entry: entry.read_bytes() + b"\0",
        lambda entry: turned(entry.read_bytes(), 0),
        lambda entry: turned(entry.read_bytes(), -20),
        lambda entry: entry.read_bytes().replace(b"listen", b"loosen"),
        of_another,
    ],
)
def test_an_entry_that_is_not_whole_is_none(
    templates: Templates, damage: Callable[[Path], bytes]
) -> None:
    right = templates.rendered()
    entry = templates.entry()
    entry.write_bytes(damage(entry))
    assert templates.rendered() == templates.rendered() == right
    assert templates.compiled.count("a.j2") == 2


@pytest.mark.parametrize(
    "other",
    [
        lambda patch: patch.setattr(jinja2, "__version__", "3.99"),
        lambda patch: patch.setattr(sys, "version", "3.99"),
        lambda patch: patch.setattr(compiled, "_HERE", Path(__file__).parent),
    ],
    ids=["jinja2", "python", "the builder"],
)
def test_an_entry_of_another_version_is_none(
    templates: Templates,
    monkeypatch: pytest.MonkeyPatch,
    other: Callable[[pytest.MonkeyPatch], None],
) -> None:
    templates.rendered()
    with monkeypatch.context() as patch:
        other(patch)
        templates.rendered()
    assert len(templates.compiled) == 2


def test_filters_of_constants_are_in_what_is_compiled(templates: Templates) -> None:
    """Why an entry follows from this package's code too."""
    templates.rendered()
    assert b'"a b"' in templates.entry().read_bytes()


def test_where_nothing_can_be_kept_nothing_is(templates: Templates) -> None:
    (templates.root / "__pycache__").write_text("in the way")
    assert templates.rendered() == templates.rendered() == 'listen 80;\n"a b"\n'
    assert len(templates.compiled) == 2


def test_a_folder_in_the_place_of_an_entry_stays(templates: Templates) -> None:
    templates.rendered()
    entry = templates.entry()
    entry.unlink()
    entry.mkdir()
    assert templates.rendered() == templates.rendered() == 'listen 80;\n"a b"\n'
    assert templates.entry().is_dir()


def test_a_full_disk_leaves_nothing(templates: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        write(path, data[:40])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    assert templates.rendered() == 'listen 80;\n"a b"\n'
    assert not list((templates.root / "__pycache__").iterdir())


def test_nothing_is_kept_where_python_is_told_so(
    templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    templates.rendered()
    assert [path.name for path in templates.root.iterdir()] == ["a.j2"]


def test_many_at_once_take_and_leave_whole_entries(templates: Templates) -> None:
    code = (
        "import sys; from pathlib import Path; from builder import emit; sys.stdout.write("
        "emit.template('a.j2', Path(sys.argv[1]))(port=80).decode())"
    )
    command = [sys.executable, "-c", code, str(templates.root)]
    started = [
        subprocess.Popen(command, stdout=subprocess.PIPE, env={"PYTHONPATH": "."}, text=True)
        for _ in range(4)
    ]
    assert {one.communicate()[0] for one in started} == {'listen 80;\n"a b"\n'}
    assert templates.rendered() == 'listen 80;\n"a b"\n'
    assert not templates.compiled
    assert templates.entry()
