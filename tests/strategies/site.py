"""Site documents, for a host that is there already."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.strategies.common import TEXT, Data, Draw, maybe

PROTOCOLS = ("http", "https", "h2c", "grpc", "tcp")
PROFILES = ("web", "stream", "websocket", "upload", "slow", "llm")
_HEADER_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30)
_SEGMENT = st.text("abcXYZ019._~@+-", min_size=1, max_size=8).filter(lambda s: s[0] != ".")


@st.composite
def sites(draw: Draw, host: Data) -> Data:
    site: Data = {
        "site": draw(st.sampled_from(["home", "lab-2", "s"])),
        "domain": draw(st.sampled_from(["home.internal", "a.b.c.example.net"])),
        "dns": ["9.9.9.9"],
    }
    ca = st.sampled_from(
        [
            {"lifetime": "30d", "renew": "10d"},
            {"lifetime": "24h"},
            {"lifetime": "10m", "intermediate_lifetime": "365d", "root_lifetime": "3650d"},
        ]
    )
    maybe(draw, site, "ca", ca, 2)
    count = draw(st.sampled_from([5, 1, 6, 2, 7, 4, 8]))
    site["services"] = {f"service-{i}": draw(_service(i, host)) for i in range(count)}
    names = sorted(
        e if isinstance(e, str) else e["name"]
        for s in site["services"].values()
        for e in s.get("expose", ())
    )
    if draw(st.booleans()):
        site["acme"] = draw(_directories())
    certificates = {n: draw(_certificate(site, host)) for n in names if draw(st.booleans())}
    if certificates:
        site["certificates"] = certificates
    return site


@st.composite
def _directories(draw: Draw) -> Data:
    public: Data = {
        "directory": "https://acme.example.org/directory",
        "email": "ops@example.org",
    }
    maybe(draw, public, "challenge", st.just("http-01"), 2)
    dns: Data = {
        "directory": "https://dns.example.org:14000/dir",
        "email": "ops@example.org",
        "challenge": "dns-01",
        "provider": "cloudflare",
        "environment": {"CF_DNS_API_TOKEN": "file:~/token", "CF_ZONE": "command:pass show zone"},
    }
    root = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    maybe(draw, dns, "root", st.just(root), 2)
    return {"public": public, "by-dns": dns}


@st.composite
def _certificate(draw: Draw, site: Data, host: Data) -> str | Data:
    delivered = {"certificate": "file:/srv/crt.pem", "key": "env:KEY"}
    choices: list[str | Data] = ["site", {"files": delivered}]
    ingress = host.get("ingress", {})
    closed = not (ingress.get("ipv4", True) or ingress.get("ipv6", False))
    # From outside, a closed host's names can't be proven but in the DNS.
    choices += [{"acme": n} for n in site.get("acme", {}) if n == "by-dns" or not closed]
    chosen: str | Data = draw(st.sampled_from(choices))
    return chosen


@st.composite
def _service(draw: Draw, number: int, host: Data) -> Data:
    protocol, profile = draw(st.sampled_from(PROTOCOLS)), draw(st.sampled_from(PROFILES))
    service: Data = {"port": 3000 + number}
    if protocol != "http" or draw(st.booleans()):
        service["protocol"] = protocol
    if profile != "web" or draw(st.booleans()):
        service["profile"] = profile
    maybe(draw, service, "tls", st.sampled_from(["front", "own"]))
    service["backends"] = draw(_backends(number, host))
    if len(service["backends"]) > 1 or draw(st.booleans()):
        service["health"] = draw(_health())
    if draw(st.booleans()):
        service["expose"] = draw(_expose(number, protocol))
    if "expose" not in service or draw(st.booleans()):
        service["inside"] = draw(_inside(host))
    service |= draw(_options(protocol))
    if isinstance(service.get("sticky"), dict) and len(service.get("expose", ())) > 1:
        # Of the names, the second is shared with other services.
        service["sticky"] = {"cookie": f"sid-{number}"}
    hops = _hops(protocol, "expose" in service)
    plain = [{"hop": hop, "reason": draw(TEXT)} for hop in hops if draw(st.integers(0, 5)) == 0]
    if plain:
        service["plain"] = plain
    _without_what_means_nothing(service, protocol)
    return service


def _without_what_means_nothing(service: Data, protocol: str) -> None:
    if protocol in {"grpc", "tcp"}:
        for key in ("path", "status"):
            service.get("health", {}).pop(key, None)
    if protocol == "tcp" and isinstance(service.get("inside"), dict):
        service["inside"].pop("path", None)
    if "expose" not in service:
        service.pop("limits", None)
        service["inside"] = service["inside"] or True
    plain = any(each["hop"] == "backend" for each in service.get("plain", ()))
    if plain or (protocol == "https" and service.get("tls") == "front"):
        service.pop("tls", None)
    for backend in service["backends"]:
        if plain and isinstance(backend, dict):
            backend.pop("server_name", None)


def _hops(protocol: str, exposed: bool) -> list[str]:
    found = [] if protocol == "https" else ["backend"]
    if protocol != "tcp":
        found.append("mesh")
    if exposed and protocol not in {"grpc", "h2c"}:
        found.append("outside")
    return found


@st.composite
def _backends(draw: Draw, number: int, host: Data) -> list[str | Data]:
    workers = [n for n, g in host["guests"].items() if g.get("role", "service") == "service"]
    chosen = draw(st.lists(st.sampled_from(workers), min_size=1, max_size=3, unique=True))
    found: list[str | Data] = []
    for i, name in enumerate(chosen):
        if draw(st.integers(0, 2)):
            found.append(name)
        else:
            weighted: Data = {"name": name, "weight": draw(st.integers(1, 9))}
            maybe(draw, weighted, "port", st.just(4000 + 10 * number + i), 2)
            found.append(weighted)
    if "machines" in host:
        others: list[str | Data] = ["desk", {"name": "outside", "port": 8443}]
        others.append({"address": "198.51.100.9", "server_name": "ai.example.net"})
        _also(draw, found, others)
    return found


def _also(draw: Draw, found: list[str | Data], others: list[str | Data]) -> None:
    if draw(st.integers(0, 3)) == 0:
        found.append(draw(st.sampled_from(others)))


@st.composite
def _health(draw: Draw) -> Data:
    found: Data = {}
    maybe(draw, found, "path", st.sampled_from(["/health", "/v1/up"]), 2)
    maybe(draw, found, "interval", st.sampled_from(["10s", "1m"]), 2)
    maybe(draw, found, "timeout", st.sampled_from(["2s", "10s"]), 2)
    maybe(draw, found, "status", st.sampled_from([200, 204]), 3)
    return found


@st.composite
def _expose(draw: Draw, number: int, protocol: str) -> list[str | Data]:
    name = f"app-{number}.example.org"
    if protocol == "tcp":
        return [{"name": name, "port": 15000 + number}]
    found: list[str | Data] = [name] if draw(st.booleans()) else [{"name": name}]
    if draw(st.booleans()):
        parts = draw(st.lists(_SEGMENT, min_size=1, max_size=2))
        slash = draw(st.sampled_from(["", "/"]))
        path: Data = {"name": "shared.example.org", "path": f"/s{number}/{'/'.join(parts)}{slash}"}
        maybe(draw, path, "strip", st.booleans(), 2)
        found.append(path)
    return found


@st.composite
def _inside(draw: Draw, host: Data) -> bool | Data:
    if draw(st.booleans()):
        return bool(draw(st.booleans()))
    found: Data = {}
    ends = [*host["guests"], *host.get("machines", {})]
    callers = st.lists(st.sampled_from(ends), min_size=1, max_size=3, unique=True)
    maybe(draw, found, "callers", callers, 2)
    maybe(draw, found, "path", st.just("/api/"), 2)
    return found


@st.composite
def _options(draw: Draw, protocol: str) -> Data:
    found: Data = {}
    limits: Data = {}
    maybe(draw, limits, "connections", st.integers(1, 1000))
    maybe(draw, limits, "clients", st.just(["192.0.2.0/24", "2001:db8::/32"]))
    maybe(draw, found, "description", TEXT)
    if protocol != "tcp":
        maybe(draw, limits, "body", st.sampled_from(["10GiB", "unlimited", "512KiB"]))
        maybe(draw, limits, "rate", st.sampled_from(["50/s", "100/m"]))
        if "rate" in limits:
            maybe(draw, limits, "burst", st.integers(0, 100), 2)
        maybe(draw, found, "grace", st.sampled_from(["10s", "5m", "1h"]))
        maybe(draw, found, "sticky", st.sampled_from([True, False, {"cookie": "sid"}]))
        values = st.fixed_dictionaries({"X-One": _HEADER_TEXT, "X-Two": _HEADER_TEXT})
        headers: Data = {}
        maybe(draw, headers, "request", values)
        maybe(draw, headers, "response", values)
        if headers:
            found["headers"] = headers
    if limits:
        found["limits"] = limits
    return found
