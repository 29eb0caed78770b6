"""The registry: every kind of artifact, by name. A new kind is one module and one line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from builder.kinds import (
    acme,
    firewall,
    interfaces,
    join,
    lxc,
    names,
    nginx,
    paths,
    slots,
    step_ca,
    traefik,
    units,
    watch,
)
from builder.kinds.artifact import Kind

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "interfaces": interfaces,
        "lxc": lxc,
        "nginx": nginx,
        "traefik": traefik,
        "step-ca": step_ca,
        "acme": acme,
        "names": names,
        "firewall": firewall,
        "paths": paths,
        "slots": slots,
        "units": units,
        "watch": watch,
        "join": join,
    }
)
