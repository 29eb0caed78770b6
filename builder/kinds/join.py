"""The join kit of each VM or outside machine: what makes it a member without being built by us.

A kit is laid out as a guest's overlay, so that a machine runs the very scripts and units that a
guest runs; a new VM gets it from cloud-init at its first boot.
"""

from __future__ import annotations

from collections.abc import Iterable

from builder import emit
from builder.emit.fixed import fixed
from builder.kinds import acme, names, units, watch
from builder.kinds.artifact import Artifact, KitFiles
from builder.model import Address, Machine
from builder.network import Certificate, Network
from builder.tree import Entry, File, Tree

KIND = "join"

ENABLED = (
    "phoenix-names.service", "phoenix-names.path", "phoenix-names.timer",
    "phoenix-acme.service", "phoenix-acme.timer",
)  # fmt: skip
"""The units that a machine is to enable."""


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """One kit a machine."""
    return tuple(
        KitFiles(KIND, machine.name, Tree.of(_files(network, machine)))
        for machine in network.host.machines
    )


def _files(network: Network, machine: Machine) -> Iterable[Entry]:
    overlay = tuple(_overlay(network, machine))
    yield from overlay
    fqdn = network.fqdn(machine.name)
    values = {"name": machine.name, "address": machine.address, "fqdn": fqdn, "units": ENABLED}
    values["watch"] = machine.name in network.host.scrapers
    yield File("README", emit.template("join/README.j2")(vm=machine.vm or 0, **values))
    if machine.vm is not None:
        yield File("cloud-init/user-data", _user_data(fqdn, overlay))
        yield File("cloud-init/network-config", _network_config(network, machine))
        yield File("cloud-init/meta-data", emit.yaml_text({"local-hostname": machine.name}))


def _overlay(network: Network, machine: Machine) -> Iterable[File]:
    fqdn = network.fqdn(machine.name)
    own = Certificate(fqdn, (fqdn,), "standalone")
    yield from names.installer(network)
    yield File("bin/phoenix-acme", fixed("acme/bin/phoenix-acme"), 0o755)
    yield File("acme/certificates", acme.orders(network, (own,)))
    yield from units.for_machine(network, own)
    if machine.name in network.host.scrapers:
        yield from watch.files(network)


def _user_data(fqdn: str, overlay: Iterable[File]) -> bytes:
    files = [
        {
            "path": _installed(file.path),
            "permissions": f"{file.mode:04o}",
            "content": file.data.decode(),
        }
        for file in overlay
    ]
    config = {
        "fqdn": fqdn,
        # Else each boot begins with a hosts file from the image's own template.
        "manage_etc_hosts": False,
        # A fresh image has no lists of packages.
        "package_update": True,
        "packages": ["lego"],
        "write_files": files,
        "runcmd": [["systemctl", "daemon-reload"], ["systemctl", "enable", "--now", *ENABLED]],
    }
    # JSON, since it is YAML too, and has an escape for the ends of lines.
    return b"#cloud-config\n" + emit.json_text(config)


def _installed(path: str) -> str:
    if path.startswith("units/"):
        return f"/etc/systemd/system/{path.removeprefix('units/')}"
    return f"/opt/phoenix/current/{path}"


def _network_config(network: Network, machine: Machine) -> bytes:
    """cloud-init's network configuration, version 2."""
    bridge = network.bridge(machine.bridge)
    addresses: list[object] = []
    routes: list[object] = []

    def add(address: Address | None, length: int, gateway: Address | None) -> None:
        if address is not None:
            addresses.append(f"{address}/{length}")
            if gateway is not None:
                to = "0.0.0.0/0" if address.version == 4 else "::/0"
                routes.append({"to": to, "via": str(gateway)})

    if bridge.address is not None:
        own = bridge.address.ip if bridge.routed else bridge.gateway
        add(machine.address, bridge.address.network.prefixlen, own)
    if bridge.address6 is not None:
        own6 = bridge.address6.ip if bridge.routed else bridge.gateway6
        add(machine.address6, bridge.address6.network.prefixlen, own6)
    match: dict[str, object] = {"macaddress": machine.mac} if machine.mac else {"name": "e*"}
    device: dict[str, object] = {
        "match": match,
        "dhcp4": False,
        "dhcp6": False,
        "accept-ra": False,
        "addresses": addresses,
        "nameservers": {
            "addresses": [str(a) for a in network.dns],
            "search": [network.site.domain],
        },
    }
    if routes:
        device["routes"] = routes
    return emit.yaml_text({"version": 2, "ethernets": {"lan": device}})
