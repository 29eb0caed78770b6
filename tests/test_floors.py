"""Modules import only downward, by the table in docs/architecture.md; start-up imports little."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOST = "host"  # the host program: a floor of its own, tied to nothing
COMPOSED = "join"  # the one kind that is made of others
HEAVY = {"cryptography", "jinja2", "jsonschema", "yaml"}


def read_floors(text: str) -> dict[str, int]:
    """Module or package of the builder → its floor, from the table's rows."""
    rows = re.findall(r"^\| (\d+) \|([^|]*)\|", text, re.MULTILINE)
    return {name: int(floor) for floor, cell in rows for name in re.findall(r"`(\w+)/?`", cell)}


def imports(path: Path, package: str) -> Iterator[tuple[int, str]]:
    """Line and full dotted name of each thing that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                above = ".".join(parents[: len(parents) - node.level + 1])
                base = f"{above}.{base}".rstrip(".")
            yield from ((node.lineno, f"{base}.{name.name}") for name in node.names)


def faults(builder: Path, floors: dict[str, int]) -> list[str]:
    """Every import in `builder` that breaks a rule, and every module that has no floor."""
    found = []
    for path in sorted(builder.rglob("*.py")):
        parts = path.relative_to(builder).with_suffix("").parts
        unit = parts[0]
        if unit == "__init__":
            continue
        if unit != HOST and unit not in floors:
            found.append(f"{path.name}: {unit} is not in the table of floors")
            continue
        package = ".".join(("builder", *parts[:-1]))
        for line, name in imports(path, package):
            why = _host(name) if unit == HOST else _downward(unit, name, floors)
            why = why or (_kinds(builder, parts, name) if unit == "kinds" else "")
            if why:
                found.append(f"{'/'.join(parts)}.py:{line}: {why}")
    return found


def _downward(unit: str, name: str, floors: dict[str, int]) -> str:
    top, _, rest = name.partition(".")
    target = rest.partition(".")[0]
    if top != "builder" or target == unit:
        return ""
    if target in floors and floors[target] < floors[unit]:
        return ""
    where = f"on floor {floors[target]}" if target in floors else "on none"
    return f"{unit}, on floor {floors[unit]}, imports {name}, {where}"


def _host(name: str) -> str:
    top, _, rest = name.partition(".")
    own = top == "builder" and rest.partition(".")[0] == HOST
    if own or top in sys.stdlib_module_names:
        return ""
    return f"the host program imports {name}; only the standard library will be there"


def _kinds(builder: Path, parts: tuple[str, ...], name: str) -> str:
    """A kind, told by its function `artifacts`, is imported by the registry and no other kind."""
    target = name.removeprefix("builder.kinds.").split(".")[0]
    if parts[1] in ("__init__", COMPOSED, target) or not name.startswith("builder.kinds."):
        return ""
    return f"the kind {target} is imported" if _is_kind(builder / "kinds", target) else ""


def _is_kind(kinds: Path, name: str) -> bool:
    for path in (kinds / f"{name}.py", kinds / name / "__init__.py"):
        if path.exists():
            body = ast.parse(path.read_text(encoding="utf-8")).body
            return any(isinstance(n, ast.FunctionDef) and n.name == "artifacts" for n in body)
    return False


def test_imports_go_downward() -> None:
    floors = read_floors((ROOT / "docs/architecture.md").read_text(encoding="utf-8"))
    assert floors["problems"] == 0
    assert faults(ROOT / "builder", floors) == []


FLOORS = {"low": 0, "mid": 1, "kinds": 2, "high": 3}
KIND = "def artifacts(network): ...\n"


@pytest.mark.parametrize(
    ("file", "text", "fault"),
    [
        ("mid.py", "from builder import low", ""),
        ("mid.py", "import builder.low.part", ""),
        ("mid.py", "from builder.high import x", "mid, on floor 1, imports builder.high.x"),
        ("mid.py", "def f():\n    from builder import high", "mid.py:2:"),
        ("mid.py", "from . import high", "imports builder.high, on floor 3"),
        ("mid.py", "from builder import new", "imports builder.new, on none"),
        ("new.py", "", "new is not in the table of floors"),
        ("mid/a.py", "from builder.mid import b", ""),
        ("kinds/a.py", "from builder.kinds import common", ""),
        ("kinds/a.py", "from builder.kinds.b import view", "the kind b is imported"),
        ("kinds/a.py", "from builder.kinds import b", "the kind b is imported"),
        ("kinds/common.py", "from .b import view", "the kind b is imported"),
        ("kinds/__init__.py", "from builder.kinds import b", ""),
        ("kinds/join.py", "from builder.kinds import b", ""),
        ("host/main.py", "import json\nfrom builder.host import journal", ""),
        ("host/main.py", "from builder import low", "the host program imports builder.low"),
        ("host/main.py", "import yaml", "the host program imports yaml"),
    ],
)
def test_guard_trips(tmp_path: Path, file: str, text: str, fault: str) -> None:
    for name, body in (("kinds/b.py", KIND), ("kinds/common.py", ""), (file, text)):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(body)
    found = faults(tmp_path, FLOORS)
    assert len(found) == (1 if fault else 0)
    assert fault in "".join(found)


def imported_by(statement: str, after: str = "pass") -> set[str]:
    """Names of the modules that a statement loads in a new interpreter that ran `after`."""
    code = f"import sys\n{after}\nbefore = set(sys.modules)\n{statement}\n"
    code += "print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_tasks_import_nothing_beyond_invoke() -> None:
    assert imported_by("import tasks", after="import __future__, invoke.main") == {"tasks"}


@pytest.mark.parametrize("module", ["builder.cli", "builder.commands"])
def test_front_imports_nothing_heavy(module: str) -> None:
    assert not imported_by(f"import {module}") & HEAVY


def test_import_guard_trips() -> None:
    assert "yaml" in imported_by("import yaml")
