"""What `check` says, whole: each code with a bad and a good example in tests/problems.

`PHOENIX_WRITE_CASES=1 ./invoke test -k diagnostics` writes `expected` anew; what changed is git's
to show.
"""

from __future__ import annotations

import ast
import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import commands
from builder.codes import CODES
from builder.codes.page import Case, cases
from builder.load import load
from builder.problems import ConfigError, Finding

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "tests" / "problems"
CASES = cases(FOLDER)
# What depends on the day is told by commands that look at a clock, never by `check`; and a file of
# 4 MiB is made, not kept (tests/source).
ELSEWHERE = {"ca-too-early", "ca-expired", "ca-ends", "yaml-too-large"}
WRITE = bool(os.environ.get("PHOENIX_WRITE_CASES"))


def assembled(root: Path, documents: Path) -> Path:
    """A root whose configs/ holds the base with `documents` on top."""
    for folder in (FOLDER / "base", documents):
        shutil.copytree(folder, root / "configs", dirs_exist_ok=True)
    return root


def told(root: Path) -> str:
    """All that `check` says of the configuration in `root`; "" where it is good."""
    try:
        load(root)
    except ConfigError as error:
        return "".join(f"{problem.render()}\n" for problem in error.problems)
    return ""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_bad_example_is_told(case: Case, tmp_path: Path) -> None:
    said = told(assembled(tmp_path, case.bad))
    if WRITE:
        (case.bad.parent / "expected").write_text(said, encoding="utf-8")
    else:
        assert said == case.expected
    assert f"[{case.code}]" in said


@pytest.mark.parametrize("case", [c for c in CASES if c.good], ids=lambda case: case.name)
def test_a_good_example_is_good(case: Case, tmp_path: Path) -> None:
    assert case.good is not None
    assert told(assembled(tmp_path, case.good)) == ""


def test_the_base_is_good(tmp_path: Path) -> None:
    assert told(assembled(tmp_path, FOLDER / "base")) == ""


# Codes.

MAKERS = {
    *("Finding", "Problem", "Fault", "finding", "unexpected"),
    *("problem_at", "repeated", "_tell", "_expected", "_counted"),
}
"""Functions that take a code."""


def emitted(source: str) -> set[str]:
    """The codes in a module: texts in the shape of one that are handed to a maker, returned in a
    tuple, or assigned to something called `code`."""
    found: list[ast.expr] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func).rpartition(".")[2] in MAKERS:
                found += node.args
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).endswith("code"):
            found.append(node.value)
        elif isinstance(node, ast.Return) and node.value is not None:
            found += [node.value] if isinstance(node.value, ast.Tuple) else []
    return {text for node in found for text in texts(node) if text in CODES or has_shape(text)}


def has_shape(text: str) -> bool:
    words = text.split("-")
    return len(words) > 1 and all(word.isascii() and word.islower() for word in words)


def texts(node: ast.expr) -> Iterator[str]:
    """The texts that an expression can be: itself, either branch, or the parts of a tuple."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.IfExp):
        yield from (*texts(node.body), *texts(node.orelse))
    elif isinstance(node, ast.Tuple):
        yield from (text for part in node.elts for text in texts(part))


def test_each_code_is_registered_and_each_registered_is_emitted() -> None:
    modules = (p for p in (ROOT / "builder").rglob("*.py") if "codes" not in p.parts)
    sources = [path.read_text(encoding="utf-8") for path in modules]
    assert set().union(*map(emitted, sources)) == set(CODES)


@pytest.mark.parametrize(
    "line",
    [
        "yield Finding(place, message, 'new-code')",
        "yield problems.Finding(place, message, 'a-code' if x else 'new-code')",
        "self._tell(mark, 'new-code', message)",
        "return mark, 'new-code', message",
        "code = 'new-code'",
        "self.code = 'new-code'",
        "TELLERS = {'x': _expected('new-code')}",
    ],
)
def test_a_new_code_would_be_seen(line: str) -> None:
    assert "new-code" in emitted(f"def f():\n    {line}\n")


def test_each_code_has_a_bad_and_a_good_example() -> None:
    bad = {case.code for case in CASES}
    good = {case.code for case in CASES if case.good}
    assert bad == set(CODES) - ELSEWHERE
    assert bad - good == set()


@pytest.mark.parametrize("code", CODES)
def test_a_code_is_told_in_sentences(code: str) -> None:
    told = CODES[code]
    assert told.title.endswith(".")
    assert "." not in told.title[:-1].replace("`.", "").replace("..", "")
    assert told.why.endswith(".")


# Branches.

RULES = ("checks", "checks/*", "inherit", "load")


def makers(path: Path) -> set[tuple[str, int]]:
    """File and line of each place in a module that makes a Finding."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
    return {(str(path), c.lineno) for c in calls if ast.unparse(c.func) == "Finding"}


def test_each_finding_has_an_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of the rules that makes a finding is reached by an example; those hold the whole
    text, so that each finding changes one."""
    paths = [p for rule in RULES for p in (ROOT / "builder").glob(f"{rule}.py")]
    reached: set[tuple[str, int]] = set()

    def spy(*arguments: object) -> Finding:
        frame = sys._getframe(1)
        reached.add((frame.f_code.co_filename, frame.f_lineno))
        return Finding(*arguments)  # type: ignore[arg-type]

    for path in paths:
        parts = path.relative_to(ROOT).with_suffix("").parts
        module = importlib.import_module(".".join(p for p in parts if p != "__init__"))
        if hasattr(module, "Finding"):
            monkeypatch.setattr(module, "Finding", spy)
    for case in CASES:
        told(assembled(tmp_path / case.name.replace("/", "."), case.bad))
    wanted = set().union(*map(makers, paths))
    assert {f"{Path(file).name}:{line}" for file, line in wanted - reached} == set()


# Pages.


def test_the_readme_shows_what_is_told(tmp_path: Path) -> None:
    """Its sample is of the reference, with the line that it shows put in place."""
    blocks = (ROOT / "README.md").read_text(encoding="utf-8").split("```")[1::2]
    (sample,) = (block[1:] for block in blocks if block.startswith("\nconfigs/"))
    place, shown, _ = sample.splitlines()
    file, line, _ = place.split(":", 2)
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    lines = (tmp_path / file).read_text(encoding="utf-8").splitlines()
    assert lines[int(line) - 1].split()[0] == shown.split()[0]
    lines[int(line) - 1] = shown.removeprefix("    ")
    (tmp_path / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert told(tmp_path) == sample


@pytest.mark.parametrize("name", ["errors.md", "reference.md"])
def test_a_made_page_is_fresh(name: str) -> None:
    page = ROOT / "docs" / name
    fresh = page.exists() and page.read_text(encoding="utf-8") == commands.pages()[name]
    assert fresh, f"docs/{name} is stale: run ./invoke docs"


def test_each_code_is_on_the_page() -> None:
    page = commands.pages()["errors.md"]
    assert [line[4:] for line in page.splitlines() if line.startswith("### ")] == list(CODES)
    assert page.isascii() or all(c.isprintable() or c == "\n" for c in page)
