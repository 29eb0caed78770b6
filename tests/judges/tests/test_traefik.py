"""Traefik's judge reads back a good configuration, serves it, and says no to what it should."""

from __future__ import annotations

import json
import signal
import time

import pytest

from builder.tree import File, Tree
from tests.judges import pki, traefik
from tests.judges.guest import Guest
from tests.judges.http import request
from tests.judges.namespace import TIMEOUT, Entry
from tests.judges.tests import refuses

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

STATIC = """
global: {checkNewVersion: false, sendAnonymousUsage: false}
entryPoints:
  web:
    address: ":20001"
    http: {tls: {}, aliasHeadersStrategy: delete}
    transport: {respondingTimeouts: {readTimeout: 0s, idleTimeout: 180s}}
  pg: {address: ":20002", http: {aliasHeadersStrategy: delete}}
  api: {address: "127.0.0.1:20100", http: {aliasHeadersStrategy: delete}}
api: {dashboard: false}
log: {level: WARN}
providers:
  providersThrottleDuration: 100ms
  file: {directory: /opt/phoenix/current/traefik/dynamic, watch: false}
"""
DYNAMIC = """
http:
  routers:
    api: {entryPoints: [api], rule: "PathPrefix(`/api`)", service: api@internal}
    chat: {entryPoints: [web], rule: "Host(`chat.svc`)", service: chat, middlewares: [up]}
  middlewares:
    up: {headers: {customResponseHeaders: {X-Judge: "1"}}}
  services:
    chat:
      loadBalancer:
        serversTransport: chat
        healthCheck: {path: /health, interval: 10s}
        servers: [{url: "https://10.0.0.111", weight: 2}, {url: "https://10.0.0.112"}]
  serversTransports:
    chat: {serverName: chat.internal, rootCAs: [/opt/phoenix/current/trust/root.crt]}
tcp:
  routers: {pg: {entryPoints: [pg], rule: "HostSNI(`*`)", service: pg}}
  services: {pg: {loadBalancer: {servers: [{address: "10.0.0.113:5432"}]}}}
tls:
  stores:
    default:
      defaultCertificate:
        certFile: /var/lib/phoenix/certificates/mesh/certificate.pem
        keyFile: /var/lib/phoenix/certificates/mesh/key.pem
"""
PLACE = "/var/lib/phoenix/certificates/mesh"


def _guest(static: str = STATIC, dynamic: str = DYNAMIC) -> Guest:
    files = {"traefik/a.yaml": static, "traefik/dynamic/all.yaml": dynamic}
    return Guest(Tree.of(File(path, text.encode()) for path, text in files.items()))


def test_good() -> None:
    loaded = traefik.load(_guest())
    assert set(loaded.of("routers")) == {"api", "chat"}
    assert set(loaded.of("tcpRouters")) == {"pg"}
    [*servers] = loaded.of("services")["chat"]["loadBalancer"]["servers"]
    assert servers[0] == {"url": "https://10.0.0.111", "weight": 2}
    assert {point["name"] for point in loaded.entry_points} == {"web", "pg", "api"}


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("idleTimeout", "idelTimeout", "idelTimeout"),
        ('pg: {address: ":20002"', 'pg: {address: "20002"', "missing port in address"),
        (", http: {aliasHeadersStrategy: delete}}\n  api", "}\n  api", "aliasHeadersStrategy"),
        ("global:", "globl:", r"without effect: \['globl'\]"),
        ("{dashboard: false}", "{dashbord: false}", "dashbord"),
        ('":20002"', '":20001"', "in use"),
        ("log:", "ping: {entryPoint: gone}\nlog:", "(?i)no valid entryPoint"),
    ],
)
def test_bad_static(before: str, after: str, said: str) -> None:
    refuses(lambda text: traefik.load(_guest(text)), STATIC, before, after, said)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("10.0.0.113:5432", "10.0.0.113", "missing port in address"),
        ("weight: 2", "wieght: 2", "wieght"),
        ("interval: 10s", "interval: 10parsecs", "parsecs"),
        ("Host(`chat.svc`)", "Host(chat.svc)", "rule"),
        ("service: chat,", "service: chap,", "chap"),
        ("[up]", "[down]", "down"),
        ("serversTransport: chat", "serversTransport: other", "transport not found"),
        ("entryPoints: [web]", "entryPoints: [wob]", "wob"),
        ("tcp:\n", "tpc:\n", "would be ignored"),
        ("  serversTransports:", "  serverTransports:", "would be ignored"),
        ("tls:\n", "tls: [\n", "all.yaml"),
        ("https://10.0.0.112", "https://10.0.0.112:99999999/%zz", "invalid URL escape"),
    ],
)
def test_bad_dynamic(before: str, after: str, said: str) -> None:
    refuses(lambda text: traefik.load(_guest(dynamic=text)), DYNAMIC, before, after, said)


def test_serve() -> None:
    """A request goes through, and a changed dynamic file is taken up by SIGHUP."""
    authority = pki.authority()
    pair = authority.issue(["chat.svc"])
    state = {f"{PLACE}/certificate.pem": pair.certificate, f"{PLACE}/key.pem": pair.key}
    plain = DYNAMIC.replace("https://10.0.0.111", "http://10.0.0.111").replace(
        ', {url: "https://10.0.0.112"}', ""
    )
    files = Guest(_guest(dynamic=plain).tree, state=state)
    with traefik.serve(files) as serving:
        answer = request(serving.space, "10.0.0.102", 20001, host="chat.svc", trust=authority.root)
        assert (answer.status, answer.headers["x-judge"]) == (502, "1")
        path = "/opt/phoenix/current/traefik/dynamic/all.yaml"
        serving.space.write([Entry(path, plain.replace("X-Judge", "X-Other").encode())])
        serving.space.signal(serving.daemon, signal.SIGHUP)
        deadline = time.monotonic() + TIMEOUT
        while "X-Other" not in json.dumps(serving.api("/api/rawdata")):
            assert time.monotonic() < deadline, "the change is not taken up"
            assert serving.space.wait(serving.daemon, 0.01) is None
