"""Guests as containers: NNN.conf in PVE's canonical form, or liblxc's own config.

Both hold what we declare, and nothing that belongs to the guest's life: root file system, volumes,
snapshots and what is pending stay as they are on the host. What a guest is first made from is its
`creation`. Folders are bound by lxc.mount.entry on both platforms: unlike PVE's mpN it leaves
`pct snapshot` possible.

No program here keeps a guest from making itself an IPv6 address out of router advertisements: PVE
writes no more than what is given into the guest, and its parser drops lxc.sysctl.*. So each guest
sets that itself, by a unit of its overlay, before its network starts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds import conf_lxc, conf_pve
from builder.kinds.artifact import Artifact, GuestFiles, HostFile
from builder.kinds.interfaces_sysctl import Setting
from builder.model import Guest
from builder.network import Network
from builder.tree import Entry, File, Link, Tree
