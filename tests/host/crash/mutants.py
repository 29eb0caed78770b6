"""Whether the proofs notice it: each sync, rename, lock and journal write taken out in turn.

    python -m tests.host.crash.mutants [--part K/N] [PART OF A NAME …]

The places are found in the source of every module of the host program, so that a new one is not
forgotten; what is done in another order stands in ORDERS, and a text there that is not found once
ends it. A mutant that nothing notices is needless, or not tested. Judged is by the proof of the
locks, by the power cut in a recovery, a rollback and whole deploys, and by kills of the scenes
after `rollback`, in an order that is drawn once: it ends at the first fault. The tests' normal run
judges those that show at once; all of them are for --deep.
"""

from __future__ import annotations

import ast
import contextlib
import os
import pkgutil
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

from builder import host
from tests.host.crash import faults, kill, power, scene

MODULES = tuple(sorted(each.name for each in pkgutil.iter_modules(host.__path__)))
_SYNCS = ("fsync", "syncfs", "sync_folder", "sync_all", "flock")
_LOCKS = ("locked", "held")
_GUARDS = ("install", "arm")
_ARRIVAL = ("store", "generations", "bundles", "serve")
# Seconds, for a mutant that hangs; on a busy machine all proofs of one take a while.
_LIMIT = 3600
_ARM = 'guard.arm(journal.generation, "{}", seconds)'
_DISARM = 'guard.disarm(journal.generation, "changing")'
_BEGIN = "journal = _begin(host, journal, turn.changes, limits.activate)"
_DESTROY = "for guest in journal.creates:"
ORDERS = (
    ("transaction", "activate", _BEGIN, "pass",
     "apply(host, turn.changes)", f"apply(host, turn.changes); {_BEGIN}"),
    ("transaction", "activate", "fault = _runs(", "journals.close(host, journal); fault = _runs("),
    ("transaction", "_begin", _ARM.format("changing"), "pass",
     "return begun", f"{_ARM.format('changing')}; return begun"),
    ("transaction", "_await", _ARM.format("confirming"), "pass",
     _DISARM, f"{_DISARM}; {_ARM.format('confirming')}"),
    ("back", "_undo", "for change in records if early else ():", "for change in records:"),
    ("back", "_undo", _DESTROY, f"journals.close(host, journal)\n    {_DESTROY}"),
    ("back", "_undo", "runs = any(", "journals.close(host, journal); runs = any("),
)  # fmt: skip
"""A module and function of it, what stands there, what in its place; and perhaps a second pair."""
FAULTY = (
    ("files", "_all", "rest = rest[os.write(handle, rest) :]", "os.write(handle, rest); break"),
    ("back", "undo", "raise DegradedError(str(error)) from error", "pass"),
    ("transaction", "activate", "back.undo(host, journal)", "pass"),
)
"""The same, to be noticed where calls fail."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A host module's source with one thing different."""

    name: str
    module: str
    function: str
    tree: ast.Module
    faulty: bool = False


def every() -> Iterator[Mutant]:
    """All mutants."""
    for module in MODULES:
        text = _source(module)
        for function, call, locks in _calls(ast.parse(text)):
            if kind := "unlocked" if locks else _kind(call):
                tree = ast.parse(text)
                same = next(c for f, c, _ in _calls(tree)
                            if f == function and _at(c) == _at(call))  # fmt: skip
                _CHANGES[kind](same)
                ast.fix_missing_locations(tree)
                name = f"{module}.{function}, {call.lineno}: {kind} {ast.unparse(call)[:60]}"
                yield Mutant(name, module, function, tree)
    for module, function, *words in ORDERS:
        yield _reordered(module, function, words)
    for module, function, *words in FAULTY:
        yield replace(_reordered(module, function, words), faulty=True)


def _reordered(module: str, function: str, words: Sequence[str]) -> Mutant:
    text = _source(module)
    found = [n for n in ast.parse(text).body
             if isinstance(n, ast.FunctionDef) and n.name == function]  # fmt: skip
    assert len(found) == 1, f"there is no {module}.{function}: ORDERS is out of date"
    segment = ast.get_source_segment(text, found[0]) or ""
    made = segment
    for old, new in zip(words[::2], words[1::2], strict=True):
        assert made.count(old) == 1, f"{module}.{function}: {old!r} is not there once"
        made = made.replace(old, new)
    name = f"{module}.{function}: {words[-1]!r} for {words[-2]!r}".replace("\\n", ";")
    return Mutant(name[:110], module, function, ast.parse(text.replace(segment, made)))


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
            os.write(
                write,
                (_failing(place) if mutant.faulty else _judge(place, mutant.module)).encode()[
                    :2000
                ],
            )
            code = 0
        except Exception as error:
            # A scene that does not go through is noticed; what can't run at all is no mutant.
            word = "scene" if isinstance(error, AssertionError) else "BROKEN"
            os.write(write, f"{word}: {error!r}".encode()[:2000])
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as stream:
        said = stream.read().decode(errors="replace")
    status = os.waitpid(child, 0)[1]
    for left in (*place.glob(f"scratch{child}.*"), *place.glob("class-*")):
        shutil.rmtree(left)
    return said if status == 0 else said or f"BROKEN: {os.waitstatus_to_exitcode(status)}"


