"""nginx takes a good configuration, serves it, and its judge says no to what it should."""

from __future__ import annotations

import functools
import socket
import ssl
import threading

import pytest

from builder.tree import File, Tree
from tests.judges import nginx, pki
from tests.judges.guest import Guest
from tests.judges.http import request
from tests.judges.refusal import Refused
from tests.judges.tests import refuses

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

GOOD = """
load_module /opt/phoenix/current/programs/nginx/usr/lib/nginx/modules/ngx_stream_module.so;
pid /run/phoenix/nginx-a.pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path /run/phoenix/body;
    proxy_temp_path /run/phoenix/proxy;
    fastcgi_temp_path /run/phoenix/fastcgi;
    uwsgi_temp_path /run/phoenix/uwsgi;
    scgi_temp_path /run/phoenix/scgi;
    upstream mesh { zone mesh 64k; server 10.0.0.102:443; keepalive 8; }
    server {
        listen 10.0.0.101:20001 ssl default_server;
        listen [fd00::101]:20001 ssl default_server;
        ssl_reject_handshake on;
    }
    server {
        listen 10.0.0.101:20001 ssl;
        server_name chat.example.org;
        ssl_certificate /var/lib/phoenix/certificates/chat/certificate.pem;
        ssl_certificate_key /var/lib/phoenix/certificates/chat/key.pem;
        location = /here { return 200 "a \\"quoted\\" word; ${host}"; }
        location / {
            proxy_pass https://mesh;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_ssl_verify on;
            proxy_ssl_server_name on;
            proxy_ssl_name mesh.phoenix.internal;
            proxy_ssl_trusted_certificate /opt/phoenix/current/trust/root.crt;
        }
    }
}
stream { server { listen 20002; proxy_pass 10.0.0.111:5432; } }
"""


def _guest(conf: str) -> Guest:
    return Guest(Tree.of([File("nginx/a.conf", conf.encode())]))


def test_good() -> None:
    loaded = nginx.check(_guest(GOOD))
    names = [each.args for server in loaded.servers() for each in server.find("server_name")]
    assert names == [("chat.example.org",)]
    [here] = [each for each in loaded.walk() if each.name == "return"]
    assert here.args == ("200", 'a "quoted" word; ${host}')
    assert list(loaded.files) == ["/opt/phoenix/1/nginx/a.conf"]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("access_log off;", "acces_log off;", "unknown directive"),
        ("access_log off;", "access_log off", "invalid parameter"),
        ("server_name chat", "server_name chat.example.org chat", "conflicting server name"),
        ("certificates/chat/key.pem", "other/$x/key", "unknown"),
        ("access_log off;", "include /etc/nginx/none.conf;", "No such file"),
        ("listen 20002", "listen 10.0.0.101:20001", "two listeners on one address"),
        ("listen 20002", "listen 20001", "two listeners on one address"),
        ("listen 20002", "listen 10.0.0.301:20002", "host not found"),
    ],
)
def test_bad(before: str, after: str, said: str) -> None:
    verdict = refuses(lambda text: nginx.check(_guest(text)), GOOD, before, after, said)
    assert verdict.program == "nginx"


def test_wrong_key() -> None:
    """A key that is not the certificate's is seen, so the made-up ones do not hide it."""
    other = pki.authority().issue(["other.example.org"])
    key = "/var/lib/phoenix/certificates/chat/key.pem"
    with pytest.raises(Refused, match="key values mismatch"):
        nginx.check(Guest(_guest(GOOD).tree, state={key: other.key}))


def test_serve() -> None:
    """A request goes through the real nginx to an upstream that the test itself plays."""
    authority = pki.authority()
    chat = authority.issue(["chat.example.org"])
    state = {
        "/var/lib/phoenix/certificates/chat/certificate.pem": chat.certificate,
        "/var/lib/phoenix/certificates/chat/key.pem": chat.key,
    }
    files = Guest(_guest(GOOD).tree, state=state)
    with nginx.serve(files) as serving:
        assert serving.ports == (20001, 20002)
        space = serving.space
        ask = functools.partial(
            request, space, "10.0.0.101", 20001, host="chat.example.org", trust=authority.root
        )
        answer = ask("/here")
        assert (answer.status, answer.body) == (200, b'a "quoted" word; chat.example.org')
        with pytest.raises(ssl.SSLError, match="unrecognized name"):
            request(space, "10.0.0.101", 20001, host="evil.example.org", trust=authority.root)
        with pytest.raises(ssl.SSLError, match="unrecognized name"):
            request(space, "fd00::101", 20001, host="evil.example.org", trust=authority.root)
        assert ask().status == 502
        with space.socket() as upstream:
            upstream.bind(("10.0.0.111", 5432))
            upstream.listen()
            threading.Thread(target=_greet, args=[upstream], daemon=True).start()
            with space.connect("10.0.0.101", 20002) as client:
                assert client.recv(5) == b"hello"


def _greet(upstream: socket.socket) -> None:
    stream, _ = upstream.accept()
    with stream:
        stream.sendall(b"hello")
