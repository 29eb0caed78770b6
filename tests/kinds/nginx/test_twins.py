"""Each check of a serving nginx can fail: with one line of its configuration broken, it does."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from builder.tree import File, Tree
from tests.judges.guest import Guest
from tests.kinds.nginx import (
    gateway,
    networks,
    test_front,
    test_gateway_names,
    test_gateway_passing,
    test_gateway_requests,
)

pytestmark = [pytest.mark.judge]


@dataclass(frozen=True, slots=True)
class Twin:
    """`check` with these arguments fails once `old` is `new` in a file below nginx/."""

    check: Callable[..., None]
    file: str
    old: str
    new: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.check.__name__}-{self.file}-{self.new}"


# A check that fails, or that ends on what it did not expect.
RED = (AssertionError, pytest.fail.Exception, EOFError, OSError, LookupError, ValueError)
N, R, P = test_gateway_names, test_gateway_requests, test_gateway_passing
F = test_front
CHAT, SMALL, RATED = "services/chat.conf", "services/small.conf", "services/rated.conf"
HOME = "sites/home.example.org.conf"
TWINS = (
    Twin(P.test_drain, "server.conf", "add_header Connection", "add_header X"),
    Twin(P.test_drain, "server.conf", " always;", ";"),
    Twin(P.test_drain, "settings.conf", "(?!101)", ""),
    Twin(N.test_names_in_the_handshake, "reject.conf", "ssl_reject_handshake on;", ""),
    Twin(N.test_host_is_the_handshakes, "sites/rated.example.org.conf", "return 421", "set $x 1"),
    Twin(N.test_host_is_the_handshakes, "sites/chat.example.org.conf", "!=", "="),
    Twin(N.test_host_is_the_handshakes, "misdirected.conf", "return 421", "return 200"),
    Twin(N.test_host_is_the_handshakes, "http.conf", "Host $host", "Host $http_host"),
    Twin(N.test_host_is_the_handshakes_in_http2, "sites/home.example.org.conf", "!=", "="),
    Twin(N.test_host_is_the_handshakes_in_http2, "misdirected.conf", "return 421", "return 200"),
    Twin(N.test_port_80, "closed.conf", "return 444", "return 403"),
    Twin(N.test_port_80, "redirect.conf", "$request_uri", "$uri"),
    Twin(N.test_challenge, "plain/db.example.org.conf", "include challenge.conf;", ""),
    Twin(N.test_plain_outside_and_mesh, "services/open.conf", "mesh-plain", "mesh"),
    Twin(N.test_plain_outside_and_mesh, "plain/open.example.org.conf", "= /shut", "= /other"),
    Twin(N.test_plain_text_on_the_tls_port, "server.conf", "error_page 497 @plain;", ""),
    Twin(N.test_malformed_requests, "settings.conf", "variable_warn off", "variable_warn on"),
    Twin(N.test_ipv6, "services/webui.conf", "fd00:9::/32", "fd00::/16"),
    Twin(N.test_ipv6, "services/webui.conf", "deny all;", ""),
    Twin(R.test_prefixes, HOME, "= /renders", "= /other"),
    Twin(R.test_prefixes, HOME, "/renders/ {", "/renders {"),
    Twin(R.test_prefixes, "sites/rated.example.org.conf", "return 404;", "return 403;"),
    Twin(R.test_the_mesh_decides_alike, HOME, "rewrite (?s)", "#"),
    Twin(R.test_the_mesh_decides_alike, HOME, "(?s)", ""),
    Twin(R.test_the_client_is_not_believed, "http.conf", "r $remote_addr", "r $http_forwarded"),
    Twin(R.test_the_client_is_not_believed, "http.conf", 'header Forwarded "";', "header X 1;"),
    Twin(R.test_log, "settings.conf", '"path":"$phoenix_path"', '"path":"$request_uri"'),
    Twin(R.test_log, "settings.conf", "escape=json", "escape=none"),
    Twin(R.test_log_of_what_is_no_utf8, "settings.conf", '"$phoenix_path"', '"$uri"'),
    Twin(R.test_log_of_what_is_no_utf8, "settings.conf", '"$phoenix_agent"', '"$http_user_agent"'),
    Twin(R.test_log_of_what_is_no_utf8, "settings.conf", '"$phoenix_host"', '"$host"'),
    Twin(
        R.test_log_of_what_is_no_utf8,
        "http.conf",
        "default $request_id",
        "default $http_x_request_id",
    ),
    Twin(
        R.test_the_client_is_told_the_id, "server.conf", "add_header X-Request-Id", "add_header X"
    ),
    Twin(
        F.test_program_that_dies_over_a_request,
        "http.conf",
        '"-" 1;\n    default 0;',
        '"-" 1;\n    default 1;',
    ),
    Twin(F.test_what_is_no_id_is_replaced, "http.conf", "{1,128}", "+", {"given": "x" * 129}),
    Twin(R.test_rate, RATED, "burst=1", "burst=9"),
    Twin(R.test_an_ipv6_client_is_its_network, "clients.conf", "{8}).{8}", "{9}).{7}"),
    Twin(R.test_body, SMALL, "client_max_body_size 1024", "client_max_body_size 0"),
    Twin(R.test_body, CHAT, "client_max_body_size 0", "client_max_body_size 1m"),
    Twin(R.test_connections, SMALL, "connections-small 1", "connections-small 9"),
    Twin(P.test_stream, CHAT, "g off", "g on", {"name": gateway.CHAT, "at_once": True}),
    Twin(P.test_upload, CHAT, "g off", "g on", {"name": gateway.CHAT, "at_once": True}),
    Twin(P.test_web_socket, "settings.conf", '"1 websocket"', '"1 h2c"'),
    Twin(P.test_web_socket, SMALL, "small;", "small; set $phoenix_upgrades 1;"),
    Twin(P.test_client_gone, CHAT, "proxy_pass", "proxy_ignore_client_abort on; proxy_pass"),
    Twin(P.test_connections_to_the_mesh_are_kept, "http.conf", "keepalive 128;", ""),
    Twin(P.test_grpc, "http.conf", "grpc_ssl_verify on", "grpc_ssl_verify off"),
    Twin(P.test_tcp, "stream.conf", "verify on", "verify off", {"names": [networks.MESH_NAME]}),
    Twin(P.test_tcp, "stream.conf", "map $ssl_server_name", 'map ""', {"names": [gateway.DB_NAME]}),
    Twin(P.test_tcp_connections_are_of_a_client, "clients.conf", "{8}).{8}", "{9}).{7}"),
    Twin(
        P.test_tcp_connections_are_of_a_client,
        "streams/5433.conf",
        "connections-db 1",
        "connections-db 9",
    ),
    Twin(P.test_mesh_is_verified, "http.conf", "verify on", "verify off", {"fault": "name"}),
    Twin(P.test_mesh_is_verified, "http.conf", "verify on", "verify off", {"fault": "authority"}),
    Twin(
        N.test_first_and_renewed_certificate, "settings.conf", "$server_name/", gateway.CHAT + "/"
    ),
    Twin(F.test_drain, "server.conf", "add_header Connection", "add_header X"),
    Twin(F.test_handshakes, "reject.conf", "ssl_reject_handshake on;", ""),
    Twin(F.test_handshakes, "a.conf", f"{F.LLM} ssl", f"{F.LLM} ssl http2"),
    Twin(F.test_handshakes, "stream.conf", "default -", f"default {F.NAME}"),
    Twin(F.test_the_programs_see_the_client, "http.conf", "Host $http_host", "Host $host:1"),
    Twin(F.test_the_programs_see_the_client, "http.conf", "body_size 0", "body_size 1m"),
    Twin(F.test_a_request_without_an_id_gets_one, "http.conf", "default $request_id;", ""),
    Twin(F.test_web_socket_and_stream, "sites/llm.conf", "upgrades 1", "upgrades 0"),
    Twin(
        F.test_client_gone,
        "sites/llm.conf",
        "proxy_pass",
        "proxy_ignore_client_abort on; proxy_pass",
    ),
    Twin(F.test_grpc, "sites/rpc.conf", "grpc_pass grpc:", "proxy_pass http:"),
    Twin(F.test_port_80, "plain.conf", "return 444", "return 200"),
    Twin(F.test_port_80, "plain.conf", "include challenge.conf;", ""),
)


@pytest.mark.parametrize("twin", TWINS, ids=str)
def test_twin(twin: Twin, monkeypatch: pytest.MonkeyPatch) -> None:
    sound, path = networks.guest, f"nginx/{twin.file}"

    def broken(*arguments: Any, **more: Any) -> Guest:
        guest = sound(*arguments, **more)
        kept = [x for x in guest.tree if x.path != path]
        text = guest.tree.file(path).data
        assert twin.old.encode() in text
        changed = File(path, text.replace(twin.old.encode(), twin.new.encode()))
        return Guest(Tree.of([*kept, changed]), state=guest.state)

    monkeypatch.setattr(networks, "guest", broken)
    wanted = inspect.signature(twin.check).parameters
    with contextlib.ExitStack() as stack:
        given = dict(twin.arguments)
        if "gateway" in wanted:
            given["gateway"] = stack.enter_context(gateway.serving())
        if "front" in wanted:
            given["front"] = stack.enter_context(test_front.serving())
        with pytest.raises(RED):
            twin.check(**given)


def test_each_check_has_a_twin() -> None:
    """Every check of a serving nginx has a twin above."""
    twins = {twin.check for twin in TWINS}
    checks = {
        check
        for module in (N, R, P, F)
        for name, check in vars(module).items()
        if name.startswith("test_")
    }
    assert {check.__name__ for check in checks - twins} <= {
        "test_delivered_certificate",  # fails before the files are there, in itself
        "test_program_that_is_down",
        "test_tcp",  # of the front: bytes come back or not
    }
