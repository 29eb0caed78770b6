"""Small releases, as the builder would write them, with their files in a host's store."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import manifest, tree
from builder.host import generations
from builder.host.decide import Effects, Taken
from builder.host.generations import Kept
from builder.host.guests import Draining
from builder.host.host import Host
from builder.host.paths import Paths
from builder.host.platform_lxc import Lxc
from builder.host.platforms import Platform
from builder.host.release import Release
from builder.host.store import Store
from builder.manifest import Object

INTERFACES = b"""\
auto lo
iface lo inet loopback

auto vmbr0
iface vmbr0 inet static
\taddress 10.0.0.1/24
\tbridge-ports none
"""
SYSCTL = "/etc/sysctl.d/90-phoenix.conf"
INTERFACES_PATH = "/etc/network/interfaces"


@dataclass
class Standing:
    """A platform of which nothing but its files and its list is real."""

    paths: Paths
    running: dict[int, bool] = field(default_factory=dict)
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def conf(self, guest: int) -> str:
        return f"/var/lib/lxc/{guest}/config"

    def exists(self, guest: int) -> bool:
        return self.paths.at(f"/var/lib/lxc/{guest}").exists()

    def all(self) -> dict[int, bool]:
        return dict(self.running)

    def unready(self) -> str:
        return ""

    def locked(self, path: str) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()

    def takes(self, old: bytes, new: bytes) -> Taken:
        return Lxc(self.paths).takes(old, new)

    def retired(self, conf: bytes) -> bytes:
        return Lxc(self.paths).retired(conf)

    def revived(self, conf: bytes) -> bytes:
        return Lxc(self.paths).revived(conf)

    def between(self, old: bytes, new: bytes, now: bytes) -> bool:
        return False

    def problems(
        self, creates: Mapping[int, Mapping[str, Any]], guests: Iterable[int]
    ) -> Iterable[str]:
        return [f"guest {guest} has no template" for guest, c in creates.items() if not c]

    def create(self, guest: int, creation: Mapping[str, Any]) -> None:
        self.paths.at(f"/var/lib/lxc/{guest}/rootfs").mkdir(parents=True)
        self.calls.append(("create", guest, creation["template"]))

    def destroy(self, guest: int) -> bool:
        place = self.paths.at(f"/var/lib/lxc/{guest}")
        (place / "rootfs").rmdir()
        place.rmdir()
        self.calls.append(("destroy", guest))
        return True


def released(
    place: Store,
    *,
    sysctl: str = "net.ipv4.ip_forward = 1\n",
    interfaces: bytes | None = INTERFACES,
    guests: Mapping[int, Mapping[str, str]] | None = None,
) -> bytes:
    """A release's manifest; its files are in the store. `guests` are files by guest and path."""
    targets = [_target(place, SYSCTL, "replace", sysctl.encode())]
    if interfaces is not None:
        targets.append(_target(place, INTERFACES_PATH, "interfaces", interfaces))
    refs = []
    for number, held in (guests or {}).items():
        conf = f"lxc.uts.name = g{number}\n".encode()
        targets.append(_target(place, f"/var/lib/lxc/{number}/config", "lxc-conf", conf))
        refs.append(manifest.GuestRef(f"g{number}", number, _guest(place, number, held)))
    return manifest.dump(
        manifest.Release(
            site="phoenix",
            host="lab",
            domain="phoenix.internal",
            platform=manifest.Platform("lxc", 0),
            reach=manifest.Reach("198.18.0.10", "root"),
            management=("198.18.0.10",),
            targets=tuple(sorted(targets, key=lambda target: target.path)),
            guests=tuple(refs),
            kits=(),
            inputs=(),
            secrets=(),
            network=stored(place, b"{}\n"),
            unready=(),
        )
    )


def stored(place: Store, data: bytes, name: str = "x") -> Object:
    """A file of the store."""
    made = Object(tree.digest(data), name, len(data))
    path = place.path(made.digest)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        path.write_bytes(data)
        path.chmod(0o444)
    return made


def _target(place: Store, path: str, how: str, data: bytes) -> manifest.Target:
    made = stored(place, data)
    return manifest.Target(path, "interfaces", how, 0o644, "root:root", made)


def _guest(place: Store, number: int, held: Mapping[str, str]) -> Object:
    entries, offset = [], 512
    for path, text in sorted(held.items()):
        data = text.encode()
        made = stored(place, data)
        mode = 0o755 if path.startswith("bin/") else 0o644
        entries.append(tree.Indexed(path, mode, len(data), made.digest, offset))
        offset += -(-len(data) // 512) * 512 + 512
    index = stored(place, manifest.dump_index(manifest.LayerIndex(tuple(entries))))
    node = manifest.GuestNode(
        name=f"g{number}",
        id=number,
        role="service",
        restart="allow",
        layers=(manifest.Layer("names", index, index),),
        daemons=(manifest.Daemon("nginx", ()),) if any("nginx/" in p for p in held) else (),
        creation=(("template", "debian-12.tar"),),
    )
    return stored(place, manifest.dump_guest(node))


@dataclass
class Stage:
    """A host below a folder, of which only the files are real."""

    root: Path
    performed: list[Effects] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What does not run well after the next change; `ill` does not before either."""
    ill: list[str] = field(default_factory=list)
    sick: list[str] = field(default_factory=list)
    worn: list[str] = field(default_factory=list)
    draining: dict[int, Draining] = field(default_factory=dict)
    """By guest, the slot that drains."""
    trusted: Callable[[Paths, int], Kept] = generations.kept

    def __post_init__(self) -> None:
        self.paths = Paths(self.root)
        self.store = Store(self.paths)
        self.platform = Standing(self.paths)
        for folder in ("/etc/network", "/etc/sysctl.d", "/var/lib/lxc", "/var/lib/phoenix/store"):
            self.paths.at(folder).mkdir(parents=True, exist_ok=True)
        if not self.paths.at(INTERFACES_PATH).exists():
            self.paths.at(INTERFACES_PATH).write_text(
                "# by hand\nauto lo\niface lo inet loopback\n"
            )

    def host(self) -> Host:
        place: Platform = self.platform  # type: ignore[assignment]
        return Host(
            self.paths, self.store, place, self._perform, self._health, self._tell,
            guarded=False, trusted=self.trusted, worn=lambda _: self.worn,
            draining=self.draining.get,
        )  # fmt: skip

    def keep(self, data: bytes) -> int:
        """Keep a release; its number."""
        return generations.keep(self.paths, data, b"signed")

    def files(self) -> dict[str, bytes | str]:
        """Every file and link outside of the store, by its path."""
        found: dict[str, bytes | str] = {}
        for path in sorted(self.root.rglob("*")):
            name = str(path.relative_to(self.root))
            if name.startswith(("var/lib/phoenix/store", "var/lib/phoenix/generations")):
                continue
            if path.is_symlink():
                found[name] = str(path.readlink())
            elif path.is_file() and path.name != "lock":
                found[name] = path.read_bytes()
        return found

    def _perform(self, _platform: Platform, effects: Effects) -> None:
        self.performed.append(effects)
        self.sick = list(self.faults)
        for guest in effects.guests:
            self.platform.running[guest.number] = guest.what not in ("leave", "retire")

    def _health(self, _wanted: Release | None) -> Iterable[str]:
        return [*self.ill, *self.sick]

    def _tell(self, event: str, facts: Mapping[str, Any]) -> None:
        self.events.append(event)
