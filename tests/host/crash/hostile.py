"""A deployer that sends what it likes, to the program that is on the host."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.host.release import canonical, digest
from builder.host.serve import Session
from tests.host.crash.machine import Machine
from tests.host.crash.releases import SECRET

Plain = dict[str, Any]
Edit = Callable[[Plain], None]


@dataclass
class Parcel:
    """A release: its manifest as plain data, and its files by digest."""

    manifest: Plain
    files: dict[str, bytes]
    altered: dict[str, bytes] = field(default_factory=dict)
    """What is sent under a digest instead."""

    def index(self, edit: Edit) -> None:
        """Edit the index of the first guest's layer; all that refers to it follows."""
        self.guest(lambda node: self._reput(node["layers"][0]["index"], edit))

    def guest(self, edit: Edit) -> None:
        """Edit the first guest's node."""
        self._reput(self.manifest["guests"][0]["node"], edit)

    def _reput(self, ref: Plain, edit: Edit) -> None:
        plain = json.loads(self.files[ref["digest"]])
        edit(plain)
        data = canonical(plain)
        ref |= {"digest": digest(data), "size": len(data)}
        self.files[ref["digest"]] = data


def parcel(place: Path) -> Parcel:
    """The second release of the scene, as it is."""
    folder = place / "parcel"
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return Parcel(json.loads(files.pop("manifest")), files)


class Signer:
    """A key, and who may sign with it."""

    def __init__(self, folder: Path) -> None:
        self.key = folder / "key"
        folder.mkdir()
        self._run("-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(self.key))

    @property
    def allowed(self) -> str:
        public = self.key.with_suffix(".pub").read_text()
        return f'me namespaces="phoenix-release" {public}'

    def sign(self, data: bytes, namespace: str = "phoenix-release") -> bytes:
        """A signature of these bytes."""
        return self._run("-Y", "sign", "-q", "-f", str(self.key), "-n", namespace, data=data)

    def _run(self, *words: str, data: bytes = b"") -> bytes:
        return subprocess.run(
            ["ssh-keygen", *words], input=data, capture_output=True, check=True, timeout=20
        ).stdout


def stream(data: bytes, raw: bool = False) -> bytes:
    """A compressed stream of one part and its end; `raw` is compressed already."""
    part = data if raw else gzip.compress(data)
    return len(part).to_bytes(4, "big") + part + bytes(4)


def line(**request: Any) -> bytes:
    """A request."""
    return json.dumps(request).encode() + b"\n"


def said(machine: Machine, sent: bytes) -> list[Plain]:
    """What a new connection answers, but for its greeting."""
    answers = io.BytesIO()
    Session(machine.host(), lambda *_: iter(())).run(io.BytesIO(sent), answers)
    return [json.loads(each) for each in answers.getvalue().splitlines()][1:]


def staged(manifest: bytes, signature: bytes) -> bytes:
    """The request that a release comes with."""
    sizes = {"manifest": len(manifest), "signature": len(signature)}
    return line(do="stage", codec="gzip", **sizes) + stream(manifest + signature)


def delivered(
    machine: Machine, manifest: bytes, signature: bytes, files: Mapping[str, bytes]
) -> list[Plain]:
    """Send all of a release and have it kept; the last round's answers, or those that refuse."""
    for _ in range(4):
        begin = staged(manifest, signature)
        answers = said(machine, begin + line(do="lacking"))
        if "error" in answers[-1]:
            return answers
        lacking = answers[-1]["lacking"]
        if not lacking:
            break
        data = b"".join(files[name][begun:] for name, _, begun in lacking)
        objects = [[name, begun] for name, _, begun in lacking]
        put = line(do="put", codec="gzip", objects=objects) + stream(data)
        answers = said(machine, begin + put)
        if "error" in answers[-1]:
            return answers
    asked = line(do="bundles") + line(
        do="secrets", guest=101, files={"token": len(SECRET)}, bytes=len(SECRET)
    )
    return said(machine, staged(manifest, signature) + asked + SECRET + line(do="keep", who="test"))
