"""Certificates: where they come from, and that there is time to renew them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from builder.checks.places import SITE
from builder.checks.providers import PROVIDERS
from builder.model import Directory, Site
from builder.problems import Finding, Place, known

_SHORTEST = 300
_LONGEST = 825 * 86400
_LONGEST_ROOT = 36525 * 86400
_LEAST_TO_RENEW = 100
# Of lego itself, of Go's TLS (SSL_CERT_FILE), of the loader and of everyone.
_TAKEN = re.compile("(LD|LEGO)_.*|SSL_CERT.*|HOME|PATH")


def sources(site: Site) -> Iterator[Finding]:
    """Certificates of names that nothing exposes, or from unknown directories."""
    exposed = {e.name for s in site.services for e in s.expose}
    directories = [d.name for d in site.directories]
    for name, source in site.certificates.items():
        place = SITE / "certificates" / name
        if name not in exposed:
            message = f"no service exposes '{name}'; {known(name, exposed)}"
            yield Finding(place.named(), message, "unknown-exposed-name")
        if source.kind == "acme" and source.acme not in directories:
            message = f"directory '{source.acme}' is not defined; {known(source.acme, directories)}"
            yield Finding(place / "acme", message, "unknown-directory")


def directories(site: Site) -> Iterator[Finding]:
    """Public directories with too little or too much said of the challenge."""
    for directory in site.directories:
        place = SITE / "acme" / directory.name
        if directory.challenge == "dns-01" and not directory.provider:
            message = "dns-01 needs the `provider` of the zone, such as cloudflare"
            yield Finding(place / "challenge", message, "missing-provider")
        for key in ("provider", "environment"):
            if directory.challenge == "http-01" and getattr(directory, key):
                message = f"`{key}` is for `challenge: dns-01`; this one is http-01"
                yield Finding((place / key).named(), message, "no-effect")
        if directory.provider and directory.provider not in PROVIDERS:
            message = (
                f"lego knows no provider '{directory.provider}'; "
                f"{known(directory.provider, PROVIDERS)}"
            )
            yield Finding(place / "provider", message, "unknown-provider")
        yield from _variables(directory, place / "environment")
        if not _good_port(directory):
            message = "the URL's port is beyond 65535"
            yield Finding(place / "directory", message, "out-of-range")


def _variables(directory: Directory, place: Place) -> Iterator[Finding]:
    for variable, _ in directory.environment:
        message, bare = "", variable.removesuffix("_FILE")
        if _TAKEN.fullmatch(variable):
            message = f"`{variable}` is no DNS provider's; `lego dnshelp -c` lists what one reads"
        elif bare != variable:
            message = f"say `{bare}`: lego is given the file itself, as `{variable}`"
        if message:
            yield Finding((place / variable).named(), message, "reserved-variable")


def _good_port(directory: Directory) -> bool:
    try:
        return urlsplit(directory.url).port != 0
    except ValueError:
        return False


def lifetimes(site: Site) -> Iterator[Finding]:
    """Certificates that would end before they can be renewed, or that programs refuse."""
    ca, place = site.ca, SITE / "ca"
    least = max(_LEAST_TO_RENEW, ca.lifetime // 50)
    if ca.lifetime < _SHORTEST:
        message = f"a lifetime under {_span(_SHORTEST)} leaves no time to renew"
        yield Finding(place / "lifetime", message, "lifetime-too-short")
    elif ca.renew >= ca.lifetime:
        message = (
            f"a certificate of {_span(ca.lifetime)} would be due for renewal as soon as it is there"
        )
        yield Finding(place / "renew", message, "lifetime-too-short")
    elif ca.renew < least:
        message = f"too little time to renew if a try or two fail; say {_span(least)} or more"
        yield Finding(place / "renew", message, "lifetime-too-short")
    if ca.lifetime > _LONGEST:
        message = f"many programs refuse a certificate of more than {_span(_LONGEST)}"
        yield Finding(place / "lifetime", message, "lifetime-too-long")
    elif ca.intermediate_lifetime < 2 * ca.lifetime:
        message = (
            f"the intermediate would end before what it signs; "
            f"say twice `lifetime`, {_span(2 * ca.lifetime)}, or more"
        )
        yield Finding(place / "intermediate_lifetime", message, "lifetime-too-short")
    if ca.root_lifetime < ca.intermediate_lifetime:
        message = (
            f"the root would end before the intermediates that it signs; "
            f"say {_span(ca.intermediate_lifetime)} or more"
        )
        yield Finding(place / "root_lifetime", message, "lifetime-too-short")
    elif ca.root_lifetime > _LONGEST_ROOT:
        message = f"a root can live {_span(_LONGEST_ROOT)} at most"
        yield Finding(place / "root_lifetime", message, "lifetime-too-long")


def _span(seconds: int) -> str:
    """A duration as the language writes it, in the largest unit that is exact."""
    units = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
    return next(f"{seconds // unit}{name}" for unit, name in units if seconds % unit == 0)
