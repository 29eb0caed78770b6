"""nginx: the gateway, and the TLS fronts of guests whose programs listen on loopback.

Started once a slot, as user 6101 without any capability, and stays in the foreground:
`nginx -p FOLDER/ -c nginx/SLOT.conf -e stderr`, FOLDER the generation's.
"""

from __future__ import annotations

from builder.kinds import nginx_front, nginx_gateway
from builder.kinds.artifact import Artifact, GuestFiles
from builder.network import Network
from builder.tree import Tree

KIND = "nginx"


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """The gateway's files, then those of each guest with fronts, in the description's order."""
    gateway = Tree.of(nginx_gateway.files(network))
    fronts = tuple(
        GuestFiles(KIND, member.guest.name, Tree.of(nginx_front.files(member)))
        for member in network.members
        if member.fronts
    )
    return (GuestFiles(KIND, network.gateway.guest.name, gateway), *fronts)
