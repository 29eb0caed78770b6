"""Commands of Go modules, built with a pinned toolchain in a room that is thrown away.

The same module and toolchain give the same bytes on any machine: no C, no paths, no version control
stamp, and nothing of the user's Go environment but how to reach the module proxy.
"""

from __future__ import annotations

import json
import os
import platform
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from builder.inputs.cache import Progress
from builder.inputs.clients import Answer, RefusalError, run
from builder.inputs.lock import Go

# How modules are reached and vouched for is the machine's affair.
_REACH = ("GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOVCS")
_NETWORK = ("PROXY", "SSL_CERT_")
_AMD64 = ("x86_64", "AMD64")
_HOMES = {"HOME": "home", "GOPATH": "path", "GOCACHE": "cache", "GOTMPDIR": "tmp"}
# A third of the toolchain's files, which no build reads.
_UNUSED = ("go/api/", "go/doc/", "go/misc/", "go/test/")


@dataclass(frozen=True, slots=True)
class Room:
    """An unpacked toolchain with module, build and home folders of its own, all below `folder`."""

    go: Path
    folder: Path
    environment: tuple[tuple[str, str], ...]

    def run(self, *arguments: str, tick: Callable[[], None] | None = None) -> Answer:
        """Run the go command; raises RefusalError with what it complains of."""
        argv = [str(self.go), *arguments]
        answer = run(argv, cwd=self.folder, env=dict(self.environment), tick=tick)
        if answer.code != 0:
            raise RefusalError(answer.gist())
        return answer


def furnish(wheel: Path, entry: Go, folder: Path, progress: Progress) -> Room:
    """Unpack the toolchain's `wheel` into `folder` and set up the environment for `entry`.

    Raises RefusalError on a machine that the toolchain does not run on.
    """
    if platform.machine() not in _AMD64:
        raise RefusalError(
            f"the pinned toolchain runs on amd64, this machine is {platform.machine()}"
        )
    progress(f"{entry.name}: unpacking the Go toolchain")
    _unpack(wheel, folder / "toolchain")
    for name in _HOMES.values():
        (folder / name).mkdir()
    # Or else the go command leaves a process behind that writes down what was run.
    telemetry = folder / _HOMES["HOME"] / ".config" / "go" / "telemetry"
    telemetry.mkdir(parents=True)
    (telemetry / "mode").write_text("off\n")
    go = folder / "toolchain" / "go" / "bin" / "go"
    users = Room(go, folder, tuple(_users(folder).items()))
    reach = json.loads(users.run("env", "-json", *_REACH).out)
    ours = _ours(folder, entry) | {key: value for key, value in reach.items() if value}
    return Room(go, folder, tuple(ours.items()))


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if not member.filename.startswith(_UNUSED) and "/testdata/" not in member.filename:
                path = Path(archive.extract(member, folder))
                if (member.external_attr >> 16) & 0o111 and path.is_file():
                    path.chmod(0o755)


def _users(folder: Path) -> dict[str, str]:
    """The user's environment, of Go's own settings only those about reaching modules."""
    kept = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith("GO") or key in (*_REACH, "GOENV")
    }
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    kept.pop("XDG_CONFIG_HOME", None)
    file = {"GOENV": os.environ.get("GOENV", f"{config}/go/env")}
    return kept | file | {"HOME": str(folder / _HOMES["HOME"]), "GOTOOLCHAIN": "local"}


def _ours(folder: Path, entry: Go) -> dict[str, str]:
    network = {
        key: value
        for key, value in os.environ.items()
        if any(word in key.upper() for word in _NETWORK)
    }
    # git is what the go command asks where a module comes from no proxy.
    kept = network | {"PATH": os.environ.get("PATH", os.defpath)}
    kept["NETRC"] = os.environ.get("NETRC", os.path.expanduser("~/.netrc"))
    rooms = {key: str(folder / name) for key, name in _HOMES.items()}
    fixed = {
        "GOENV": "off",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOOS": "linux",
        "GOARCH": entry.arch,
        "GOAMD64": "v1",
        "CGO_ENABLED": "0",
        # Modules are left writable, so that they can be thrown away by others than root.
        "GOFLAGS": "-trimpath -buildvcs=false -modcacherw",
    }
    return kept | rooms | fixed


def module_sum(room: Room, module: str, version: str) -> str:
    """The h1: sum of a module's content, checked by the go command; or raise RefusalError."""
    answer = room.run("mod", "download", "-json", f"{module}@{version}")
    return str(json.loads(answer.out)["Sum"])


def latest(room: Room, module: str) -> str:
    """The newest release of a module that the proxy knows, or raise RefusalError."""
    answer = room.run("list", "-m", "-json", f"{module}@latest")
    return str(json.loads(answer.out)["Version"])


def build(room: Room, entry: Go, version: str, progress: Progress) -> Path:
    """Build the entry's command at `version`; the program's path, or raise RefusalError."""
    label = f"{entry.name}: building {version} (some 2 or 3 minutes on two cores)"
    progress(label)
    start = time.monotonic()

    def tick() -> None:
        progress(f"{label}, {time.monotonic() - start:.0f} s")

    room.run("install", f"{entry.pin.package}@{version}", tick=tick)
    return room.folder / "path" / "bin" / entry.pin.package.rpartition("/")[2]


def fetch(entry: Go, wheel: Path, folder: Path, progress: Progress) -> Path:
    """Build the pinned command with the toolchain in `wheel`, below `folder`.

    Raises RefusalError where the module's sum is not the locked one, and with what go complains of.
    """
    room = furnish(wheel, entry, folder, progress)
    progress(f"{entry.name}: downloading {entry.module} {entry.pin.version}")
    total = module_sum(room, entry.module, entry.pin.version)
    if total != entry.sum:
        raise RefusalError(f"the module's sum is {total}, locked is {entry.sum}")
    return build(room, entry, entry.pin.version, progress)
