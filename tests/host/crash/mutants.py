"""Whether the proofs notice it: each sync, rename, lock and journal write taken out in turn.

    python -m tests.host.crash.mutants [PART OF A NAME]

The places are found in the host modules' own source, so that a new one is not forgotten; what is
done in another order stands in ORDERS. A mutant that nothing notices is needless, or not tested.
"""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from builder.host import back, files
from tests.host.crash import kill, power, scene
from tests.host.crash.machine import Machine
from tests.host.crash.trace import killed

MODULES = (
    *("files", "store", "generations", "bundles"),
    *("journals", "apply", "back", "transaction", "serve"),
)
_SYNCS = ("fsync", "syncfs", "sync_folder", "sync_all", "flock")
_GUARDS = ("install", "arm")
_ARRIVAL = ("store", "generations", "bundles", "serve")
_LIMIT = 400
_ARM = 'guard.arm(journal.generation, "{}", seconds)'
_DISARM = 'guard.disarm(journal.generation, "changing")'
_BEGIN = "journal = _begin(host, journal, changes, limits.activate)"
_DESTROY = "for guest in journal.creates:"
ORDERS = (
    ("transaction", "activate", _BEGIN, "pass",
     "apply(host, changes)", f"apply(host, changes); {_BEGIN}"),
    ("transaction", "activate", "effects = survey.effects(",
     "journals.close(host, journal); effects = survey.effects("),
    ("transaction", "_begin", _ARM.format("changing"), "pass",
     "return begun", f"{_ARM.format('changing')}; return begun"),
    ("transaction", "_await", _ARM.format("confirming"), "pass",
     _DISARM, f"{_DISARM}; {_ARM.format('confirming')}"),
    ("back", "_undo", "for change in records if early else ():", "for change in records:"),
    ("back", "_undo", _DESTROY, f"journals.close(host, journal)\n    {_DESTROY}"),
    ("back", "_undo", "runs = any(", "journals.close(host, journal); runs = any("),
)  # fmt: skip
"""A module and function of it, what stands there, what in its place; and perhaps a second pair."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A host module's source with one thing different."""

    name: str
    module: str
    function: str
    tree: ast.Module


def every() -> Iterator[Mutant]:
    """All mutants."""
    for module in MODULES:
        text = _source(module)
        for function, call in _calls(ast.parse(text)):
            kind = _kind(call)
            if not kind:
                continue
            tree = ast.parse(text)
            same = next(c for f, c in _calls(tree) if f == function and _at(c) == _at(call))
            _change(tree, same, kind)
            shown = ast.unparse(call)[:60]
            yield Mutant(f"{module}.{function}: no {shown}" if kind == "gone" else
                         f"{module}.{function}: torn {shown}", module, function, tree)  # fmt: skip
    for module, function, *words in ORDERS:
        text = _source(module)
        node = next(n for n in ast.walk(ast.parse(text))
                    if isinstance(n, ast.FunctionDef) and n.name == function)  # fmt: skip
        segment = ast.get_source_segment(text, node) or ""
        made = segment
        for old, new in zip(words[::2], words[1::2], strict=True):
            assert made.count(old) == 1, f"{function}: {old!r} is not there once"
            made = made.replace(old, new)
        name = f"{module}.{function}: {words[-1]!r} for {words[-2]!r}"
        tree = ast.parse(text.replace(segment, made))
        yield Mutant(name.replace("\\n", ";")[:110], module, function, tree)


