"""Join kits: judged by cloud-init and netplan, and by machines that join with them for real."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from builder.kinds import join
from builder.kinds.artifact import KitFiles
from builder.network import Network
from builder.tree import File, Tree
from tests.judges import programs
from tests.kinds.traefik.running import documents, network
from tests.kinds.units import lab as labs
from tests.kinds.units import machine
from tests.kinds.units.lab import Lab
from tests.kinds.units.machine import Machine

NAME = "workstation.phoenix.internal"
# A program that knows nothing of us, and asks the CA by name.
TRUSTS = """
import socket, ssl, sys
context = ssl.create_default_context()
context.wrap_socket(socket.create_connection((sys.argv[1], 9000)), server_hostname=sys.argv[1])
"""
CERTIFICATE = f"/var/lib/phoenix/certificates/{NAME}/certificate.pem"


def kit(net: Network, name: str = "workstation") -> Tree:
    (found,) = (a for a in join.artifacts(net) if isinstance(a, KitFiles) and a.name == name)
    return found.tree


def net(**machine_keys: object) -> Network:
    """The reference; these keys are its machine's."""
    site, hosts = documents()
    host = hosts["pve1"]
    if "address6" in machine_keys:
        host["bridges"]["vmbr0"]["address6"] = "fd00::1/64"
    declared = host["machines"]["workstation"] | machine_keys
    host["machines"]["workstation"] = {k: v for k, v in declared.items() if v is not None}
    return network(site, host)


def loaded(files: Tree, path: str) -> Any:
    return yaml.safe_load(files.file(path).data)


def test_kit_has_what_a_guest_has() -> None:
    files = kit(network())
    paths = {e.path for e in files}
    assert paths >= {
        "README", "acme/certificates", "bin/phoenix-acme", "bin/phoenix-names", "names/hosts",
        "names/profile.sh", "trust/root.crt", "users/sysusers.conf", "units/phoenix-acme.service",
        "units/phoenix-acme.timer", "units/phoenix-names.path", "units/phoenix-names.service",
        "units/phoenix-names.timer", "units/phoenix-users.service",
    }  # fmt: skip
    order = files.file("acme/certificates").data.decode().splitlines()[-1].split()
    assert (order[0], order[1], order[-1]) == (NAME, "standalone", NAME)
    # Every unit that is wanted or ordered after is there, or the machine's own.
    text = b"".join(e.data for e in files if isinstance(e, File) and e.path.startswith("units/"))
    named = set(re.findall(r"phoenix-[a-z-]+\.[a-z]+", text.decode()))
    assert {f"units/{name}" for name in named} <= paths
    assert {f"units/{name}" for name in join.ENABLED} <= paths


def test_cloud_init_installs_the_same_files() -> None:
    files = kit(network())
    config = loaded(files, "cloud-init/user-data")
    written = {f["path"]: f for f in config["write_files"]}
    for entry in files:
        if entry.path.startswith(("README", "cloud-init")):
            continue
        assert isinstance(entry, File)
        place = {"units": "/etc/systemd/system"}.get(entry.path.split("/")[0])
        path = (
            f"{place}/{entry.path.split('/')[1]}" if place else f"/opt/phoenix/current/{entry.path}"
        )
        found = written.pop(path)
        assert found["content"].encode() == entry.data
        assert int(found["permissions"], 8) == entry.mode
    assert written == {}


def test_outside_machines_have_no_cloud_init() -> None:
    site, hosts = documents()
    host = hosts["pve1"]
    host["machines"] = {"away": {"address": "192.0.2.7"}}
    site["services"] = {}
    files = kit(network(site, host), "away")
    assert not [e.path for e in files if e.path.startswith("cloud-init")]
    assert b"needs a route" in files.file("README").data


@pytest.fixture(scope="module")
def judge() -> Iterator[Machine]:
    empty = Tree.of([File("units/none.service")])
    with machine.prepared(empty) as found, machine.running(found, binds={}):
        yield found


def networkd(judge: Machine, files: Tree, by_cloud_init: bool) -> str:
    """What netplan makes of the network configuration for systemd-networkd; handed on by
    cloud-init, or as it is, since the format is netplan's.
    """
    judge.shell("rm -rf /tmp/net; mkdir -p /tmp/net")
    text = files.file("cloud-init/network-config").data.decode()
    if by_cloud_init:
        judge.write("/tmp/net/config", text)
        judge.must(
            "cloud-init", "devel", "net-convert", "--network-data", "/tmp/net/config", "--kind",
            "yaml", "--output-kind", "netplan", "--distro", "debian", "--directory", "/tmp/net",
        )  # fmt: skip
    else:
        indented = "".join(f"  {line}\n" for line in text.splitlines())
        judge.write("/tmp/net/etc/netplan/kit.yaml", f"network:\n{indented}")
    judge.must("netplan", "generate", "--root-dir", "/tmp/net")
    return judge.shell("cat /tmp/net/run/systemd/network/*")


