"""All real programs as judges of one host's network: what they take, and that they have loaded what
was declared. Details are each kind's own tests'; here stands what must hold for any configuration.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from builder.derive import inside_name
from builder.kinds.artifact import GuestFiles, HostFile
from builder.network import Member, Network, Routed, Trust
from builder.tree import Tree
from tests.judges import ifupdown2, lxc, nft, nginx, pki, step_ca, systemd, traefik
from tests.judges.guest import Guest
from tests.rendered import artifacts

MOST_EXPOSED = 2.5


@cache
def trust() -> Trust:
    """Certificates of a throw-away authority, whose keys step-ca's judge has."""
    authority = pki.authority()
    return Trust(authority.root, authority.intermediate)


class Judged:
    """One host's artifacts before the judges; `network` was derived with `trust()`."""

    def __init__(self, network: Network) -> None:
        assert network.trust == trust()
        self.network = network
        every = artifacts(network)
        self.host = {a.path: a.data.decode() for a in every if isinstance(a, HostFile)}
        self.guests = {
            m.guest.name: Guest(
                Tree.of(
                    entry
                    for a in every
                    if isinstance(a, GuestFiles) and a.guest == m.guest.name
                    for entry in a.tree
                ),
                programs=m.programs,
            )
            for m in network.members
        }

    def by_all(self) -> None:
        """Raises Refused, or AssertionError where something else was loaded than was declared."""
        self.by_ifupdown2()
        self.by_nft()
        self.by_liblxc()
        self.by_systemd()
        self.by_nginx()
        self.by_traefik()
        self.by_step_ca()

    def by_ifupdown2(self) -> None:
        text = self.host["/etc/network/interfaces"]
        if self.network.host.platform.kind == "proxmox":
            # Proxmox's ifupdown2 knows this method; the judge is Debian's, which does not.
            text = text.replace("inet6 auto", "inet6 manual")
        stanzas = ifupdown2.check(text)
        written = {(s.name, a) for s in stanzas for a in s.attributes.get("address", [])}
        for bridge in self.network.host.bridges:
            own = (bridge.address, bridge.address6, *bridge.addresses)
            for address in own:
                assert address is None or (bridge.name, str(address)) in written, address
            uplink = bridge.uplink
            if uplink and uplink.address:
                assert (uplink.interface, str(uplink.address)) in written

    def by_nft(self) -> None:
        for path, text in self.host.items():
            if path.endswith(".nft"):
                assert nft.tables(nft.check(text))
        for member in self.network.members:
            if member.daemon:
                guest = self.guests[member.guest.name]
                for slot in ("a", "b"):
                    loaded = json.dumps(nft.check(guest.text(f"slots/{slot}.nft")))
                    for listener in member.listeners:
                        pair = [listener.port, listener.a if slot == "a" else listener.b]
                        assert json.dumps(pair) in loaded, pair

    def by_liblxc(self) -> None:
        configs = {p: t for p, t in self.host.items() if p.startswith("/var/lib/lxc/")}
        if self.network.host.platform.kind == "proxmox":
            assert not configs
            return
        loaded = lxc.load_all(configs)
        for member in self.network.members:
            items = loaded[f"/var/lib/lxc/{member.guest.id}/config"]
            for i, nic in enumerate(member.guest.interfaces):
                assert items[f"lxc.net.{i}.link"] == [nic.bridge]
                assert items[f"lxc.net.{i}.hwaddr"] == [nic.mac]
                assert items[f"lxc.net.{i}.ipv4.address"][0].startswith(f"{nic.address}/")

    def by_systemd(self) -> None:
        for guest in self.guests.values():
            assert systemd.verify(guest)
            for unit, exposed in systemd.security(guest).items():
                assert exposed <= MOST_EXPOSED, (unit, exposed)

    def by_nginx(self) -> None:
        for member in self.network.members:
            if member.daemon == "nginx":
                for slot in ("a", "b"):
                    loaded = nginx.check(
                        self.guests[member.guest.name],
                        f"nginx/{slot}.conf",
                        folders=["/var/log/phoenix-nginx", f"/run/phoenix-nginx-{slot}"],
                    )
                    named = {
                        name
                        for server in loaded.servers("http")
                        for directive in server.find("server_name")
                        for name in directive.args
                    }
                    assert named == self._names(member)

    def _names(self, member: Member) -> set[str]:
        """The names that a guest's HTTP servers answer to."""
        if member.guest.role == "gateway":
            return {x.name for x in self.network.exposed}
        return {member.fqdn} if member.fronts else set()

    def by_traefik(self) -> None:
        loaded = traefik.load(self.guests[self.network.mesh.guest.name])
        services = {**loaded.of("services"), **loaded.of("tcpServices")}
        routers = (*loaded.of("routers").values(), *loaded.of("tcpRouters").values())
        for routed in self.network.services:
            name, names = routed.service.name, self._called(routed)
            rules = " ".join(r["rule"] for r in routers if r["service"] == name)
            assert all(f"(`{called}`)" in rules for called in names), (name, rules)
            if names:
                balanced = services[name]["weighted"]["services"]
                found = [(_server(services[one["name"]]), one["weight"]) for one in balanced]
                wanted = [(f"{b.address}:{b.port}", b.weight) for b in routed.backends]
                assert sorted(found) == sorted(wanted), name

    def _called(self, routed: Routed) -> set[str]:
        """The names by which the mesh knows a service; tcp from outside has the one inside."""
        exposed = {x.name for x in self.network.exposed if x.service.name == routed.service.name}
        if exposed and routed.service.protocol == "tcp":
            exposed = {inside_name(self.network.site, routed.service)}
        return exposed | ({routed.inside_name} if routed.inside_name else set())

    def by_step_ca(self) -> None:
        ca = self.network.ca.guest.name
        names = [
            n
            for m in self.network.members
            for c in m.certificates
            if c.directory is None and c.files is None
            for n in c.names
        ]
        with step_ca.serve(self.guests[ca]) as serving:
            assert serving.directories()
            if names:
                assert serving.issue([names[0]]).chain.count(b"BEGIN CERTIFICATE") == 2


def _server(service: dict[str, Any]) -> str:
    """Address and port of a loaded service's one server."""
    (server,) = service["loadBalancer"]["servers"]
    return str(server.get("address") or server["url"].partition("://")[2])
