"""What is declared of a test's host.

It is small: the gateway, the mesh, the CA, and one guest with a program (`chat`), which was there
before as the operator's own, and is adopted.
"""

from __future__ import annotations

from builder.lab.shape import BRIDGED, Lab

NAME = "chat.example.org"
"""The name that clients outside know the program by."""
SITE = """\
site: phoenix
domain: phoenix.internal
dns: [198.18.255.53]
services:
  chat:
    backends: [chat]
    port: 8000
    health: {path: /health}
    expose: [chat.example.org]
    grace: 30s
    limits: {rate: 1000/s, burst: 1000}
"""
_ROUTED = """\
bridges:
  vmbr0:
    address: 10.0.0.1/24
    uplink: {interface: eth0, address: ADDRESS/24, gateway: ROUTER}
"""
_BRIDGED = """\
bridges:
  vmbr0: {address: ADDRESS/24, gateway: ROUTER, ports: [eth0]}
"""
_HOST = """\
host: HOST
platform: {kind: lxc}
reach: root@ADDRESS
BRIDGES
defaults: {template: debian-12.tar, restart: allow}
guests:
  gateway: {id: 101, role: gateway, address: NET.101GATEWAY}
  mesh: {id: 102, role: mesh, address: NET.102GATEWAY}
  ca: {id: 103, role: ca, address: NET.103GATEWAY}
"""
_CHAT = "  chat: {id: 111, address: NET.111GATEWAY, adopt: true}\n"


def host(lab: Lab, guests: str = _CHAT) -> str:
    """The description of a lab's host, with these guests beside the three that it always has."""
    bridged = lab.shape == BRIDGED
    lan = str(lab.network[0]).rpartition(".")[0]
    values = {
        "BRIDGES": (_BRIDGED if bridged else _ROUTED).rstrip("\n"),
        "GATEWAY": ", gateway: lan" if bridged else "",
        "HOST": lab.name,
        "ADDRESS": str(lab.address),
        "ROUTER": str(lab.router),
        "NET": lan if bridged else "10.0.0",
    }
    text = _HOST + guests
    for key, value in values.items():
        text = text.replace(key, value)
    return text
