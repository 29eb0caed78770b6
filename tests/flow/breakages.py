"""What breaks a network and passes every syntax check, each with the hop that breaks by it.

They are for the description of `tests.integration.described`.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.integration.altered import Change

_OTHER = "/etc/ssl/certs/ISRG_Root_X1.pem"
"""A root that each guest has, and that has given out nothing here."""
_NAT, _FIREWALL = "/etc/phoenix/nat.nft", "/etc/phoenix/firewall.nft"


@dataclass(frozen=True, slots=True)
class Breakage:
    """What is wrong, in which files, and what the host is to say: the hop, and why. With `deep`
    it is tried by the flag only."""

    what: str
    hop: str
    why: str
    changes: tuple[Change, ...]
    deep: bool = False


def _one(what: str, hop: str, why: str, *change: str, deep: bool = False) -> Breakage:
    owner, path, old, new = change
    return Breakage(what, hop, why, ((owner, path, old, new),), deep)


_NAME = "chat.example.org"
_DNAT = "dnat ip to 10.0.0.101"

BREAKAGES = (
    _one(
        "traffic from outside is translated to another guest", f"uplink → 101 ({_NAME})",
        "port 443", "host", _NAT, _DNAT, "dnat ip to 10.0.0.103",
    ),
    _one(
        "only the host's and the guests' own traffic is translated", f"uplink → 101 ({_NAME})",
        "port 443", "host", _NAT, '\t\t\t"eth0",\n', "",
    ),
    _one(
        "nothing is masqueraded", "103 → outside (the way out)", "no answer to three pings",
        "host", _NAT, '\t\toifname "eth0" ip saddr 10.0.0.0/24 masquerade\n', "",
    ),
    _one(
        "guests do not reach the uplink's address", f"103 → 101 ({_NAME})", "port 443",
        "host", _NAT, '\t\t\t"vmbr0",\n', "",
    ),
    _one(
        "the gateway looks for the mesh on another port", f"101 → 102 ({_NAME})",
        "and 102 itself 200", "gateway", "nginx/*", "10.0.0.102:443", "10.0.0.102:9443",
    ),
    _one(
        "the gateway expects another name of the mesh", f"101 → 102 ({_NAME})",
        "and 102 itself 200", "gateway", "nginx/*", "proxy_ssl_name mesh.",
        "proxy_ssl_name gateway.",
    ),
    _one(
        "the mesh has no router for the name", f"102 → chat ({_NAME})", "102 answers 404",
        "mesh", "traefik/dynamic/*", "Host(`chat.example.org`)", "Host(`chat.example.net`)",
    ),
    _one(
        "the mesh expects another name of the service", f"102 → chat ({_NAME})",
        "and chat itself 200", "mesh", "traefik/dynamic/*", 'serverName: "chat.phoenix.internal"',
        'serverName: "chats.phoenix.internal"',
    ),
    _one(
        "the front passes to another port", "111 → program (chat)", "and program itself 200",
        "chat", "nginx/*", "127.0.0.1:8000", "127.0.0.1:8009",
    ),
    _one(
        "the firewall keeps the mesh from the service", "102 → 111 (chat)", "no answer in time",
        "host", _FIREWALL, "10.0.0.111 . tcp . 8000", "10.0.0.111 . tcp . 9",
    ),
    _one(
        "the firewall keeps a guest from the CA", "101 → 103 (certificates)", "no answer in time",
        "host", _FIREWALL, "10.0.0.101 . 10.0.0.103", "10.0.0.101 . 10.0.0.9",
    ),
    _one(
        "port 80 says that there is nothing", f"uplink → 101 ({_NAME}, port 80)", "answers 404",
        "gateway", "nginx/redirect.conf", "308 https://$server_name$request_uri", "404",
        deep=True,
    ),
    _one(
        "the host drops what it has translated", f"uplink → 101 ({_NAME})", "no answer in time",
        "host", _NAT, "\t\tct status dnat accept\n", "", deep=True,
    ),
    _one(
        "the gateway has another root for the mesh", f"101 → 102 ({_NAME})", "and 102 itself 200",
        "gateway", "nginx/*", "proxy_ssl_trusted_certificate ../trust/root.crt",
        f"proxy_ssl_trusted_certificate {_OTHER}", deep=True,
    ),
    _one(
        "the mesh has another root for the service", f"102 → chat ({_NAME})", "and chat itself 200",
        "mesh", "traefik/dynamic/chat.yaml", "/opt/phoenix/current/trust/root.crt",
        _OTHER, deep=True,
    ),
    _one(
        "the gateway shows another certificate", f"uplink → 101 ({_NAME})", "the handshake fails",
        "gateway", "nginx/*", "$server_name/certificate.pem", "other/certificate.pem", deep=True,
    ),
)  # fmt: skip
