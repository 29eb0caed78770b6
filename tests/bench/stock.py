"""The same chain as people set it up by hand: nginx, Traefik and nginx, with what their own guides
say and else their defaults, in the lab's three guests that are none of ours.

Below AT_ONCE it is as people have it who serve tokens: nginx keeps no answer back.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from builder.lab.shape import FOREIGN_ROOT
from builder.lab.up import Up
from tests.integration.machine import until
from tests.judges import pki, programs

NAME = "stock.example.org"
AT_ONCE = "/at-once"
_HOME = "/stock"
_NGINX = f"{_HOME}/nginx/usr/sbin/nginx"
_PROXY = """\
user root;
worker_processes auto;
events {{}}
http {{
    access_log /stock/access-{name}.log;
    server {{
        listen 443 ssl http2;
        server_name {served};
        ssl_certificate /stock/{name}.crt;
        ssl_certificate_key /stock/{name}.key;
        client_max_body_size 0;
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
{more}        location / {{
            proxy_pass {to};
        }}
        location {at_once}/ {{
            proxy_pass {to}{rest};
            proxy_buffering off;
        }}
    }}
}}
"""
_VERIFIED = """\
        proxy_ssl_verify on;
        proxy_ssl_trusted_certificate /stock/root.crt;
        proxy_ssl_name mesh.stock;
        proxy_ssl_server_name on;
"""
_STATIC = """\
entryPoints:
  websecure: {address: ":443"}
providers:
  file: {filename: /stock/routes.yaml}
accessLog: {filePath: /stock/access-traefik.log}
"""
_ROUTES = """\
http:
  routers:
    chat: {{rule: "Host(`{name}`)", service: chat, tls: {{}}}}
  services:
    chat:
      loadBalancer:
        serversTransport: front
        servers: [{{url: "https://{front}"}}]
  serversTransports:
    front: {{rootCAs: [/stock/root.crt], serverName: front.stock}}
tls:
  certificates: [{{certFile: /stock/mesh.crt, keyFile: /stock/mesh.key}}]
  stores:
    default: {{defaultCertificate: {{certFile: /stock/mesh.crt, keyFile: /stock/mesh.key}}}}
"""
BARE_PORT = 8443
_CURRENT = "/opt/phoenix/current"
ROOT = f"{_CURRENT}/trust/root.crt"
# What a connection costs by TLS is as in overlays/common/nginx/settings.conf.
_BARE = """\
user root;
worker_processes auto;
worker_rlimit_nofile 65536;
pid /root/bare.pid;
events {{ worker_connections 16384; }}
http {{
    access_log off;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    ssl_session_tickets off;
    upstream mesh {{
        server 10.0.0.102:443;
        keepalive 128;
    }}
    server {{
        listen {port} ssl;
        server_name {name};
        ssl_certificate {held}/certificate.pem;
        ssl_certificate_key {held}/key.pem;
        keepalive_requests 100000;
        location / {{
            proxy_pass https://mesh;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            proxy_ssl_protocols TLSv1.3;
            proxy_ssl_server_name on;
            proxy_ssl_name mesh.phoenix.internal;
            proxy_ssl_verify on;
            proxy_ssl_verify_depth 2;
            proxy_ssl_trusted_certificate {current}/trust/root.crt;
        }}
    }}
}}
"""


@dataclass(frozen=True, slots=True)
class Stock:
    """The chain, running in `up`; `root` is its own CA's certificate."""

    up: Up
    root: bytes

    @property
    def address(self) -> str:
        """Where clients find it."""
        return str(self.up.lab.foreign()[0].address)


