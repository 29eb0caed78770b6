"""A host of which all is files: what runs too, so that it outlives a killed program.

The host program is the real one down to the platform and what it does to guests; only the other
programs that it calls are stood in for. What they have running lies below `run/`, and is gone after
a reboot; there, what is enabled and what starts at boot comes up from the files as they are.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from builder.host import VERSION, back, commands, generations, network, pve_conf
from builder.host.commands import FailedError
from builder.host.decide import Effects
from builder.host.host import Host
from builder.host.paths import Paths
from builder.host.perform import perform
from builder.host.platform_proxmox import Proxmox
from builder.host.platforms import Platform
from builder.host.release import Release
from builder.host.store import Store
from tests.host.crash.plain import PlainGuests

_SLOTS = "/opt/phoenix/current/bin/phoenix-slots"
_UNITS = "etc/systemd/system"
_real_status = commands.status


class Guests(Proxmox):
    """Proxmox, but for the two questions that it asks the kernel; who is no root gives no file
    away."""

    def all(self) -> dict[int, bool]:
        folder = self.paths.at("/etc/pve/lxc")
        found = [name.removesuffix(".conf") for name in sorted(os.listdir(folder))]
        return {
            int(name): self.paths.at(f"/run/guests/{name}").exists()
            for name in found
            if name.isdigit()
        }

    def root(self, _guest: int) -> int:
        return os.geteuid() or 100000

    def process(self, guest: int) -> int:
        running: int = json.loads(self.paths.at(f"/run/guests/{guest}").read_text())["process"]
        return running


class Machine:
    """A host below `root`."""

    def __init__(self, root: Path) -> None:
        self.root, self.paths = root, Paths(root)
        self.store, pve = Store(self.paths), (root / "etc/pve").is_dir()
        self.platform: Platform = Guests(self.paths) if pve else PlainGuests(self.paths)
        self.sick: tuple[str, ...] = ()
        self.told: list[str] = []
        commands.run, commands.status = self.run, self.status

    def host(self) -> Host:
        return Host(
            self.paths, self.store, self.platform, self._perform, self._health, self._tell,
            trusted=generations.kept,
        )  # fmt: skip

    def run(self, *command: str, **options: Any) -> str:
        """What a program prints; raises FailedError where it fails."""
        code, said = self.status(*command, **options)
        if code:
            raise FailedError(f"{' '.join(command)}: exit {code}: {said}")
        return said

    def status(self, *command: str, **options: Any) -> tuple[int, str]:
        """A program's exit code and what it prints."""
        if command[0] == "ssh-keygen":
            return _real_status(*command, **options)
        if Path(command[0]).parent == self.paths.store:
            return 0, str(VERSION)
        name = command[0].rpartition("/")[2].replace("-", "_")
        said: str | None = getattr(self, f"_{name}")(*command[1:])
        return (1, "failed") if said is None else (0, said)

    def boot(self) -> None:
        """What a reboot does: recovery before the network, what is enabled, recovery, guests."""
        for path in sorted((self.root / "run").rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        host = self.host()
        back.take_back(host, "boot", early=True)
        sysctls = sorted((self.root / "etc/sysctl.d").glob("[!.]*.conf"))
        self._systemd_sysctl(*map(str, sysctls))
        self._ifreload()
        wanted = (self.root / _UNITS / "multi-user.target.wants").glob("phoenix-*")
        for unit in sorted(path.name for path in wanted if path.exists()):
            if unit == "phoenix-late.service":
                continue
            self._systemctl("restart", unit)
        back.take_back(host, "boot")
        for guest in self.platform.all():
            held = pve_conf.keys(self._conf(guest))
            begins = held.get("onboot") == "1" or "lxc.start.auto 1" in held
            if begins and "lock" not in held and not self._guest(guest):
                self._pct("start", str(guest))

    def served(self) -> dict[str, Any]:
        """What runs, by what it was made from."""
        found: dict[str, Any] = {}
        for kind in ("network", "services", "sysctl"):
            for path in sorted((self.root / "run" / kind).glob("[!.]*")):
                if kind == "sysctl" and not (self.root / "etc/sysctl.d" / path.name).exists():
                    continue  # Nothing unsets a kernel's setting; it is gone with a reboot.
                found[f"{kind}/{path.name}"] = path.read_text()
        for number, runs in self.platform.all().items():
            if runs:
                guest = self._guest(number)
                slot = guest["slots"].get(guest["live"])
                conf = pve_conf.keys(guest["conf"].encode())
                found[f"guest/{number}"] = (conf, slot, guest["units"])
        for path in sorted((self.root / "run/guests").glob("[!.]*")):
            assert int(path.name) in self.platform.all(), f"{path.name} runs without a conf"
        return found

    def timers(self) -> set[str]:
        """The guards that are armed."""
        return {path.name for path in (self.root / "run/timers").glob("*")}

    def _perform(self, found: Platform, effects: Effects) -> None:
        perform(self.paths, found, effects, lambda *_: None)

    def _health(self, _: Release | None) -> Iterable[str]:
        return self.sick

    def _tell(self, event: str, _: Mapping[str, Any]) -> None:
        self.told.append(event)

    def _put(self, name: str, text: str | None) -> None:
        """Have what runs be so, from one moment to the next."""
        path = self.root / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if text is None:
            path.unlink(missing_ok=True)
            return
        (path.parent / f".{path.name}").write_text(text)
        (path.parent / f".{path.name}").rename(path)

    def _systemctl(self, verb: str, *units: str) -> str:
        for unit in units:
            if unit.endswith(".timer"):
                self._put(f"timers/{unit.removesuffix('.timer')}", None)
            elif verb == "stop":
                self._put(f"services/{unit}", None)
            else:
                name = unit.removeprefix("phoenix-").removesuffix(".service")
                reads = [self.root / _UNITS / unit, *(self.root / "etc/phoenix").glob(f"{name}.*")]
                self._put(f"services/{unit}", "".join(path.read_text() for path in reads))
        return ""

    def _systemd_run(self, unit: str, *_: str) -> str:
        self._put(f"timers/{unit.removeprefix('--unit=')}", "armed")
        return ""

    def _systemd_sysctl(self, *paths: str) -> str:
        for path in paths:
            self._put(f"sysctl/{Path(path).name}", Path(path).read_text())
        return ""

    def _modprobe(self, *_: str) -> str:
        return ""

    def _ifreload(self, *_: str) -> str:
        self._put("network/interfaces", (self.root / "etc/network/interfaces").read_text())
        return ""

    def _ip(self, *words: str) -> str:
        runs = network.expected((self.root / "run/network/interfaces").read_bytes())
        if "address" not in words:
            return "[]"
        addresses = [(name, each.split("/")) for name, each in runs.addresses]
        return json.dumps(
            [
                {"ifname": name, "addr_info": [{"local": local, "prefixlen": int(length)}]}
                for name, (local, length) in addresses
            ]
        )

    def _pvesm(self, _: str, volume: str) -> str:
        return f"/var/lib/vz/template/{volume}"

    def _pct(self, verb: str, guest: str, *words: str) -> str | None:
        does: Callable[[int, tuple[str, ...]], str | None] = getattr(self, f"_pct_{verb}")
        return does(int(guest), words)

    def _pct_create(self, guest: int, words: tuple[str, ...]) -> str:
        given = dict(zip(words[1::2], words[2::2], strict=True))
        conf = f"arch: amd64\nrootfs: local:{guest},size=1G\ntags: {given['--tags']}\n"
        self._conf_put(guest, b"lock: create\n")
        (self.root / f"var/lib/vz/{guest}").mkdir()
        self._conf_put(guest, conf.encode())
        return ""

    def _pct_unlock(self, guest: int, _: tuple[str, ...]) -> str:
        conf = self._conf(guest)
        self._conf_put(guest, re.sub(rb"^lock:.*\n", b"", conf, flags=re.MULTILINE))
        return ""

    def _pct_destroy(self, guest: int, _: tuple[str, ...]) -> str | None:
        if self._guest(guest):
            return None
        if (place := self.root / f"var/lib/vz/{guest}").exists():
            place.rmdir()
        (self.root / f"etc/pve/firewall/{guest}.fw").unlink(missing_ok=True)
        (self.root / f"etc/pve/lxc/{guest}.conf").unlink()
        return ""

    def _lxc_start(self, _name: str, number: str, *_: str) -> str | None:
        return self._pct_start(int(number), ())

    def _lxc_stop(self, _name: str, number: str, *_: str) -> str:
        return self._pct_shutdown(int(number), ())

    def _lxc_usernsexec(self, *words: str) -> str:
        """tar, which unpacks a template."""
        folder = Path(words[-1]) / "etc"
        folder.mkdir()
        for name in ("hostname", "passwd"):
            (folder / name).write_text("as the template has it\n")
        return ""

    def _pct_start(self, guest: int, _: tuple[str, ...]) -> str | None:
        if self._guest(guest):
            return None
        held: dict[str, Any] = {"conf": self._conf(guest).decode(), "process": os.getpid()}
        folder = self._folder(guest)
        self._guest_put(guest, {**held, "live": "a", "slots": {"a": folder}, "units": folder})
        return ""

    def _pct_shutdown(self, guest: int, _: tuple[str, ...]) -> str:
        self._put(f"guests/{guest}", None)
        return ""

    def _pct_set(self, guest: int, words: tuple[str, ...]) -> str:
        values: dict[str, str | None] = {}
        for option, value in zip(words[::2], words[1::2], strict=True):
            gone = value.split(",") if option == "--delete" else ()
            values |= dict.fromkeys(gone) if gone else {option.removeprefix("--"): value}
        new = pve_conf._with(self._conf(guest), values)
        self._conf_put(guest, new)
        running = self._guest(guest)
        hot = pve_conf._with(running["conf"].encode(), values)
        self._guest_put(guest, {**running, "conf": hot.decode()})
        return ""

    def _lxc_attach(self, _name: str, number: str, _clear: str, _end: str, *words: str) -> str:
        guest = int(number)
        held = self._guest(guest)
        folder, slots = self._folder(guest), held["slots"]
        if words[0] == _SLOTS:
            if words[1] == "live":
                return str(held["live"])
            if words[1] == "start":
                held["slots"] = {**slots, words[2]: folder}
            elif words[1] in ("stop", "drain"):
                held["slots"] = {**slots, words[2]: None}
            elif words[1] == "flip":
                assert slots[words[2]], "nothing runs in that slot"
                held["live"] = words[2]
            elif words[1] == "off":
                held["slots"] = {}
            self._guest_put(guest, held)
        elif words[:2] == ("systemctl", "try-restart"):
            self._guest_put(guest, {**held, "units": folder})
        elif words[0] == "sh":
            self._guest_put(guest, {**held, "units": None})
        return "running"

    def _guest(self, guest: int) -> dict[str, Any]:
        try:
            held: dict[str, Any] = json.loads((self.root / f"run/guests/{guest}").read_text())
        except FileNotFoundError:
            return {}
        return held

    def _guest_put(self, guest: int, held: Mapping[str, Any]) -> None:
        self._put(f"guests/{guest}", json.dumps(held))

    def _folder(self, guest: int) -> str | None:
        link = self.paths.guest(guest) / "current"
        return os.readlink(link) if link.is_symlink() else None

    def _conf(self, guest: int) -> bytes:
        return self.paths.at(self.platform.conf(guest)).read_bytes()

    def _conf_put(self, guest: int, data: bytes) -> None:
        temporary = self.root / f"etc/pve/lxc/{guest}.conf.tmp.1"
        temporary.write_bytes(data)
        temporary.rename(self.root / f"etc/pve/lxc/{guest}.conf")
