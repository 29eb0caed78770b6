"""`build --check`: build a second time under other conditions, and compare every byte.

The second build runs in a process of its own, on a copy of what a build reads: in another folder,
with another umask, time zone, locale and hash seed, with every mapping of the configuration turned
round, and, where we are root, as another user. What differs is told by name.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from builder import fresh
from builder.build import Built, Progress, derived, fetch
from builder.load import files, load
from builder.problems import UserError
from builder.source import Data, read

NOBODY = 65534

Digests = dict[str, str]
"""The digest of each artifact of a host, by its name; "" is the manifest itself."""


def compare(root: Path, built: Sequence[Built], progress: Progress) -> None:
    """Build `built` again and compare; UserError that names what differs."""
    hosts = [b.host for b in built]
    with tempfile.TemporaryDirectory(prefix="phoenix-again-") as name:
        folder = Path(name) / "another place"
        progress("building again under other conditions")
        _copy(root, folder)
        (folder / "programs.json").write_text(json.dumps(_programs(root, built, progress)))
        second = _run(folder, hosts)
    differing = [line for b in built for line in _differing(b, second[b.host])]
    if differing:
        raise UserError(
            "two builds of the same configuration differ: " + "; ".join(differing),
            "this is a bug of ours; please report it with the configuration",
        )


def _differing(built: Built, second: Digests) -> Iterator[str]:
    first = {a.name: a.digest for a in built.artifacts}
    for name in sorted({*first, *second} - {""}):
        if first.get(name) != second.get(name):
            yield f"{built.host} {name}"
    if built.release != second[""]:
        yield f"{built.host} manifest"


def _programs(root: Path, built: Sequence[Built], progress: Progress) -> list[dict[str, Any]]:
    """The pinned programs' layers as data: the second build needs no cache of inputs."""
    found = fetch(root, sorted({name for b in built for name in b.programs}), progress)
    return [
        {
            "name": c.program.name,
            "version": c.program.version,
            "kind": c.program.kind,
            "tar": [c.program.layer.tar.digest, c.program.layer.tar.size],
            "index": [c.program.layer.index.digest, c.program.layer.index.size],
        }
        for c in found.values()
    ]


def _copy(root: Path, folder: Path) -> None:
    for part in fresh.READ:
        try:
            shutil.copytree(root / part, folder / part, ignore=_left_out)
        except shutil.Error as error:
            reason = error.args[0][0][2]
            message = f"the second build has no copy of what is built: {reason}"
            raise UserError(message) from error
    for path in files(folder / "configs").values():
        # JSON is YAML too; turned round, its order of keys is another and its meaning the same.
        turned = _turned(read(str(path), path.read_bytes()))
        path.write_text(json.dumps(turned, ensure_ascii=False), encoding="utf-8")
    if os.geteuid() == 0:
        for parent, below, beside in os.walk(folder.parent):
            for each in (parent, *(os.path.join(parent, name) for name in (*below, *beside))):
                os.chown(each, NOBODY, NOBODY)


def _left_out(folder: str, names: list[str]) -> set[str]:
    """Python's own files, and links to nowhere, which editors leave behind."""
    return {
        name
        for name in names
        if name == "__pycache__" or not os.path.exists(os.path.join(folder, name))
    }


def _turned(data: Data) -> Data:
    if isinstance(data, dict):
        return {key: _turned(value) for key, value in reversed(data.items())}
    if isinstance(data, list):
        return [_turned(item) for item in data]
    return data


def _run(folder: Path, hosts: Sequence[str]) -> dict[str, Digests]:
    environment = {
        "PATH": os.environ.get("PATH", ""),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8" if os.environ.get("LC_ALL") == "C" else "C",
        "TZ": "Pacific/Chatham",
        "PYTHONHASHSEED": "4711",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if "site-packages" in p),
    }
    user = _other_user(environment)
    ran = subprocess.run(
        [sys.executable, "-m", "builder.again", *hosts],
        cwd=folder,
        env=environment,
        umask=0o077,
        capture_output=True,
        **user,
    )
    if ran.returncode != 0:
        raise UserError("the second build failed", ran.stderr.decode(errors="replace").strip())
    made: dict[str, Digests] = json.loads(ran.stdout)
    return made


def _other_user(environment: Mapping[str, str]) -> dict[str, Any]:
    """Another user for the second build, where we are root and he can run this interpreter."""
    user: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    if os.geteuid() != 0:
        return {}
    try:
        probe = [sys.executable, "-c", "import jinja2, jsonschema, yaml"]
        works = subprocess.run(probe, env=environment, capture_output=True, **user).returncode == 0
    except OSError:
        works = False
    return user if works else {}


def _second(root: Path, hosts: Sequence[str]) -> dict[str, Digests]:
    """In the second process: what is made of each host, without storing it."""
    from builder import manifest
    from builder.manifest import Layer, Object
    from builder.plan import Program, plan
    from builder.program import host_program

    programs = {}
    for each in json.loads((root / "programs.json").read_text()):
        name = each["name"]
        tar, index = Object(each["tar"][0], f"{name}.tar", each["tar"][1]), each["index"]
        node = Object(index[0], f"{name}.index.json", index[1])
        layer = Layer(f"program-{name}", tar, node)
        programs[name] = Program(name, each["version"], each["kind"], layer)
    found = dict[str, Digests]()
    for network in derived(load(root, hosts)):
        planned = plan(network, programs, host_program())
        found[planned.host] = {a.name: a.digest for a in planned.artifacts}
        found[planned.host][""] = manifest.identity(planned.manifest)
    return found


if __name__ == "__main__":
    json.dump(_second(Path.cwd(), sys.argv[1:]), sys.stdout)