def started(up: Up, serve: Path) -> Stock:
    """Put the chain into the guests and start it; `serve` is the program that answers."""
    gateway, mesh, front = up.lab.foreign()
    place = up.state.volume("lxc") / Path(FOREIGN_ROOT).relative_to("/var/lib/lxc") / _HOME[1:]
    place.mkdir()
    for name in ("nginx", "traefik"):
        shutil.copytree(programs.folder(name), place / name, symlinks=True)
    shutil.copy(serve, place / "try")
    for path, data in _files(str(mesh.address), str(front.address)):
        (place / path).write_bytes(data)
    # Their first user is the host's 100000.
    _on(up, up.lab.host, "chown", "-R", "100000:100000", f"{FOREIGN_ROOT}{_HOME}")
    _guest(up, front.number, f"{_HOME}/try serve --name stock --listen 127.0.0.1:8000")
    for number, name in ((front.number, "front"), (gateway.number, "gateway")):
        _guest(up, number, f"mkdir -p /var/log/nginx /var/lib/nginx; {_nginx(name)}")
    _guest(up, mesh.number, f"{_HOME}/traefik/traefik --configfile={_HOME}/traefik.yaml")
    for each in (gateway, mesh, front):
        until(lambda number=each.number: _listens(up, number), f"guest {each.number} listens")  # type: ignore[misc]
    return Stock(up, pki.authority().root)


def _listens(up: Up, number: int) -> bool:
    """Whether something takes connections at port 443 of a guest."""
    look = ("lxc-attach", "--name", str(number), "--", "grep", "-q", ":01BB 0", "/proc/net/tcp")
    return up.engine.inside(up.lab.host, *look, "/proc/net/tcp6")[0] == 0


def bare(up: Up, number: int, name: str) -> int:
    """Have a bare nginx run in the gateway's guest, before the same mesh, with the gateway's own
    TLS; the port on which it answers for `name`."""
    held = f"/var/lib/phoenix/certificates/{name}"
    text = _BARE.format(name=name, held=held, current=_CURRENT, port=BARE_PORT)
    code, out, err = up.engine.tried(
        "exec", "--interactive", up.lab.host, "lxc-attach", "--name", str(number), "--clear-env",
        "--", "sh", "-c", "cat >/root/bare.conf", given=text.encode(),
    )  # fmt: skip
    assert code == 0, (out, err)
    program = f"{_CURRENT}/programs/nginx"
    libraries = f"LD_LIBRARY_PATH={program}/usr/lib/x86_64-linux-gnu"
    nginx = f"{libraries} {program}/usr/sbin/nginx -e /root/bare.log -c /root/bare.conf"
    words = f"mkdir -p /var/lib/nginx; {nginx}"
    attach = ("lxc-attach", "--name", str(number), "--clear-env", "--", "sh", "-c", words)
    _on(up, up.lab.host, *attach)
    return BARE_PORT


def _files(mesh: str, front: str) -> Iterator[tuple[str, bytes]]:
    named = {"gateway": [NAME], "mesh": ["mesh.stock", NAME], "front": ["front.stock"]}
    for name, names in named.items():
        pair = pki.authority().issue(names)
        yield f"{name}.crt", pair.certificate
        yield f"{name}.key", pair.key
    yield "root.crt", pki.authority().root
    for name, served, to, rest, more in (
        ("gateway", NAME, f"https://{mesh}", "", _VERIFIED),
        # The program knows nothing of that path.
        ("front", "_", "http://127.0.0.1:8000", "/", ""),
    ):
        text = _PROXY.format(name=name, served=served, to=to, rest=rest, more=more, at_once=AT_ONCE)
        yield f"{name}.conf", text.encode()
    yield "traefik.yaml", _STATIC.encode()
    yield "routes.yaml", _ROUTES.format(name=NAME, front=front).encode()


def _nginx(name: str) -> str:
    pid = f"pid /stock/{name}.pid; error_log /stock/{name}.log;"
    return f'{_NGINX} -e /stock/{name}.log -c /stock/{name}.conf -g "{pid}"'


def _guest(up: Up, number: int, script: str) -> None:
    """Have a guest run a command that goes on."""
    libraries = f"LD_LIBRARY_PATH={_HOME}/nginx/usr/lib/x86_64-linux-gnu"
    words = ("lxc-attach", "--name", str(number), "--clear-env", "--", "sh", "-c")
    _on(up, up.lab.host, *words, f"({libraries} setsid sh -c '{script}' >>/stock/log 2>&1 &)")


def _on(up: Up, container: str, *command: str) -> None:
    code, out, err = up.engine.inside(container, *command)
    assert code == 0, (command, out, err)
