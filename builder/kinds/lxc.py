"""Guests as containers: NNN.conf in PVE's canonical form, or liblxc's own config.

Both hold what is declared, and nothing that belongs to a guest's life: root file system, volumes,
snapshots and what is pending stay as they are on the host. What a guest is first made from is its
`creation`. Folders are bound by lxc.mount.entry on both platforms: unlike PVE's mpN, that leaves
`pct snapshot` possible.

Nothing here keeps a guest from making itself an IPv6 address out of router advertisements: PVE
writes what is given into the guest and no more, and its parser drops lxc.sysctl.*. So each guest
does that itself, by a unit of its overlay, before its network starts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds import conf_lxc, conf_pve
from builder.kinds.artifact import Artifact, GuestFiles, HostFile
from builder.kinds.conf import Line
from builder.model import Guest
from builder.network import Network
from builder.tree import File, Link, Tree

KIND = "lxc"
UNIT = "phoenix-ipv6.service"
_GIB = 1 << 30


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """Each guest's configuration on the host, and what it needs in itself."""
    guests = [member.guest for member in network.members]
    files = tuple(_file(network, guest) for guest in guests)
    return (*files, *(GuestFiles(KIND, guest.name, _inside(guest)) for guest in guests))


def creation(network: Network, guest: Guest) -> Mapping[str, str]:
    """What a missing guest is made from: `pct create`'s options, or what plain LXC needs of them.

    The values are what PVE fixes at creation; all else comes with the guest's configuration. Of a
    guest that is adopted there are none: where its id is missing, nothing may be made in its place.
    """
    if guest.adopt:
        return {}
    found = {"arch": "amd64", "unprivileged": str(int(guest.unprivileged))}
    if guest.template:
        found["template"] = guest.template
    if network.host.platform.kind == "proxmox":
        found["ostype"] = "debian"
        if guest.disk:
            found["rootfs"] = f"{guest.disk.storage}:{guest.disk.size // _GIB}"
    return found


def _file(network: Network, guest: Guest) -> HostFile:
    if network.host.platform.kind == "proxmox":
        conf = conf_pve.view(network, guest)
        data = emit.template("host/etc/pve/lxc/conf.j2")(conf=conf)
        return HostFile(KIND, f"/etc/pve/lxc/{guest.id}.conf", data, 0o640, "lxc-conf")
    data = emit.template("host/var/lib/lxc/config.j2")(lines=conf_lxc.view(network, guest))
    return HostFile(KIND, f"{conf_lxc.HOME}/{guest.id}/config", data, merge="lxc-conf")


def _inside(guest: Guest) -> Tree:
    settings = emit.template("common/network/sysctl.conf.j2")(settings=tuple(_settings(guest)))
    return Tree.of(
        (
            File("network/sysctl.conf", settings),
            File(f"units/{UNIT}", fixed(f"common/units/{UNIT}")),
            Link(f"units/sysinit.target.wants/{UNIT}", f"../{UNIT}"),
        )
    )


def _settings(guest: Guest) -> Iterator[Line]:
    """Kernel settings in the guest: an interface without an IPv6 address has no IPv6 at all."""
    for interface in guest.interfaces:
        base = f"net/ipv6/conf/{interface.name}"
        if interface.address6 is None:
            yield Line(f"{base}/disable_ipv6", "1")
        else:
            yield Line(f"{base}/accept_ra", "0")
            yield Line(f"{base}/autoconf", "0")
