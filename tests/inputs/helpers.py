"""What the tests of inputs share: small locks, packages, archives and a repository made here."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from builder.inputs import Lock, ProgramLayer, layer, load_lock

REPOSITORY = Path(__file__).resolve().parents[2]
REFERENCE = REPOSITORY / "configs" / "inputs.lock"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def lock(folder: Path, **inputs: dict[str, object]) -> Lock:
    """A lock file in `folder` with `inputs`, all for amd64."""
    whole = {name: {"arch": "amd64", **entry} for name, entry in inputs.items()}
    path = folder / "inputs.lock"
    path.write_text(json.dumps({"version": 1, "inputs": whole}))
    return load_lock(path)


def address(url: str, data: bytes, **more: object) -> dict[str, object]:
    """An input that is one file at `url`."""
    plain = {"kind": "url", "url": url, "version": "1", "sha256": digest(data)}
    return plain | {"unpack": "none", "files": {"tool": ""}} | more


def get(lock: Lock, name: str, cache: Path) -> tuple[ProgramLayer, list[str]]:
    """The layer, and what was said meanwhile."""
    said = list[str]()
    return layer(lock, name, cache, said.append), said


def left(cache: Path) -> list[str]:
    """What the cache holds beside its locks, APT's lists and empty folders."""
    found = (path.relative_to(cache) for path in cache.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if path.parts[0] not in ("locks", "apt"))


def names(path: Path) -> list[str]:
    """Paths of the files and links in a layer."""
    with tarfile.open(path) as archive:
        return [each.name for each in archive if not each.isdir()]


FETCH = """
import sys
from pathlib import Path
from builder.inputs import layer, load_lock
from builder.problems import UserError
lock, name, cache = sys.argv[1:]
try:
    print(layer(load_lock(Path(lock)), name, Path(cache), lambda line: print(line, flush=True)))
except UserError as error:
    sys.exit(f"UserError: {error}")
"""


def command(lock: Lock, name: str, cache: Path) -> list[str]:
    """A process of its own that fetches one layer, and says what goes on on its stdout."""
    return [sys.executable, "-c", FETCH, str(lock.path), name, str(cache)]


def start(lock: Lock, name: str, cache: Path, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, *command(lock, name, cache)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Server(ThreadingHTTPServer):
    """Serves `data` at every path; after the first half it waits for `resume`, `pause` seconds at
    most; `cut` drops the rest."""

    data, pause, cut, missing = b"", 0.0, False, False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked = list[str]()
        self.halfway, self.resume = threading.Event(), threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/tool"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that was killed is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.server.missing:
            self.send_error(404)
            return
        data, half = self.server.data, len(self.server.data) // 2
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:half])
        self.wfile.flush()
        self.server.halfway.set()
        self.server.resume.wait(self.server.pause)
        if not self.server.cut:
            self.wfile.write(data[half:])

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Quiet."""


@contextmanager
def serving(data: bytes, pause: float = 0.0) -> Iterator[Server]:
    server = Server()
    server.data, server.pause = data, pause
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def tar(members: Sequence[tarfile.TarInfo], data: bytes = b"program") -> bytes:
    """A tar of `members`; regular files hold `data`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for member in members:
            member.size = len(data) if member.isreg() else 0
            archive.addfile(member, io.BytesIO(data) if member.isreg() else None)
    return out.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, target, 0o755
    return info


def deb(package: str, version: str, members: Sequence[tarfile.TarInfo]) -> bytes:
    """A Debian package, which is an ar archive of two tars, with `members` as its files."""
    control = f"Package: {package}\nVersion: {version}\nArchitecture: amd64\nMaintainer: a\n"
    text = (control + "Description: b\n").encode()
    parts = [
        ("debian-binary", b"2.0\n"),
        ("control.tar", tar([member("./control")], text)),
        ("data.tar", tar(members)),
    ]
    whole = b"!<arch>\n"
    for name, data in parts:
        whole += f"{name:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(data):<10}`\n".encode()
        whole += data + b"\n" * (len(data) % 2)
    return whole


def wheel(folder: Path, version: str, program: bytes = b"program") -> Path:
    """A wheel of the package `tool`, for amd64, with one program."""
    path = folder / f"tool-{version}-py3-none-manylinux2014_x86_64.whl"
    info = f"tool-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"tool-{version}.data/scripts/tool", program)
        archive.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: tool\nVersion: {version}\n"
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-manylinux2014_x86_64\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    return path


def pinned(package: Path, version: str, **more: object) -> dict[str, object]:
    """A lock's entry for a wheel."""
    files = {"tool": "*.data/scripts/tool"}
    plain = {"kind": "pypi", "package": "tool", "version": version, "files": files}
    return plain | {"sha256": digest(package.read_bytes())} | more


class Archive:
    """A Debian mirror in a folder, and a machine's APT configuration that asks it.

    The machine trusts it by name; nothing in it is signed.
    """

    def __init__(self, folder: Path, suite: str = "bookworm") -> None:
        self.folder, self.suite = folder, suite
        self.config = folder / "apt.conf"
        self.packages = folder / "dists" / suite / "main" / "binary-amd64" / "Packages"
        self.packages.parent.mkdir(parents=True)
        self.packages.touch()
        for below in ("state/lists/partial", "cache/archives/partial", "parts"):
            (folder / below).mkdir(parents=True)
        (folder / "status").touch()
        source = f"deb [trusted=yes] file:{folder} {suite} main\n"
        (folder / "sources.list").write_text(source)
        settings = {
            "Dir::Etc::parts": "/dev/null",
            "Dir::Etc::main": "/dev/null",
            "Dir::Etc::sourcelist": f"{folder}/sources.list",
            "Dir::Etc::sourceparts": f"{folder}/parts",
            "Dir::State": f"{folder}/state",
            "Dir::State::status": f"{folder}/status",
            "Dir::Cache": f"{folder}/cache",
            "APT::Architecture": "amd64",
            "APT::Architectures": "amd64",
            "Acquire::Languages": "none",
            "APT::Sandbox::User": "root",
        }
        self.config.write_text("".join(f'{key} "{value}";\n' for key, value in settings.items()))

    def add(self, package: str, version: str, data: bytes) -> dict[str, object]:
        """Put a package in; the lock's entry of it."""
        name = f"{package}_{version}_amd64.deb"
        (self.folder / name).write_bytes(data)
        fields = {
            "Package": package,
            "Version": version,
            "Architecture": "amd64",
            "Maintainer": "a",
            "Description": "b",
            "Filename": name,
            "Size": len(data),
            "SHA256": digest(data),
        }
        with self.packages.open("a") as out:
            out.write("".join(f"{key}: {value}\n" for key, value in fields.items()) + "\n")
        self._release()
        return {"package": package, "version": version, "sha256": digest(data)}

    def _release(self) -> None:
        data = self.packages.read_bytes()
        place = self.folder / "dists" / self.suite
        line = f" {digest(data)} {len(data)} main/binary-amd64/Packages\n"
        text = f"Origin: a\nSuite: {self.suite}\nCodename: {self.suite}\nArchitectures: amd64\n"
        text += f"Components: main\nDate: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{line}"
        (place / "Release").write_text(text)

    def update(self) -> None:
        """Let the machine read the mirror's lists."""
        env = os.environ | {"APT_CONFIG": str(self.config)}
        done = subprocess.run(["apt-get", "update"], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
