"""What texts in a document may look like: patterns and formats, as JSON Schema means them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache


@lru_cache(maxsize=512)
def expression(pattern: str) -> re.Pattern[str]:
    """A schema's pattern, with the meaning that ECMA-262 gives it."""
    parts = re.split(r"(\\.|\[(?:\\.|[^\]\\])*\])", pattern)
    # Odd parts are escapes and character classes, in which `$` is itself.
    ends = (part if at % 2 else part.replace("$", r"\Z") for at, part in enumerate(parts))
    return re.compile("".join(ends), re.ASCII)


def _network(version: int) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        import ipaddress

        if not isinstance(value, str):
            return True
        address, slash, length = value.partition("/")
        # ipaddress takes netmasks and leading zeros here; every target takes a plain length.
        if not slash or not re.fullmatch("0|[1-9][0-9]{0,2}", length):
            return False
        found = ipaddress.ip_interface(value)
        return _address(version)(address) and version in (0, found.version)

    return check


def _address(version: int) -> Callable[[object], bool]:
    def check(value: object) -> bool:
        import ipaddress

        if not isinstance(value, str):
            return True
        found = ipaddress.ip_address(value)
        # A scope (fe80::1%eth0) names an interface of one machine only.
        return version in (0, found.version) and "%" not in value and not mapped(value)

    return check


def mapped(text: str) -> bool:
    """Whether a text is one of IPv6's forms of an IPv4 address, with or without a prefix length.

    Python writes them otherwise from 3.13 on, so that none may come further than this.
    """
    import ipaddress

    try:
        address = ipaddress.IPv6Address(text.partition("/")[0])
    except ValueError:
        return False
    return address.ipv4_mapped is not None


FORMATS: Mapping[str, Callable[[object], bool]] = {
    "ip": _address(0),
    "ipv4": _address(4),
    "ipv6": _address(6),
    "cidr": _network(0),
    "ipv4-cidr": _network(4),
    "ipv6-cidr": _network(6),
}
