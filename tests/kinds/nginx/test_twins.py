"""Each check of a serving nginx can fail: with one line of its configuration broken, it does."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from builder.network import Network
from builder.tree import File, Tree
from tests.judges.guest import Guest
from tests.kinds.nginx import networks, test_front, test_gateway

pytestmark = [pytest.mark.judge]

ANY_NAME = (
    "ssl_certificate /var/lib/phoenix/certificates/$phoenix_any/certificate.pem;"
    "ssl_certificate_key /var/lib/phoenix/certificates/$phoenix_any/key.pem;"
)

# The check; the file below nginx/, what stands in it, what is put in its place.
Twin = tuple[str, str, str, str]
BOTH: tuple[Twin, ...] = (
    ("test_drain", "server.conf", "add_header Connection", "add_header X-Connection"),
    ("test_drain", "settings.conf", '"~^1 HTTP/1', '"~^1 HTTP/2'),
    ("test_port_80", "closed.conf", "return 444", "return 403"),
)
GATEWAY: tuple[Twin, ...] = (
    *BOTH,
    ("test_drain", "settings.conf", "(?!101)", ""),
    ("test_drain", "server.conf", " always;", ";"),
    ("test_names_in_the_handshake", "reject.conf", "ssl_reject_handshake on;", ANY_NAME),
    ("test_host_is_the_handshakes", "sites/rated.example.org.conf", "return 421", "set $x 1"),
    ("test_host_is_the_handshakes", "misdirected.conf", "return 421", "return 200"),
    ("test_host_is_the_handshakes", "http.conf", "Host $host", "Host $http_host"),
    ("test_port_80", "plain/chat.example.org.conf", "$request_uri", "$uri"),
    ("test_challenge", "plain/db.example.org.conf", "include challenge.conf;", ""),
    ("test_plain_outside_and_mesh", "plain/open.example.org.conf", "include services", "#"),
    ("test_ipv6", "services/webui.conf", "fd00:9::/32", "fd00::/16"),
    ("test_ipv6", "services/webui.conf", "deny all;", ""),
    ("test_prefixes", "sites/home.example.org.conf", "= /renders", "= /other"),
    ("test_prefixes", "sites/rated.example.org.conf", "return 404", "include services/chat.conf"),
    ("test_the_mesh_decides_alike", "sites/home.example.org.conf", "rewrite (?s)", "#"),
    ("test_the_mesh_decides_alike", "sites/home.example.org.conf", "(?s)", ""),
    (
        "test_the_client_is_not_believed",
        "http.conf",
        "X-Forwarded-For $remote_addr",
        "X-Forwarded-For $proxy_add_x_forwarded_for",
    ),
    ("test_the_client_is_not_believed", "http.conf", 'proxy_set_header Forwarded "";', ""),
    ("test_log", "settings.conf", '"path":"$uri"', '"path":"$request_uri"'),
    ("test_log", "settings.conf", "escape=json", "escape=none"),
    ("test_rate", "services/rated.conf", "burst=1 nodelay", "burst=9 nodelay"),
    ("test_body", "services/small.conf", "client_max_body_size 1024", "client_max_body_size 0"),
    ("test_body", "services/chat.conf", "client_max_body_size 0", "client_max_body_size 1m"),
    ("test_connections", "services/small.conf", "connections-small 1", "connections-small 9"),
    ("test_web_socket", "settings.conf", '"1 websocket" websocket', '"1 h2c" h2c'),
    ("test_web_socket", "services/small.conf", "set $phoenix", "set $phoenix_upgrades 1; set $phoenix"),
    ("test_client_gone", "services/chat.conf", "proxy_pass", "proxy_ignore_client_abort on; proxy_pass"),
    ("test_connections_to_the_mesh_are_kept", "http.conf", "keepalive 128;", ""),
    ("test_grpc[wrong name]", "http.conf", "grpc_ssl_verify on", "grpc_ssl_verify off"),
    ("test_tcp[names1]", "stream.conf", "proxy_ssl_verify on", "proxy_ssl_verify off"),
    ("test_mesh_is_verified[name]", "http.conf", "proxy_ssl_verify on", "proxy_ssl_verify off"),
    ("test_mesh_is_verified[authority]", "http.conf", "proxy_ssl_verify on", "proxy_ssl_verify off"),
    ("test_first_and_renewed_certificate", "settings.conf", "$server_name/", "home.example.org$x/"),
)
