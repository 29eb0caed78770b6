"""The units of the rules: taken by systemd, closed in, and undone by what they say."""

from __future__ import annotations

import re
import shlex

import pytest

from builder.emit.fixed import fixed
from tests.judges.namespace import Entry, Space
from tests.kinds.firewall.world import files, network, plain, with_ipv6

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare", "mmdebstrap")]

FOLDER = "/etc/systemd/system"
HIGHEST = {"phoenix-ipv6.service": 2.5}
RULES = 3.5
"""Those of rules do without a mount namespace; see `test_no_mount_keeps_rules_away`."""
MOUNTS = re.compile(
    r"^(Private(Tmp|Devices|Mounts|IPC)|Protect(System|Home|Proc|Kernel\w+|ControlGroups)|ProcSubset|"
    r"\w+Paths|RootDirectory|RootImage|BindPaths|BindReadOnlyPaths|TemporaryFileSystem|"
    r"LoadCredential\w*|SetCredential\w*|DynamicUser|LogNamespace)=",
    re.MULTILINE,
)
"""What systemd makes a mount namespace for (systemd.exec(5))."""


def units() -> dict[str, bytes]:
    made = files(network(with_ipv6(plain())))
    found = {path.rpartition("/")[2]: f.data for path, f in made.items() if FOLDER in path}
    return found | {"phoenix-ipv6.service": fixed("common/units/phoenix-ipv6.service")}


def test_systemd_takes_them() -> None:
    made = units()
    assert set(made) == {f"phoenix-{name}.service" for name in ("nat", "firewall", "ipv6")}
    with Space() as space:
        space.write(Entry(f"{FOLDER}/{name}", data) for name, data in made.items())
        paths = [f"{FOLDER}/{name}" for name in made]
        verified = space.run(["systemd-analyze", "verify", "--man=no", *paths])
        exposed = space.must(["systemd-analyze", "security", "--offline=yes", "--no-pager", *paths])
    assert (verified.code, verified.out, verified.err) == (0, "", "")
    levels = re.findall(r"Overall exposure level for (\S+): ([0-9.]+)", exposed)
    assert {name for name, _ in levels} == set(made)
    high = [(name, level) for name, level in levels if float(level) > HIGHEST.get(name, RULES)]
    assert high == []


@pytest.mark.parametrize("name", ["nat", "firewall"])
def test_no_mount_keeps_rules_away(name: str) -> None:
    """At a boot, where mounts come and go, the namespace of a unit may fail to be made."""
    assert MOUNTS.findall(units()[f"phoenix-{name}.service"].decode()) == []
    assert MOUNTS.search(units()["phoenix-ipv6.service"].decode())


def commands(unit: bytes, name: str) -> list[list[str]]:
    return [
        shlex.split(line) for line in re.findall(rf"^{name}=(.*)$", unit.decode(), re.MULTILINE)
    ]


def test_they_load_and_take_away_their_own() -> None:
    foreign = "table inet foreign {\n\tchain x {\n\t\taccept\n\t}\n}\n"
    made = files(network(with_ipv6(plain())))
    with Space(sysctls={}) as space:
        space.must(["nft", "-f", "-"], given=foreign)
        space.write(Entry(path, file.data) for path, file in made.items())
        before = space.must(["nft", "list", "ruleset"])
        for unit in ("phoenix-nat.service", "phoenix-firewall.service"):
            data = made[f"{FOLDER}/{unit}"].data
            for key in ("ExecStart", "ExecStartPost", "ExecReload", "ExecReload"):
                for command in commands(data, key):
                    space.must(command)
            assert "phoenix_" in space.must(["nft", "list", "ruleset"])
            for _ in range(2):
                for command in commands(data, "ExecStop"):
                    space.must(command)
            assert space.must(["nft", "list", "ruleset"]) == before


def test_firewall_fails_where_bridged_packets_pass_unseen() -> None:
    data = files(network(plain()))[f"{FOLDER}/phoenix-firewall.service"].data
    with Space(sysctls={"net.bridge.bridge-nf-call-iptables": "0"}) as space:
        codes = [space.run(command).code for command in commands(data, "ExecStartPost")]
    assert codes == [1, 0]


def test_settings_and_modules() -> None:
    made = files(network(plain()))
    assert made["/etc/modules-load.d/phoenix-firewall.conf"].data == b"br_netfilter\n"
    sysctl = made["/etc/sysctl.d/90-phoenix-firewall.conf"].data
    assert b"vlan" not in sysctl
    with Space(sysctls={"net.bridge.bridge-nf-call-iptables": "0"}) as space:
        space.write([Entry("/etc/sysctl.d/x.conf", sysctl)])
        space.must(["/usr/lib/systemd/systemd-sysctl", "/etc/sysctl.d/x.conf"])
        assert space.read("/proc/sys/net/bridge/bridge-nf-call-iptables") == b"1\n"
    aware = plain()
    aware["bridges"]["vmbr0"]["vlan_aware"] = True
    tagged = files(network(aware))["/etc/sysctl.d/90-phoenix-firewall.conf"].data
    assert b"bridge-nf-filter-vlan-tagged = 1" in tagged
