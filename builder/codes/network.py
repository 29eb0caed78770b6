"""Codes of addresses, bridges, routes and the way outside."""

from __future__ import annotations

from builder.codes.code import Code

ADDRESSES = {
    "missing-address": Code(
        "A guest without an address.",
        "Names, certificates and firewall rules all rest on a guest's fixed address.",
    ),
    "duplicate-address": Code(
        "One address for two.",
        "Both answer, and packets reach now the one and now the other. Such faults come and go and "
        "are hard to find.",
    ),
    "address-outside": Code(
        "An address outside of its bridge's network.",
        "The guest would not find its neighbours or its gateway, nor they the guest.",
    ),
    "address-reserved": Code(
        "An address that the network keeps for itself.",
        "The first and last address of an IPv4 network are the network's own and the broadcast "
        "address, and the router's is in use. A guest with one of these is not reachable, or cuts "
        "off all the others.",
    ),
    "address-special": Code(
        "An address that cannot be anyone's here.",
        "Loopback, multicast and link-local addresses mean something else on each machine.",
    ),
    "address-inside": Code(
        "A machine outside with an address of the guests' network.",
        "Packets to it would stay on the bridge, where it is not. A VM of the host says its id as "
        "`vm`.",
    ),
    "duplicate-mac": Code(
        "One MAC address for two interfaces.",
        "A bridge learns where a MAC address is from the last packet, so the two would take each "
        "other's traffic. Leave `mac` out and each gets one of its own.",
    ),
    "wrong-mac": Code(
        "A MAC address that no interface can have.",
        "The kernel refuses multicast addresses and all zeros, so the guest would not start.",
    ),
    "wrong-family": Code(
        "A next hop of the other address family.",
        "A route to an IPv4 network goes over an IPv4 router.",
    ),
    "not-a-network": Code(
        "An address where a network is expected.",
        "Part of it would be ignored, which is easily the part that was meant.",
    ),
}

BRIDGES = {
    "unknown-bridge": Code(
        "A bridge that is not declared.",
        "The guest would not start, or its interface would hang on nothing.",
    ),
    "bridge-name": Code(
        "A name that a bridge cannot have.",
        "`NAME.5` is a VLAN to ifupdown2, `lo` is the kernel's, and names such as `veth101i0` are "
        "made by Proxmox for guests.",
    ),
    "bridge-mode": Code(
        "A bridge that does not know where it leads.",
        "A bridge is routed (`uplink`: the host forwards for its guests), or bridged (`gateway` "
        "and a port: guests are on the LAN), or internal (neither). Each needs some of the keys "
        "and excludes others, and a host has one way out.",
    ),
    "bridge-port": Code(
        "A bridge in the place of a physical interface.",
        "A bridge can't be a port or the uplink of another one. Declare one bridge for the "
        "physical interface, and let guests use that.",
    ),
    "duplicate-port": Code(
        "A physical interface in two bridges.",
        "The kernel gives it to one of the two, and the other is cut off.",
    ),
    "overlapping-networks": Code(
        "Two networks that share addresses.",
        "The host would look for one network's addresses in the other. So would it for its own "
        "router.",
    ),
    "shadowed-route": Code(
        "A route that hides a network or another route.",
        "The later of two routes to one network replaces the first, and a route to part of a "
        "bridge's own network leads its guests' packets away. A wider route is fine.",
    ),
    "vlan-unaware": Code(
        "VLANs on a bridge that does not filter them.",
        "Without `vlan_aware` the bridge ignores tags or drops what bears one.",
    ),
    "vlan-not-carried": Code(
        "A VLAN that the bridge does not carry.",
        "The bridge drops each packet of the guest without a word.",
    ),
    "wrong-vlans": Code(
        "A range of VLANs that there is not.",
        "ifupdown2 would refuse the bridge, and the host be without its network.",
    ),
    "mtu-too-large": Code(
        "An interface with a larger MTU than its bridge.",
        "Proxmox does not start such a guest; elsewhere large packets vanish, while small ones "
        "pass.",
    ),
    "ingress-nowhere": Code(
        "A way in from outside that ends nowhere.",
        "Clients could not reach the gateway guest, though the description says so.",
    ),
    "unreachable": Code(
        "Two that must talk to each other, and can't.",
        "A bridge without `uplink` and `gateway` is an island, and so is a VLAN: only who has an "
        "interface there reaches its guests. Give the mesh a second one, or move the guest. A DNS "
        "server, a backend or a public directory must be met too.",
    ),
}
