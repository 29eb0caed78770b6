"""Real guests behind the `pct` stand-in: NNN.conf written as liblxc's own configuration, and into
the guest's root file system what PVE writes there, at each start (PVE::LXC, update_lxc_config;
PVE::LXC::Setup, pre_start_hook).

Left out is what a lab lacks: AppArmor, limits of memory and processor, and the firewall's bridges.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import guests
from nnn import Conf

ROOT = 100000
"""The host's number of an unprivileged guest's root."""
_BEGIN, _END = "# --- BEGIN PVE ---\n", "# --- END PVE ---\n"


def rootfs(number: int) -> Path:
    """Where a guest's root file system is."""
    return Path(f"/var/lib/lxc/{number}/rootfs")


class Liblxc:
    """Real containers."""

    def running(self, number: int) -> bool:
        return guests.socket_there(number)

    def start(self, number: int, conf: Conf) -> None:
        prepared(number, conf)
        path = Path(f"/var/lib/lxc/{number}/config")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(liblxc(number, conf))
        log = guests.STATE / f"{number}.log"
        words = ("lxc-start", "--name", str(number), "--daemon", "--logfile", str(log))
        if subprocess.run(words, check=False).returncode:
            said = log.read_text() if log.exists() else ""
            sys.exit(f"startup for container '{number}' failed\n{said[-1000:]}")

    def take(self, number: int, key: str, value: str | None) -> None:
        """Nothing that liblxc would change under a running guest can be seen in a lab."""

    def shutdown(self, number: int, seconds: float) -> bool:
        words = ("lxc-stop", "--name", str(number), "--nokill", "--timeout", str(int(seconds)))
        return subprocess.run(words, check=False).returncode == 0

    def stop(self, number: int) -> None:
        words = ("lxc-stop", "--name", str(number), "--kill")
        if code := subprocess.run(words, check=False).returncode:
            sys.exit(f"lxc-stop failed: {code}")

    def process(self, number: int) -> int:
        words = ("lxc-info", "--name", str(number), "--pid", "--no-humanize")
        return int(subprocess.run(words, capture_output=True, check=True).stdout)


def liblxc(number: int, conf: Conf) -> str:
    """liblxc's configuration for NNN.conf. Addresses are given from outside: what PVE writes for
    the guest's own network scripts, the lab's guests have no program for."""
    keys = conf.main.keys
    lines = ["lxc.include = /usr/share/lxc/config/common.conf"]
    if keys.get("unprivileged") == "1":
        lines.append("lxc.include = /usr/share/lxc/config/userns.conf")
        if not any(key == "lxc.idmap" for key, _ in conf.main.raw):
            lines += [f"lxc.idmap = u 0 {ROOT} 65536", f"lxc.idmap = g 0 {ROOT} 65536"]
    lines += [
        f"lxc.uts.name = {keys.get('hostname', f'CT{number}')}",
        f"lxc.rootfs.path = dir:{rootfs(number)}",
        "lxc.apparmor.profile = unconfined",
    ]
    for key in sorted(keys):
        if re.fullmatch(r"net\d+", key):
            lines += _net(number, key.removeprefix("net"), keys[key])
        elif re.fullmatch(r"mp\d+", key) and keys[key].startswith("/"):
            lines.append(_mount(keys[key]))
        elif re.fullmatch(r"dev\d+", key):
            device = keys[key].partition(",")[0].removeprefix("path=")
            lines.append(f"lxc.mount.entry = {device} {device[1:]} none bind,create=file 0 0")
    lines += [f"{key} = {value}" for key, value in conf.main.raw]
    return "\n".join(lines) + "\n"


def _mount(value: str) -> str:
    source, *rest = value.split(",")
    how = dict(part.partition("=")[::2] for part in rest)
    only = ",ro" if how.get("ro") == "1" else ""
    target = how["mp"].strip("/")
    return f"lxc.mount.entry = {source} {target} none rbind,create=dir{only} 0 0"


def _net(number: int, index: str, value: str) -> list[str]:
    said = dict(part.partition("=")[::2] for part in value.split(","))
    names = {"name": "name", "hwaddr": "hwaddr", "mtu": "mtu", "gw": "ipv4.gateway",
             "gw6": "ipv6.gateway", "bridge": "link"}  # fmt: skip
    lines = ["type = veth", f"veth.pair = veth{number}i{index}", "flags = up"]
    lines += [f"{name} = {said[key]}" for key, name in names.items() if key in said]
    for key, name in (("ip", "ipv4.address"), ("ip6", "ipv6.address")):
        if "/" in said.get(key, ""):
            lines.append(f"{name} = {said[key]}")
    return [f"lxc.net.{index}.{line}" for line in lines]


def prepared(number: int, conf: Conf) -> None:
    """Write the guest's own name, hosts and resolver."""
    keys, etc = conf.main.keys, rootfs(number) / "etc"
    name, domain = keys.get("hostname", f"CT{number}"), keys.get("searchdomain", "")
    address = re.search(r"\bip=([\d.]+)/", keys.get("net0", ""))
    names = f"{name}.{domain} {name}" if domain else name
    _write(etc / "hostname", f"{name}\n")
    hosts = etc / "hosts"
    _write(hosts, _block(_text(hosts), f"{address[1] if address else '127.0.1.1'} {names}\n"))
    if "nameserver" in keys:
        servers = "".join(f"nameserver {each}\n" for each in keys["nameserver"].split())
        _write(etc / "resolv.conf", _block("", f"search {domain}\n{servers}"))


def _block(text: str, lines: str) -> str:
    """A text with PVE's own part in it, in place of the one before."""
    block = f"{_BEGIN}{lines}{_END}"
    if _BEGIN in text and _END in text:
        head, _, rest = text.partition(_BEGIN)
        return head + block + rest.partition(_END)[2]
    return text + block


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() and not path.is_symlink() else ""


def _write(path: Path, text: str) -> None:
    if (path.parent / f".pve-ignore.{path.name}").exists():
        return
    new = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    new.write_text(text)
    os.chown(new, ROOT, ROOT)
    new.chmod(0o644)
    new.rename(path)
