"""A small good configuration on disk, for tests to spoil."""

from __future__ import annotations

from pathlib import Path

from builder.load import load
from builder.problems import ConfigError

ROOT = Path(__file__).resolve().parent.parent
BASE = ROOT / "tests" / "problems" / "base"
SITE = (BASE / "site.yaml").read_text(encoding="utf-8")
HOST = (BASE / "hosts" / "base.yaml").read_text(encoding="utf-8")


def written(root: Path) -> Path:
    """`root`, with a good site and host in configs/."""
    write(root, "site.yaml", SITE)
    write(root, "hosts/base.yaml", HOST)
    return root


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
