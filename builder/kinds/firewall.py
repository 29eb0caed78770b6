"""The guests' firewall: NNN.fw on Proxmox, nftables on plain LXC.

On Proxmox the cluster's own switch (cluster.fw) is never touched: without it the files wait.
"""

from __future__ import annotations

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds import firewall_nft, firewall_pve
from builder.kinds.artifact import Artifact, HostFile
from builder.network import Network

KIND = "firewall"


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """A file for each guest on Proxmox; rules, their unit and their settings on plain LXC."""
    if network.host.platform.kind == "lxc":
        return _plain(network)
    render = emit.template("host/etc/pve/firewall/guest.fw.j2")
    return tuple(
        HostFile(KIND, f"/etc/pve/firewall/{guest.id}.fw", render(fw=fw), 0o640, "firewall")
        for guest, fw in firewall_pve.view(network)
    )


def _plain(network: Network) -> tuple[Artifact, ...]:
    rules = emit.template("host/etc/phoenix/firewall.nft.j2")(fw=firewall_nft.view(network))
    # Frames inside of a bridge that filters VLANs bear a tag, without which none is asked for.
    tagged = any(bridge.vlan_aware for bridge in network.host.bridges)
    sysctl = emit.template("host/etc/sysctl.d/90-phoenix-firewall.conf.j2")(tagged=tagged)
    unit = "etc/systemd/system/phoenix-firewall.service"
    modules = "etc/modules-load.d/phoenix-firewall.conf"
    return (
        HostFile(KIND, "/etc/phoenix/firewall.nft", rules),
        HostFile(KIND, f"/{unit}", fixed(f"host/{unit}")),
        HostFile(KIND, "/etc/sysctl.d/90-phoenix-firewall.conf", sysctl),
        HostFile(KIND, f"/{modules}", fixed(f"host/{modules}")),
    )
