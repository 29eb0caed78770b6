"""What is declared of the host that a whole flow runs on: one service of each kind.

`chat` is a model's server on two guests, and the others are one of each of the rest; `web` is a
guest that runs nothing and calls the others.
"""

from __future__ import annotations

from builder.lab.shape import Lab
from tests.integration import described

SITE = """\
site: phoenix
domain: phoenix.internal
dns: [198.18.255.53]
services:
  chat:
    backends: [one, two]
    port: 8000
    profile: llm
    health: {path: /health, interval: 10s, timeout: 10s}
    expose: [chat.example.org]
    inside: true
  sockets:
    backends: [one]
    port: 8001
    profile: websocket
    expose: [sockets.example.org]
    inside: true
  rpc:
    backends: [one]
    port: 8002
    protocol: grpc
    profile: stream
    expose: [rpc.example.org]
    inside: true
  files:
    backends: [two]
    port: 8003
    profile: upload
    expose: [files.example.org]
    inside: true
  page:
    backends: [two]
    port: 8004
    expose: [page.example.org]
    inside: true
"""
GUESTS = """\
  one: {id: 111, address: NET.111GATEWAY}
  two: {id: 112, address: NET.112GATEWAY}
  web: {id: 113, address: NET.113GATEWAY}
"""


def host(lab: Lab) -> str:
    """The description of a lab's host."""
    return described.host(lab, GUESTS)