def noticed(mutant: Mutant, place: Path) -> str:
    """What notices a mutant; "" where nothing does."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(_LIMIT)
            os.close(read)
            sys.stderr = open(os.devnull, "w")  # noqa: SIM115
            _apply(mutant)
            os.write(write, _judge(place, mutant.module).encode()[:2000])
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    for left in (*place.glob(f"scratch{child}"), *place.glob("recovered")):
        shutil.rmtree(left)
    return said if status == 0 else f"ended with {os.waitstatus_to_exitcode(status)}"


def _judge(place: Path, module: str) -> str:
    """What the proofs find; they end at the first fault."""
    with scene.scratch(place / "1") as root:
        machine = Machine(root)
        with files.locked(machine.paths.lock, "one"):
            try:
                back.take_back(machine.host(), "other")
            except files.BusyError:
                pass
            else:
                return "lock: two at once"
    proof, cut = kill.Proof(first=True), power.Proof(first=True)
    with contextlib.suppress(StopIteration):
        if module in _ARRIVAL:
            power.prove(place, scene.CUT[0], cut, deep=False)
        power.prove(place, scene.CUT[2], cut, deep=False)
        power.prove(place, scene.CUT[1], cut, deep=False)
        _kills(place, scene.SCENES[3], proof)
        _kills(place, scene.SCENES[2], proof)
        if module not in _ARRIVAL:
            power.prove(place, scene.CUT[0], cut, deep=False)
    return "".join([f"kill: {each}" for each in proof.faults] + [f"power: {e}" for e in cut.faults])


def _kills(place: Path, each: scene.Scene, proof: kill.Proof) -> None:
    known = kill.ends(place, each)
    seen: set[str] = set()
    for index in kill.changing(place, each.before, each.does):
        with scene.scratch(place / each.before) as root:
            killed(lambda: each.does(Machine(root)), index)
            if (left := scene.raw(root)) in seen:
                continue
            seen.add(left)
            where = f"{each.name} killed before call {index}"
            why = kill.unguarded(root) or ", ".join(scene.half(root, known.before, known.after))
            if why:
                proof.fault(f"{where}: {why}")
            for way, recover in kill.RECOVERIES.items():
                kill.recovered(root, place / "recovered", way, recover, known, proof, where)


def _source(module: str) -> str:
    path = import_module(f"builder.host.{module}").__file__
    assert path
    return Path(path).read_text()


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    places = [(n.name, n) for n in tree.body if isinstance(n, ast.FunctionDef)]
    for one in tree.body:
        if isinstance(one, ast.ClassDef):
            places += [(f"{one.name}.{n.name}", n) for n in one.body
                       if isinstance(n, ast.FunctionDef)]  # fmt: skip
    for name, node in places:
        for call in ast.walk(node):
            if isinstance(call, ast.Call):
                yield name, call


def _kind(call: ast.Call) -> str:
    shown = ast.unparse(call)
    name = shown.partition("(")[0].rpartition(".")[2]
    journal = shown.startswith(("files.write(host.paths.journal", "files.remove(host.paths.jour"))
    guard = shown.startswith("guard.") and name in _GUARDS
    if name in _SYNCS or journal or guard:
        return "gone"
    return "torn" if name == "rename" else ""


def _at(call: ast.Call) -> tuple[int, int]:
    return call.lineno, call.col_offset


def _change(tree: ast.Module, call: ast.Call, kind: str) -> None:
    if kind == "gone":
        call.func, call.args, call.keywords = ast.parse("int").body[0].value, [], []  # type: ignore[attr-defined]
    else:
        assert isinstance(call.func, ast.Attribute)
        if ast.unparse(call.func.value) != "os":
            call.args.insert(0, call.func.value)
        call.func = ast.parse("__import__('tests.host.crash.mutants').host.crash.mutants.torn",
                              mode="eval").body  # fmt: skip
    ast.fix_missing_locations(tree)


def torn(old: Path, new: Path) -> None:
    """As a rename, but not at once."""
    if old.is_symlink():
        new.unlink(missing_ok=True)
        new.symlink_to(os.readlink(old))
        old.unlink()
    elif old.is_dir():
        new.mkdir()
        for each in sorted(old.iterdir()):
            torn(each, new / each.name)
        old.rmdir()
    else:
        with open(new, "wb") as stream:
            stream.write(old.read_bytes())
        new.chmod(old.stat().st_mode & 0o7777)
        old.unlink()


def _apply(mutant: Mutant) -> None:
    module = import_module(f"builder.host.{mutant.module}")
    code = _code(compile(mutant.tree, mutant.name, "exec"), mutant.function)
    found: Any = _function(module, mutant.function)
    found.__code__ = code


def _function(module: ModuleType, name: str) -> FunctionType:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part)
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    assert isinstance(found, FunctionType)
    return found


def _code(code: CodeType, name: str) -> CodeType:
    first, _, rest = name.partition(".")
    found = next(c for c in code.co_consts if isinstance(c, CodeType) and c.co_name == first)
    return _code(found, rest) if rest else found


def main(arguments: list[str]) -> int:
    """Judge all mutants, or those whose name holds one of some words; prints a table."""
    scene.settle()
    unnoticed = 0
    with scene.workplace() as place:
        scene.furnish(place)
        for mutant in every():
            if arguments and not any(word in mutant.name for word in arguments):
                continue
            begin = time.monotonic()
            said = noticed(mutant, place)
            unnoticed += not said
            seconds = time.monotonic() - begin
            print(f"{seconds:5.1f} s  {mutant.name:80}  {said[:120] or 'UNNOTICED'}", flush=True)
    return unnoticed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
