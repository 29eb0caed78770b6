"""docs/errors.md, made from the codes and from the examples that the tests hold them to.

An example lies in tests/problems/CODE, or in a folder of its own below where a code has several:
`bad` and `good` hold documents laid out as configs/ is, on top of those in tests/problems/base, and
`expected` all that `check` says of the bad ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.codes import GROUPS, Code

_HEAD = """\
# Error codes

Every problem that `./invoke check` can find, made from `builder/codes/` and `tests/problems/` by
`./invoke docs`. A code keeps its meaning. The examples are complete with a small site and a host
`base`, which stand at the end of this page.
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One example; `good` is None where it would show nothing new."""

    code: str
    name: str
    bad: Path
    good: Path | None
    expected: str


def cases(folder: Path) -> tuple[Case, ...]:
    """All examples in `folder`, sorted by code and name."""
    found = []
    for bad in sorted(folder.glob("**/bad")):
        home, parts = bad.parent, bad.parent.relative_to(folder).parts
        good, expected = home / "good", home / "expected"
        text = expected.read_text(encoding="utf-8") if expected.exists() else ""
        found.append(Case(parts[0], "/".join(parts), bad, good if good.exists() else None, text))
    return tuple(found)


def render(folder: Path) -> str:
    """The page, with the examples in `folder`."""
    by_code: dict[str, list[Case]] = {}
    for case in cases(folder):
        by_code.setdefault(case.code, []).append(case)
    lines = [_HEAD]
    for title, codes in GROUPS.items():
        lines.append(f"## {title}\n")
        for name, code in codes.items():
            lines += _entry(name, code, by_code.get(name, []))
    lines.append("## The examples' base\n")
    lines += _documents(folder / "base")
    return "\n".join(lines).rstrip("\n") + "\n"


def _entry(name: str, code: Code, examples: list[Case]) -> Iterator[str]:
    yield f"### {name}\n\n{code.title} {code.why}\n"
    if not examples:
        return
    shown = next((case for case in examples if case.good), examples[0])
    documents = list(_documents(shown.bad))
    if documents:
        yield "Not so:\n"
        yield from documents
    yield _block("text", shown.expected)
    if shown.good:
        yield "But so:\n"
        yield from _documents(shown.good)


def _documents(folder: Path) -> Iterator[str]:
    """Each document below `folder` as a block, the site's first."""
    for path in sorted(folder.rglob("*.yaml"), key=lambda p: (p.parent != folder, p)):
        text = path.read_bytes().decode("utf-8", "replace")
        if text:
            yield _block("yaml", f"# configs/{path.relative_to(folder).as_posix()}\n{text}")


def _block(language: str, text: str) -> str:
    """A code block; what nobody would see in it is shown as a replacement character."""
    seen = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text)
    return f"```{language}\n{seen.strip(chr(10))}\n```\n"
