"""Small releases for a Proxmox node, as the builder would write them, in a node's store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from builder import manifest, tree
from builder.host import generations
from builder.host.paths import Paths
from builder.host.store import Store
from builder.manifest import Object
from tests.host.making import INTERFACES_PATH, SYSCTL, stored
from tests.host.proxmox.node import TEMPLATE, Node
from tests.host.signing import signed

FIREWALL = b"[OPTIONS]\nenable: 1\npolicy_in: DROP\n\n[RULES]\nIN ACCEPT -p tcp -dport 443\n"
INTERFACES = b"auto vmbr0\niface vmbr0 inet static\n\taddress 10.0.0.1/24\n\tbridge-ports none\n"
CREATION = {
    "arch": "amd64", "ostype": "debian", "rootfs": "local-lvm:8", "template": TEMPLATE,
    "unprivileged": "1",
}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """A guest of a release: keys of its configuration over those that all have, files of its
    folder by path, whether it may be restarted, and what it is made from."""

    keys: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=lambda: {"names/hosts": "1\n"})
    restart: bool = True
    creation: Mapping[str, str] = field(default_factory=lambda: CREATION)


def conf(number: int, keys: Mapping[str, str]) -> bytes:
    """A guest's NNN.conf, in the form that PVE writes."""
    said = {
        "arch": "amd64", "cores": "2", "hostname": f"g{number}", "memory": "1024",
        "net0": f"name=eth0,bridge=vmbr0,firewall=1,hwaddr=02:5B:80:69:B0:{number % 100:02},"
        f"ip=10.0.0.{number}/24,type=veth",
        "onboot": "1", "ostype": "debian", "startup": "order=30", "swap": "0", "unprivileged": "1",
        **keys,
    }  # fmt: skip
    lines = [f"{key}: {said[key]}" for key in sorted(said)]
    place = f"/var/lib/phoenix/guests/{number}"
    lines += [
        f"lxc.mount.entry: {place} opt/phoenix none bind,ro,create=dir 0 0",
        f"lxc.mount.entry: {place} usr/local/lib/systemd none bind,ro,create=dir 0 0",
    ]
    return "".join(f"{line}\n" for line in lines).encode()


def keep(
    node: Node,
    guests: Mapping[int, Wanted] | None = None,
    *,
    sysctl: str = "net.ipv4.ip_forward = 1\n",
    interfaces: bytes | None = None,
) -> int:
    """Keep a release on a node; its number."""
    paths = Paths(node.root)
    place = Store(paths)
    targets = [_target(place, SYSCTL, "replace", sysctl.encode())]
    if interfaces is not None:
        targets.append(_target(place, INTERFACES_PATH, "interfaces", interfaces))
    refs = []
    for number, wanted in (guests or {}).items():
        name = f"/etc/pve/lxc/{number}.conf"
        targets.append(_target(place, name, "lxc-conf", conf(number, wanted.keys), 0o640))
        rules = f"/etc/pve/firewall/{number}.fw"
        targets.append(_target(place, rules, "firewall", FIREWALL, 0o640))
        refs.append(manifest.GuestRef(f"g{number}", number, _node(place, number, wanted)))
    data = manifest.dump(
        manifest.Release(
            site="phoenix",
            host="pve1",
            domain="phoenix.internal",
            platform=manifest.Platform("proxmox", 8),
            reach=manifest.Reach("192.168.1.10", "root"),
            management=("192.168.1.10",),
            targets=tuple(sorted(targets, key=lambda target: target.path)),
            guests=tuple(refs),
            kits=(),
            inputs=(),
            secrets=(),
            network=stored(place, b"{}\n"),
            unready=(),
        )
    )
    return generations.keep(paths, data, signed(paths, data))


def _target(place: Store, path: str, how: str, data: bytes, mode: int = 0o644) -> manifest.Target:
    return manifest.Target(path, "lxc", how, mode, "root:root", stored(place, data))


def _node(place: Store, number: int, wanted: Wanted) -> Object:
    entries, offset = [], 512
    for path, text in sorted(wanted.files.items()):
        made = stored(place, text.encode())
        entries.append(tree.Indexed(path, 0o644, made.size, made.digest, offset))
        offset += -(-made.size // 512) * 512 + 512
    index = stored(place, manifest.dump_index(manifest.LayerIndex(tuple(entries))))
    return stored(
        place,
        manifest.dump_guest(
            manifest.GuestNode(
                name=f"g{number}",
                id=number,
                role="service",
                restart="allow" if wanted.restart else "refuse",
                layers=(manifest.Layer("names", index, index),),
                daemons=(),
                creation=tuple(sorted(wanted.creation.items())),
            )
        ),
    )


def home(node: Node) -> Path:
    """The node's /var/lib/phoenix."""
    return node.at("/var/lib/phoenix")
