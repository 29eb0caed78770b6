"""Projects to measure: the reference, and as many hosts like it as are asked for.

A project is a copy of what a build reads, in a folder of its own: the real dist/ is never touched.
"""

from __future__ import annotations

import compileall
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder import fresh
from tests.bench.measure import Run, run

ROOT = Path(__file__).resolve().parents[2]
INVOKE = Path(sys.prefix) / "bin" / "invoke"

_EMPTY = '''"""What invoke itself takes."""

from invoke.tasks import task


@task
def empty(_):
    """Nothing."""
'''


def environment(home: Path) -> Mapping[str, str]:
    """What builds run in: nothing of the caller's that changes what they do, and no signing key."""
    kept = ("PATH", "HOME", "XDG_CACHE_HOME", "LANG", "LC_ALL", "TMPDIR")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "XDG_CONFIG_HOME": str(home),
    }


@dataclass(frozen=True, slots=True)
class Project:
    """A folder in which `invoke build` works; `hosts` is what each build is asked for."""

    root: Path
    hosts: tuple[str, ...] = ()
    _settled: list[bool] = field(default_factory=list)

    def build(self) -> Run:
        """A build through invoke."""
        if not self._settled:
            # Files as young as a copy's are compared by content, which is not the usual case.
            time.sleep(fresh.GRAIN / 1e9 + 0.2)
            self._settled.append(True)
        named = [f"--host={name}" for name in self.hosts]
        return run([INVOKE, "build", *named], self.root, environment(self.root / "home"))

    def cold(self) -> Run:
        """A build into an empty dist/."""
        shutil.rmtree(self.root / "dist", ignore_errors=True)
        return self.build()

    def change(self, file: str, pattern: str, text: str) -> None:
        """Change one line of a file in configs/: the first that matches."""
        path = self.root / "configs" / file
        changed, count = re.subn(pattern, text, path.read_text(), count=1)
        assert count, f"{pattern} is not in {file}"
        path.write_text(changed)


def reference(root: Path) -> Project:
    """The reference network; pve1 of it is built."""
    copy(root)
    shutil.copytree(ROOT / "configs" / "hosts", root / "configs" / "hosts")
    return Project(root, ("pve1",))


def fleet(root: Path, count: int) -> Project:
    """`count` hosts like pve1, each with a name and with networks of its own."""
    copy(root)
    folder = root / "configs" / "hosts"
    folder.mkdir()
    model = (ROOT / "configs" / "hosts" / "pve1.yaml").read_text()
    for number in range(count):
        (folder / f"edge{number}.yaml").write_text(_like(model, number))
    return Project(root)


def _like(model: str, number: int) -> str:
    high, low = divmod(number, 250)
    changes = {
        "host: pve1": f"host: edge{number}",
        "10.0.0.": f"10.{1 + high}.{low}.",
        "192.168.1.": f"172.{16 + high}.{low}.",
    }
    for old, new in changes.items():
        assert old in model, f"the reference has no {old!r} to be replaced"
        model = model.replace(old, new)
    return model


def copy(root: Path) -> None:
    """Make a project's folder, without any host."""
    for part in fresh.READ:
        shutil.copytree(ROOT / part, root / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(root / "configs" / "hosts")
    shutil.copy(ROOT / "tasks.py", root)
    # As they are from anyone's second build on; else it would be part of each first one.
    assert compileall.compile_dir(root / "builder", quiet=1)


def empty(root: Path) -> Path:
    """A folder whose only task does nothing."""
    root.mkdir()
    (root / "tasks.py").write_text(_EMPTY)
    return root


def idle(root: Path) -> Run:
    """The task that does nothing, through invoke."""
    return run([INVOKE, "empty"], root, environment(root))
