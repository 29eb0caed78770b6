"""All codes that a problem with the configuration can have: stable, so that an editor, a CI job or
a search engine can rely on them. A code is never given another meaning.

docs/errors.md is made from this and from the examples in tests/problems (`page`).
"""

from __future__ import annotations

from collections.abc import Mapping

from builder.codes import guests, hosts, language, network, services
from builder.codes.code import Code

GROUPS: Mapping[str, Mapping[str, Code]] = {
    "Reading YAML": language.YAML,
    "What a document may hold": language.SHAPE,
    "Hosts and what they take over": hosts.HOSTS,
    "Addresses": network.ADDRESSES,
    "Bridges, routes and the way outside": network.BRIDGES,
    "Guests and machines": guests.GUESTS,
    "Services and their backends": services.SERVICES,
    "Names, ports and certificates": services.NAMES,
    "The site's authority": hosts.AUTHORITY,
}
"""The codes by subject, in the order of the page."""

CODES: Mapping[str, Code] = {
    name: code for group in GROUPS.values() for name, code in group.items()
}

__all__ = ["CODES", "GROUPS", "Code"]
