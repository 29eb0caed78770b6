"""Rules that no single value shows. A rule takes values and yields Findings; it reads no file.

Rules run in two phases. `host_rules` look at a site and one of its hosts, `site_rules` at the site
alone, `fleet_rules` at all hosts together. A rule may rely on the schemas having accepted the
documents, and on nothing else: other rules may fail in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from builder.model import Host, Site
from builder.problems import Finding

SiteRule = Callable[[Site], Iterable[Finding]]
HostRule = Callable[[Site, Host], Iterable[Finding]]
FleetRule = Callable[[Site, tuple[Host, ...]], Iterable[Finding]]

SITE_RULES: tuple[SiteRule, ...] = ()
HOST_RULES: tuple[HostRule, ...] = ()
FLEET_RULES: tuple[FleetRule, ...] = ()


def site_findings(site: Site) -> Iterator[Finding]:
    """What is wrong with the site's own document."""
    for rule in SITE_RULES:
        yield from rule(site)


def host_findings(site: Site, host: Host) -> Iterator[Finding]:
    """What is wrong with one host, and with the site's services on it."""
    for rule in HOST_RULES:
        yield from rule(site, host)


def fleet_findings(site: Site, hosts: tuple[Host, ...]) -> Iterator[Finding]:
    """What is wrong between hosts."""
    for rule in FLEET_RULES:
        yield from rule(site, hosts)
