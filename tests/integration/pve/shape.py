"""A lab whose host is a Proxmox node: the lab's own container, with stand-ins for what only Proxmox
has: /etc/pve, `pct` and its kin, and the units that they belong to. Guests are real ones.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.lab.shape import File, Foreign, Lab

PVE = "pve"
NODE = "pve1"
TEMPLATE = "/var/lib/vz/template/cache/debian-12-standard_12.7-1_amd64.tar.zst"
"""What configs/hosts/pve1.yaml takes for its guests, as `pveam download` would have brought it."""

ROOT = Path(__file__).resolve().parents[3]
_FILES = Path(__file__).parent / "files"
_STANDINS = ROOT / "tests/host/proxmox"
_PLACE = "usr/share/pve"
_NAMES = ("usr/sbin/pct", "usr/sbin/pvesm", "usr/bin/pvesh")
_UNITS = ("pve-cluster.service", "pve-guests.service")
_SYSTEM = "etc/systemd/system"
_LAN = "192.168.1."


@dataclass(frozen=True, slots=True)
class Pve(Lab):
    """The node. Its guests are foreign ones of Proxmox's, which a test makes with `pct`."""

    @property
    def called(self) -> str:
        """As configs/ has it."""
        return NODE

    def foreign(self) -> tuple[Foreign, ...]:
        """None that plain LXC would know of."""
        return ()

    def described(self) -> str:
        """configs/hosts/pve1.yaml itself, in this lab's LAN and with its card's name."""
        text = (ROOT / f"configs/hosts/{NODE}.yaml").read_text(encoding="utf-8")
        text = replaced(text, "enp3s0", "eth0")
        return self.moved(text)

    def moved(self, text: str) -> str:
        """A text with the addresses of this LAN for those of configs/."""
        return replaced(text, _LAN, str(self.network[0]).removesuffix("0"))

    def files(self, host_key: bytes, operator: bytes) -> Iterator[File]:
        """With all that makes a Proxmox node of it."""
        yield from Lab.files(self, host_key, operator)
        found = importlib.util.find_spec("mfusepy")
        assert found is not None
        assert found.origin is not None
        yield File(f"{_PLACE}/mfusepy.py", Path(found.origin).read_bytes())
        for program in _STANDINS.glob("*.py"):
            yield File(f"{_PLACE}/{program.name}", program.read_bytes(), 0o755)
        for name in _NAMES:
            yield File(name, link=f"/{_PLACE}/pct.py")
        yield File("etc/pct-backend", b"liblxc\n")
        for unit in _UNITS:
            yield File(f"{_SYSTEM}/{unit}", (_FILES / unit).read_bytes())
            yield File(f"{_SYSTEM}/multi-user.target.wants/{unit}", link=f"../{unit}")
        yield File("etc/tmpfiles.d/nvidia.conf", (_FILES / "nvidia.conf").read_bytes())


def replaced(text: str, old: str, new: str) -> str:
    """A text with other words, which must be in it."""
    assert old in text, (old, text)
    return text.replace(old, new)
