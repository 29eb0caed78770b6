"""Traefik's static file: what is fixed for the life of a slot's process."""

from __future__ import annotations

from typing import Any

from builder.network import API_PORTS, PLAIN_MESH_PORT, Network

CERTIFICATES = "/var/lib/phoenix/certificates"
ROOT = "/opt/phoenix/current/trust/root.crt"
ENTRY, PLAIN_ENTRY = "websecure", "plain"

Data = dict[str, Any]


def static(network: Network, slot: str) -> Data:
    """The static configuration of slot "a" or "b"; only ports and paths differ between them."""
    assert slot in API_PORTS
    trusted = [str(a) for a in network.addresses(network.gateway.guest.name)]
    points: Data = {"api": _api(slot)}
    for listener in network.mesh.listeners:
        name = PLAIN_ENTRY if listener.port == PLAIN_MESH_PORT else ENTRY
        points[name] = _entry(listener.a if slot == "a" else listener.b, trusted)
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": points,
        "providers": {
            # Through the slot's link, so that it may lead elsewhere and SIGHUP rereads it.
            "file": {
                "directory": f"/var/lib/phoenix/slots/traefik/{slot}/traefik/dynamic",
                "watch": False,
            },
            "providersThrottleDuration": "100ms",
        },
        "api": {"dashboard": False, "insecure": False},
        "ping": {"entryPoint": "api"},
        "metrics": {"prometheus": {"entryPoint": "api", "addRoutersLabels": True}},
        "log": {"level": "INFO", "format": "json"},
        "accessLog": _access_log(),
    }


def _entry(port: int, trusted: list[str]) -> Data:
    """A wildcard listener behind the guest's redirect; nothing in it ends a long request."""
    return {
        "address": f":{port}",
        "forwardedHeaders": {"trustedIPs": trusted},
        "http": {"middlewares": ["slot@file"], "aliasHeadersStrategy": "delete"},
        "transport": {
            "lifeCycle": {"graceTimeOut": "3600s"},
            "respondingTimeouts": {
                "readTimeout": "0s",
                "writeTimeout": "0s",
                "idleTimeout": "180s",
            },
        },
    }


def _api(slot: str) -> Data:
    return {
        "address": f"127.0.0.1:{API_PORTS[slot]}",
        "http": {"aliasHeadersStrategy": "delete"},
        "observability": {"accessLogs": False, "metrics": False, "tracing": False},
    }


def _access_log() -> Data:
    """JSON on standard output. Queries are left out: keys stand in them."""
    headers = {"defaultMode": "drop", "names": {"X-Request-Id": "keep", "User-Agent": "keep"}}
    return {
        "format": "json",
        "fields": {
            "defaultMode": "keep",
            "headers": headers,
            "queryParameters": {"defaultMode": "drop"},
        },
    }