@pytest.mark.parametrize(
    "keys",
    [{}, {"address6": "fd00::201"}, {"mac": None}],
    ids=["v4", "both", "any"],
)
@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")
def test_network_as_netplan_reads_it(judge: Machine, keys: Mapping[str, object]) -> None:
    told = networkd(judge, kit(net(**keys)), by_cloud_init="address6" in keys)
    wanted = {"Address=10.0.0.201/24", "DNS=9.9.9.9", "DNS=1.1.1.1", "Domains=phoenix.internal"}
    wanted |= {"Gateway=10.0.0.1", "IPv6AcceptRA=no"}
    wanted |= {"Name=e*"} if "mac" in keys else {"MACAddress=bc:24:11:00:02:01"}
    if "address6" in keys:
        wanted |= {"Address=fd00::201/64", "Gateway=fd00::1"}
    lines = {line.replace("PermanentMACAddress", "MACAddress") for line in told.splitlines()}
    assert wanted <= lines, told
    assert "DHCP=" not in told


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap")
def test_cloud_init_takes_the_configuration(judge: Machine) -> None:
    text = kit(network()).file("cloud-init/user-data").data.decode()
    judge.write("/tmp/user-data", text)
    assert "Valid" in judge.must("cloud-init", "schema", "--config-file", "/tmp/user-data")
    judge.write("/tmp/user-data", text.replace('"permissions"', '"permission"'))
    assert judge.run("cloud-init", "schema", "--config-file", "/tmp/user-data").code != 0


# --- joining


@pytest.fixture(scope="module")
def world() -> Iterator[Lab]:
    with labs.running(network(), ("step-ca",)) as found:
        yield found


def steps(readme: str) -> tuple[list[str], list[str]]:
    """The README's two lists of commands, but for what fetches a package."""
    join_them, _, leave = readme.partition("To take it back")
    found = [
        [line.strip() for line in part.splitlines() if line.startswith("    ")]
        for part in (join_them, leave)
    ]
    assert found[0].pop(0) == "apt-get install lego"
    return found[0], found[1]


def unpack(files: Tree, to: Path) -> None:
    for entry in files:
        assert isinstance(entry, File)
        machine.put(to / entry.path, entry.data, entry.mode)
    subprocess.run(["cp", programs.folder("lego") / "usr/bin/lego", to / "lego"], check=True)


@pytest.mark.judge
@pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")
def test_a_machine_joins_by_the_readme_and_leaves(world: Lab) -> None:
    files = kit(network())
    with machine.prepared(Tree.of([File("units/none.service")])) as found:
        unpack(files, found.folder / "kit")
        binds = {"/srv/kit": found.folder / "kit"}
        with machine.running(found, begun=lambda m: world.attach("workstation", m), binds=binds):
            before = found.read("/etc/hosts")
            found.must("cp", "/srv/kit/lego", "/usr/bin/lego")
            to_join, to_leave = steps(files.file("README").data.decode())
            # Of a root who shows nothing to others.
            found.shell("umask 077; cd /srv/kit\n" + "\n".join(to_join))
            found.until(lambda: found.run("test", "-s", CERTIFICATE).code == 0)
            assert NAME in found.must("openssl", "x509", "-in", CERTIFICATE, "-noout", "-text")
            ask = ["python3", "-c", TRUSTS, world.net.ca.fqdn]
            found.must(*ask)
            assert found.active("phoenix-acme.timer") == "active"
            # A newer kit comes by the same steps, not into a script that may be running.
            script = ["stat", "-c", "%i", "/opt/phoenix/current/bin/phoenix-acme"]
            old = found.must(*script)
            found.shell("cd /srv/kit\n" + "\n".join(to_join))
            assert found.must(*script) != old
            found.shell("\n".join(to_leave))
            assert found.read("/etc/hosts") == before
            assert found.run(*ask).code == 1
            assert found.must("systemctl", "list-units", "--no-legend", "phoenix*") == ""


@pytest.mark.judge
@pytest.mark.deep
@pytest.mark.needs("root", "unshare", "mmdebstrap", "ip")
def test_a_new_vm_joins_by_cloud_init(world: Lab) -> None:
    """cloud-init itself, at a first boot with the kit as its seed; there is no mirror here, so the
    package is put in beforehand.
    """
    files = kit(network())
    with machine.prepared(Tree.of([File("units/none.service")])) as found:
        unpack(files, found.folder / "kit")
        binds = {"/srv/kit": found.folder / "kit"}
        with machine.running(found, begun=lambda m: world.attach("workstation", m), binds=binds):
            found.shell(
                "cp /srv/kit/lego /usr/bin/lego; mkdir -p /var/lib/cloud/seed/nocloud; "
                "cp /srv/kit/cloud-init/user-data /srv/kit/cloud-init/meta-data "
                "/var/lib/cloud/seed/nocloud; "
                "echo 'datasource_list: [NoCloud]' >/etc/cloud/cloud.cfg.d/90.cfg; "
                "echo 'network: {config: disabled}' >/etc/cloud/cloud.cfg.d/91.cfg; "
                # As Debian's own images have it.
                "echo 'manage_etc_hosts: true' >/etc/cloud/cloud.cfg.d/01.cfg"
            )
            for stage in (["init", "--local"], ["init"], ["modules"], ["modules", "--mode=final"]):
                found.run("cloud-init", *stage, timeout=120)
            found.until(lambda: found.run("test", "-s", CERTIFICATE).code == 0)
            assert found.read("/etc/hostname") == "workstation\n"
            assert found.active("phoenix-acme.timer") == "active"
            # At the next boot the names are there from its beginning on.
            found.must("systemctl", "stop", "phoenix-names.path")
            found.run("cloud-init", "init", timeout=120)
            assert "step-ca.phoenix.internal" in found.read("/etc/hosts")
