"""What of the site a host realises."""

from __future__ import annotations

from builder.model import Host, Service, Site


def realised(site: Site, host: Host) -> list[Service]:
    """The site's services that a host realises."""
    return [s for s in site.services if host.services is None or s.name in host.services]


def certified(site: Site, host: Host) -> frozenset[str]:
    """Names of the guests and machines that need a certificate to answer for a service."""
    return frozenset(
        backend.name
        for service in realised(site, host)
        if not service.is_plain("backend")
        for backend in service.backends
        if backend.name
    )


def fronts(site: Site, host: Host) -> frozenset[str]:
    """Names of the guests in which a front stands before a program."""
    guests = {guest.name for guest in host.guests}
    return frozenset(
        backend.name
        for service in realised(site, host)
        if service.front and not service.is_plain("backend")
        for backend in service.backends
        if backend.name in guests
    )
