"""Rules on all hosts of a site together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from builder.checks.bridges import literal
from builder.checks.guests import ids
from builder.checks.places import host_place
from builder.model import Host, Site
from builder.problems import Finding, Place


def reaches(_: Site, hosts: tuple[Host, ...]) -> Iterator[Finding]:
    """One machine under the names of two hosts."""
    used: dict[str, list[str]] = {}
    places = {host.name: host_place(host) / "reach" for host in hosts}
    for host in hosts:
        used.setdefault(literal(host.reach) or host.reach.lower(), []).append(host.name)
    for names in used.values():
        if len(names) > 1:
            message = f"hosts {_several(names)} have the same `reach`; each needs its own"
            yield Finding(places[names[1]], message, "duplicate-reach")


def cluster_ids(_: Site, hosts: tuple[Host, ...]) -> Iterator[Finding]:
    """One VMID on two hosts of a Proxmox cluster."""
    used: dict[tuple[str, int], dict[str, Place]] = {}
    for host in hosts:
        if cluster := host.platform.cluster:
            for number, _name, place in ids(host):
                used.setdefault((cluster, number), {}).setdefault(host.name, place)
    for (cluster, number), places in used.items():
        names = list(places)
        if len(names) > 1:
            message = (
                f"id {number} is on hosts {_several(names)} of cluster '{cluster}'; "
                f"ids are unique in a cluster"
            )
            yield Finding(places[names[1]], message, "duplicate-id")


def _several(names: Sequence[str]) -> str:
    """Two names or more, the third and further ones as a number."""
    first, second, *others = names
    if not others:
        return f"'{first}' and '{second}'"
    return f"'{first}', '{second}' and {len(others)} more"
