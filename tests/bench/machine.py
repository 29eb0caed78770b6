"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path


def described(folder: Path) -> Mapping[str, str]:
    """The machine, the file system of `folder`, the versions of what was measured."""
    packages = ("invoke", "jinja2", "jsonschema", "pyyaml")
    return {
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 20} MiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "file system": _said(["stat", "--file-system", "--format=%T", folder]),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {metadata.version(name)}" for name in packages),
        "Nix": _said(["nix-build", "--version"]).removeprefix("nix-build (Nix) "),
        "load before": f"{os.getloadavg()[0]:.2f}",
    }


def _cpu() -> str:
    text = Path("/proc/cpuinfo").read_text()
    found = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    return found[1] if found else platform.machine()


def _said(command: Sequence[str | Path]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "none"
    except OSError:
        return "none"
