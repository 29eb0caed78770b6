"""Traefik's static file: what is fixed for the life of a slot's process."""

from __future__ import annotations

from typing import Any

from builder.network import API_PORTS, METRICS_PORT, PLAIN_MESH_PORT, Network

CERTIFICATES = "/var/lib/phoenix/certificates"
ROOT = "/opt/phoenix/current/trust/root.crt"
ENTRY, PLAIN_ENTRY, METRICS_ENTRY = "websecure", "plain", "metrics"
# Seconds, as text: floats are written in many ways. To the hour, since answers may take as long.
_BUCKETS = (
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60",
    "300", "1800", "3600",
)  # fmt: skip

Data = dict[str, Any]

# An entry point of our own looks is in no log, and counts for nothing.
_UNSEEN: Data = {"accessLogs": False, "metrics": False, "tracing": False}


def static(network: Network, slot: str) -> Data:
    """The static configuration of slot "a" or "b"; only ports and paths differ between them."""
    assert slot in API_PORTS
    trusted = [str(a) for a in network.addresses(network.gateway.guest.name)]
    points: Data = {"api": _api(slot)}
    for listener in network.mesh.listeners:
        port = listener.a if slot == "a" else listener.b
        if listener.port == METRICS_PORT:
            points[METRICS_ENTRY] = _metrics(port)
        else:
            name = PLAIN_ENTRY if listener.port == PLAIN_MESH_PORT else ENTRY
            points[name] = _entry(port, trusted)
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
        "metrics": {
            "prometheus": {
                "entryPoint": "api",
                "addRoutersLabels": True,
                "buckets": list(_BUCKETS),
            }
        },
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


def _metrics(port: int) -> Data:
    """Where scrapers read. A connection ends between two looks, so the next is at the live slot."""
    return {
        "address": f":{port}",
        "http": {"middlewares": ["slot@file"], "aliasHeadersStrategy": "delete"},
        "transport": {
            "respondingTimeouts": {
                "readTimeout": "30s",
                "writeTimeout": "30s",
                "idleTimeout": "2s",
            },
        },
        "observability": _UNSEEN,
    }


def _api(slot: str) -> Data:
    return {
        "address": f"127.0.0.1:{API_PORTS[slot]}",
        "http": {"aliasHeadersStrategy": "delete"},
        "observability": _UNSEEN,
    }


def _access_log() -> Data:
    """JSON on standard output. Queries are left out: keys stand in them.

    A header is logged of the request, of the backend's answer and of what went to the client: so a
    call from inside that came without an id bears the one that the front gave it.
    """
    headers = {"defaultMode": "drop", "names": {"X-Request-Id": "keep", "User-Agent": "keep"}}
    return {
        "format": "json",
        "fields": {
            "defaultMode": "keep",
            "headers": headers,
            "queryParameters": {"defaultMode": "drop"},
        },
    }