def _judge(place: Path, module: str) -> str:
    """What the proofs find; they end at the first fault."""
    proof, cut = kill.Proof(first=True), power.Proof(first=True)
    deploy, back, taken_back, line, *plain = scene.CUT
    arrival = [line, deploy] if module in _ARRIVAL else []
    first = plain if module == "platform_lxc" else [*arrival, taken_back, back]
    with contextlib.suppress(kill.EnoughError):
        kill.locks(place, proof)
        for each in first:
            power.prove(place, each, cut, deep=False)
        for scened in reversed(scene.SCENES[2:]):
            kill.Killer(place, scened, proof, deep=False).kills()
        for each in scene.CUT:
            if each not in first:
                power.prove(place, each, cut, deep=False)
    return "".join([f"kill: {each}" for each in proof.faults] + [f"power: {e}" for e in cut.faults])


def _failing(place: Path) -> str:
    """What is found where calls fail."""
    proof = faults.Proof(first=True)
    with contextlib.suppress(kill.EnoughError):
        faults.prove(place, scene.FAILING[1], proof, deep=False)
    return "".join(f"faults: {each}" for each in proof.faults)


def _source(module: str) -> str:
    path = import_module(f"builder.host.{module}").__file__
    assert path
    return Path(path).read_text()


def _calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call, bool]]:
    """Each call with the function that it stands in, and whether it takes a lock."""
    places = [(n.name, n) for n in tree.body if isinstance(n, ast.FunctionDef)]
    for one in tree.body:
        if isinstance(one, ast.ClassDef):
            places += [(f"{one.name}.{n.name}", n) for n in one.body
                       if isinstance(n, ast.FunctionDef)]  # fmt: skip
    for name, node in places:
        held = [i.context_expr for n in ast.walk(node) if isinstance(n, ast.With) for i in n.items]
        locks = {_at(c) for each in held for c in ast.walk(each)
                 if isinstance(c, ast.Call) and _name(c) in _LOCKS}  # fmt: skip
        for call in ast.walk(node):
            if isinstance(call, ast.Call):
                yield name, call, _at(call) in locks


def _name(call: ast.Call) -> str:
    return ast.unparse(call.func).rpartition(".")[2]


def _kind(call: ast.Call) -> str:
    shown, name = ast.unparse(call), _name(call)
    journal = shown.startswith(("files.write(host.paths.journal", "files.remove(host.paths.jour"))
    guard = shown.startswith("guard.") and name in _GUARDS
    if name in _SYNCS or journal or guard:
        return "no"
    return "torn" if name == "rename" else ""


def _at(call: ast.Call) -> tuple[int, int, int]:
    return call.lineno, call.col_offset, call.end_col_offset or 0


def _called(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _gone(call: ast.Call) -> None:
    call.func, call.args, call.keywords = _called("int"), [], []


def _unlocked(call: ast.Call) -> None:
    call.func, call.args, call.keywords = _called("__import__('contextlib').nullcontext"), [], []


def _torn(call: ast.Call) -> None:
    assert isinstance(call.func, ast.Attribute)
    if ast.unparse(call.func.value) != "os":
        call.args.insert(0, call.func.value)
    call.func = _called("__import__('tests.host.crash.mutants').host.crash.mutants.torn")


_CHANGES = {"no": _gone, "torn": _torn, "unlocked": _unlocked}


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
    """Judge all mutants, or some; prints a table."""
    scene.settle()
    part, parts = 1, 1
    if arguments[:1] == ["--part"]:
        part, parts = (int(each) for each in arguments[1].split("/"))
        arguments = arguments[2:]
    chosen = [m for m in every() if not arguments or any(word in m.name for word in arguments)]
    unnoticed = 0
    with scene.workplace() as place:
        scene.furnish(place)
        for mutant in chosen[part - 1 :: parts]:
            begin = os.times()
            said = noticed(mutant, place)
            unnoticed += not said or said.startswith("BROKEN")
            seconds = sum(os.times()[:4]) - sum(begin[:4])
            print(f"{seconds:5.1f} s  {mutant.name:80}  {said[:120] or 'UNNOTICED'}", flush=True)
    return unnoticed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
