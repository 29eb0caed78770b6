"""Two releases that differ in all ways that a change takes, as the builder would write them."""

from __future__ import annotations

from collections.abc import Mapping

from builder import manifest, tree
from builder.host.store import Store
from builder.manifest import Object

SECRET = b"a secret\n"
# None with bytecode beside it, whose name would be kept by the way it is written.
_PROGRAM = b"#!/bin/sh\necho 3\n"
_INTERFACES = "auto vmbr0\niface vmbr0 inet static\n\taddress 10.0.{}.1/24\n\tbridge-ports none\n"


def made(store: Store, number: int, plain: bool = False) -> bytes:
    """The manifest of the first, the second, or the third, which differs from that by a line
    and brings a program; its
    files are in the store. `plain` is for plain LXC."""
    line, number, two = number, min(number, 2), number > 1
    unit = f"[Service]\nExecStart=/bin/true {number}\n[Install]\nWantedBy=multi-user.target\n"
    said: dict[str, tuple[str, int, str]] = {
        "/etc/network/interfaces": ("interfaces", 0o644, _INTERFACES.format(number)),
        "/etc/phoenix/nat.nft": ("replace", 0o600 if two else 0o644, f"table {line}\n"),
        "/etc/pve/firewall/101.fw": ("firewall", 0o640, f"[OPTIONS]\nenable: 1\nlog: {number}\n"),
        "/etc/sysctl.d/90-phoenix.conf": ("replace", 0o644, f"a = {number}\n"),
        "/etc/systemd/system/phoenix-nat.service": ("replace", 0o644, unit),
    }
    if plain:
        said.pop("/etc/pve/firewall/101.fw")
    if two:
        said["/etc/two.d/two.conf"] = ("replace", 0o644, "2\n")
        said["/etc/systemd/system/phoenix-two.service"] = ("replace", 0o644, unit)
    refs = []
    secrets = (manifest.Secret("g101", "token", 0o400, "file:token"),) if two else ()
    for guest in (101, 102) if two else (101,):
        conf = f"cores: {number}\nhostname: g{guest}\nonboot: 1\n"
        if plain:
            conf = f"lxc.start.auto = 1\nlxc.uts.name = g{guest}\n"
            said[f"/var/lib/lxc/{guest}/config"] = ("lxc-conf", 0o640, conf)
        else:
            said[f"/etc/pve/lxc/{guest}.conf"] = ("lxc-conf", 0o640, conf)
        text = f"{number}\n"
        files = {"bin/phoenix-slots": f"#!{text}", "web/conf": text, "units/phoenix-x.service": "",
                 "x/conf": text, "units/phoenix-web@.service": ""}  # fmt: skip
        refs.append(manifest.GuestRef(f"g{guest}", guest, _node(store, guest, files)))
    targets = [
        manifest.Target(path, "interfaces", how, mode, "root:root", stored(store, text.encode()))
        for path, (how, mode, text) in sorted(said.items())
    ]
    platform = manifest.Platform(*(("lxc", 0) if plain else ("proxmox", 8)))
    return manifest.dump(
        manifest.Release(
            site="phoenix", host="pve1", domain="phoenix.internal",
            platform=platform, reach=manifest.Reach("10.0.0.9", "root"),
            management=("10.0.0.9",), targets=tuple(targets), guests=tuple(refs), kits=(),
            inputs=(), secrets=secrets, network=stored(store, b"{}\n"), unready=(),
            program=stored(store, _PROGRAM) if line == 3 else None,
        )
    )  # fmt: skip


def stored(store: Store, data: bytes) -> Object:
    """A file of the store."""
    made = Object(tree.digest(data), "x", len(data))
    path = store.path(made.digest)
    if not path.exists():
        path.write_bytes(data)
        path.chmod(0o444)
    return made


def _node(store: Store, number: int, files: Mapping[str, str]) -> Object:
    entries, offset = [], 512
    for path, text in sorted(files.items()):
        made = stored(store, text.encode())
        mode = 0o755 if path.startswith("bin/") else 0o644
        entries.append(tree.Indexed(path, mode, made.size, made.digest, offset))
        offset += -(-made.size // 512) * 512 + 512
    index = stored(store, manifest.dump_index(manifest.LayerIndex(tuple(entries))))
    node = manifest.GuestNode(
        name=f"g{number}", id=number, role="service", restart="allow",
        layers=(manifest.Layer("names", index, index),),
        daemons=(manifest.Daemon("web", (manifest.Listener(443, 8001, 8002),)),),
        creation=(("template", "debian.tar"),),
    )  # fmt: skip
    return stored(store, manifest.dump_guest(node))
