"""A lab's host whose link is cut while a deploy is at a given point, and what then stands there.

The releases are small: a bridge and a sysctl, a table of nftables and the unit that loads it, and
a guest with one unit. All of it bears the release's *word*, a number, in files and in what runs, so
that a mixture of two releases is seen. The program is the host's own, with points at which it waits
(`holds`).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import re
import select
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder import keys, manifest, tree
from builder.lab.engine import Engine
from builder.lab.up import Up
from tests.deploy.making import HOST, Project
from tests.integration import holds
from tests.integration.cut_deployer import LIMIT, Deployer, await_, start
from tests.lab import labs
from tests.lab.inside import Inside

GUEST, BLOB, LATE = 111, 16 << 20, 20.0
"""A guest; the size of a large file; seconds that a host may take to go back."""
SSH = ("-o", "ServerAliveInterval=1", "-o", "ServerAliveCountMax=2", "-o", "ConnectTimeout=2")
"""A person's own options: a link that is gone is noticed within three seconds."""
_INTERFACES = """\
iface eth0 inet manual

auto vmbr0
iface vmbr0 inet static
\taddress ADDRESS
\tgateway GATEWAY
\tbridge-ports eth0
\tbridge-stp off
\tbridge-fd 0
\tbridge-ports-condone-regex ^(tap|veth|fwpr)[0-9]+.*

auto vmbr7
iface vmbr7 inet static
\taddress 10.77.WORD.1/24
\tbridge-ports none
\tbridge-stp off
\tbridge-fd 0
"""
_TABLE = """\
table inet phoenix_cut
delete table inet phoenix_cut
table inet phoenix_cut {
\tchain word_WORD {
\t}
\tchain input {
\t\ttype filter hook input priority 0; policy accept;
\t\tRULE
\t}
}
"""
_UNIT = """\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/phoenix/cut.nft
ExecReload=/usr/sbin/nft -f /etc/phoenix/cut.nft
ExecStop=/usr/sbin/nft delete table inet phoenix_cut
[Install]
WantedBy=multi-user.target
"""
_CONF = f"""\
lxc.include = /usr/share/lxc/config/common.conf
lxc.include = /usr/share/lxc/config/userns.conf
lxc.apparmor.profile = unconfined
lxc.idmap = u 0 100000 65536
lxc.idmap = g 0 100000 65536
lxc.rootfs.path = dir:/var/lib/lxc/{GUEST}/rootfs
lxc.uts.name = word
lxc.net.0.type = empty
lxc.mount.entry = /var/lib/phoenix/guests/{GUEST} opt/phoenix none bind,ro,create=dir 0 0
lxc.mount.entry = /var/lib/phoenix/guests/{GUEST} usr/local/lib/systemd none bind,ro,create=dir 0 0
"""
_NAMES = b"""\
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/cp /opt/phoenix/current/names/word /run/word
"""
_FACTS = f"""
sed -n 's/.*10\\.77\\.\\([0-9]*\\)\\..*/file-bridge \\1/p' /etc/network/interfaces
ip -o -4 address show vmbr7 | sed -n 's/.*10\\.77\\.\\([0-9]*\\)\\..*/bridge \\1/p'
sed -n 's/.*ttl = /file-ttl /p' /etc/sysctl.d/90-word.conf
echo ttl $(cat /proc/sys/net/ipv4/ip_default_ttl)
sed -n 's/.*word_\\([0-9]*\\).*/file-table \\1/p' /etc/phoenix/cut.nft
nft list table inet phoenix_cut | sed -n 's/.*word_\\([0-9]*\\).*/table \\1/p'
echo folder $(cat /var/lib/phoenix/guests/{GUEST}/current/names/word)
echo guest $(lxc-attach -n {GUEST} --clear-env -- cat /run/word)
echo current $(readlink /var/lib/phoenix/current)
ls /var/lib/phoenix/journal 2>/dev/null
systemctl list-units --plain --no-legend 'phoenix-guard-*.timer'
true
"""
_DROP = {
    # Every packet, one after the other by chance, those that begin a connection.
    "drop": "drop",
    "loss": "meta l4proto tcp numgen random mod 100 < 30 drop",
    "new": "tcp dport 22 tcp flags & (syn | ack) == syn drop",
}


class Hold:
    """A point of the host program, armed; see `holds`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.paths = [folder / f"{name}.{end}" for end in ("at", "go")]
        for path in self.paths:
            os.mkfifo(path)
        self.at = os.open(self.paths[0], os.O_RDONLY | os.O_NONBLOCK)
        self.go = os.open(self.paths[1], os.O_RDWR)

    def reached(self) -> None:
        """Await that the program stands there."""
        assert select.select([self.at], [], [], LIMIT)[0], f"never came to {self.name}"

    def release(self) -> None:
        """Let it go on."""
        os.write(self.go, b"\n")

    def close(self) -> None:
        """Let whoever stands there go on, and take the point away."""
        self.release()
        os.close(self.at)
        os.close(self.go)
        for path in self.paths[0].parent.glob(f"{self.name}.*"):
            path.unlink()


@dataclass
class Site:
    """The host, and the releases for it. `word` is what runs, `number` its generation, `kept` are
    the words by generation, `late` by how many seconds each transaction was over after its
    deadline."""

    up: Up
    project: Project
    folder: Path
    word: int = 0
    number: int = 0
    words: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    kept: dict[int, int] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.home = self.up.state.volume("phoenix")
        self.holds = self.home / "hold"
        self.holds.mkdir()
        self.program = holds.program()
        self.inside = Inside(self.up.engine, self.up.lab.host)

    @property
    def engine(self) -> Engine:
        return self.up.engine

    def sh(self, script: str) -> str:
        """What a script on the host prints, beside all of its networks."""
        code, out, err = self.inside.run("sh", "-c", script)
        assert code == 0, (script, out, err)
        return out

    # ---- what is deployed

    def release(self, blob: bool = False, rule: str = "", last: int = 10) -> int:
        """Make the newest release; its word. `rule` is in its own table, `last` the end of the
        address that it really gives the host; with `blob` it brings a file of 16 MiB."""
        lab, put, word = self.up.lab, self.project.put, next(self.words)
        values = {
            "WORD": str(word),
            "ADDRESS": f"{lab.at(last)}/{lab.network.prefixlen}",
            "GATEWAY": str(lab.router),
            "RULE": rule,
        }

        def target(path: str, text: str, merge: str = "replace") -> manifest.Target:
            for key, value in values.items():
                text = text.replace(key, value)
            content = put("t", text.encode())
            return manifest.Target(path, "word", merge, 0o644, "root:root", content)

        targets = [
            target("/etc/network/interfaces", _INTERFACES, "interfaces"),
            target("/etc/phoenix/cut.nft", _TABLE),
            target("/etc/sysctl.d/90-word.conf", f"net.ipv4.ip_default_ttl = {word}\n"),
            target("/etc/systemd/system/phoenix-cut.service", _UNIT),
            target(f"/var/lib/lxc/{GUEST}/config", _CONF, "lxc-conf"),
        ]
        made = manifest.Release(
            site="phoenix", host=HOST, domain="phoenix.internal",
            platform=manifest.Platform("lxc", 0),
            reach=manifest.Reach(str(lab.at(last + 1) if last != 10 else lab.address), "root"),
            management=(str(lab.address),), targets=tuple(targets),
            guests=(manifest.GuestRef("word", GUEST, self._guest(word, blob)),),
            kits=(), inputs=(), secrets=(), network=put("network.json", b"{}\n"), unready=(),
            program=put("phoenix", self.program),
        )  # fmt: skip
        self.project._released(manifest.dump(made), signed=True)
        return word

    def _guest(self, word: int, blob: bool) -> manifest.Object:
        held = {
            "names/word": f"{word}\n".encode(),
            "units/phoenix-names.service": _NAMES,
            "units/multi-user.target.d/names.conf": b"[Unit]\nWants=phoenix-names.service\n",
            **({"names/blob": os.urandom(BLOB)} if blob else {}),
        }
        out, put = io.BytesIO(), self.project.put
        packed = tree.pack(tree.Tree.of([tree.File(p, d, 0o644) for p, d in held.items()]), out)
        index = put("i", manifest.dump_index(manifest.LayerIndex(packed.index)))
        layer = manifest.Layer("names", put("names.tar", out.getvalue()), index)
        node = manifest.GuestNode(
            name="word", id=GUEST, role="service", restart="allow", layers=(layer,), daemons=(),
            creation=(("template", "debian-12.tar"),),
        )  # fmt: skip
        return put("node.json", manifest.dump_guest(node))

    def deployer(
        self, do: str = "deploy", json: bool = True, more: tuple[str, ...] = SSH, **facts: Any
    ) -> Deployer:
        """Start the deployer; `more` are options of ssh."""
        reach = ["ssh", "-F", str(self.up.state.ssh_config), *more]
        place = {"root": str(self.project.root), "state": str(self.folder)}
        return start(json, do=do, ssh=reach, **place, **facts)

    def deploy(self, **release: Any) -> None:
        """Deploy a new release, with nothing cut."""
        word = self.release(**release)
        done = self.deployer().ended()
        assert done.code == 0, done
        self.ran(word)

    def ran(self, word: int) -> None:
        """Take what runs now for what runs."""
        found = self.facts()
        assert set(found.values()) == {word}, (word, found)
        self.word, self.number = word, self.generation()
        self.kept[self.number] = word

    # ---- what is there

    def facts(self) -> dict[str, int]:
        """The word of each thing that has one; no transaction and no timer is left."""
        rows = [line.split() for line in self.sh(_FACTS).splitlines()]
        assert [len(row) for row in rows] == [2] * 9, rows
        *found, (_, current) = rows
        assert current == f"generations/{self.generation()}"
        return {name: int(number) for name, number in found}

    def generation(self) -> int:
        """The generation of the record."""
        return int(json.loads((self.home / "record").read_text())["generation"])

    def events(self, since: int = 0) -> list[dict[str, Any]]:
        """What the host has told after so many bytes."""
        with contextlib.suppress(FileNotFoundError):
            told = (self.home / "events").read_bytes()[since:]
            return [json.loads(line) for line in told.splitlines(True) if line.endswith(b"\n")]
        return []

    def told(self) -> int:
        """How many bytes the host has told."""
        with contextlib.suppress(FileNotFoundError):
            return (self.home / "events").stat().st_size
        return 0

    def closed(self, since: int, late: float = LATE) -> None:
        """Await that the transaction that began after `since` is over: by its deadline, with which
        the guard begins; a busy machine gives both their time."""
        end, due, begun = time.time() + LIMIT, 0.0, 0.0
        while True:
            with contextlib.suppress(FileNotFoundError):
                due = json.loads((self.home / "journal").read_text())["deadline"] or due
            names = [each["event"] for each in self.events(since)]
            over = {"undone", "ended"} & {*names} or "active" in names
            if over and not (self.home / "journal").exists():
                break
            begun = begun or ("guard" in names and time.time()) or 0.0
            limit = max(due, begun) + late if due else end
            assert time.time() < limit, ("still open", due, names)
            time.sleep(0.02)
        self.late.append(time.time() - due if due else 0.0)

    def reachable(self) -> bool:
        """Whether a new connection comes to the host, where it was before."""
        reach = ["ssh", "-F", str(self.up.state.ssh_config), "-o", "ConnectTimeout=5"]
        command = [*reach, str(self.up.lab.address), "true"]
        return subprocess.run(command, capture_output=True, timeout=LIMIT).returncode == 0

    # ---- what is done to it

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[Hold]:
        """Have the host program wait at a point."""
        hold = Hold(self.holds, name)
        try:
            yield hold
        finally:
            hold.close()

    @contextlib.contextmanager
    def flagged(self, name: str) -> Iterator[None]:
        """Have the host program lack something; see `holds`."""
        (self.holds / name).touch()
        try:
            yield
        finally:
            (self.holds / name).unlink()

    def cut(self, how: str) -> None:
        """Drop packets between this machine and the host."""
        rule, machine = _DROP[how], self.up.lab.machine
        out = "" if how == "new" else f"add rule inet cut out ip daddr {machine} {rule}"
        self.nft(
            "add table inet cut\n"
            "add chain inet cut in { type filter hook input priority -300; }\n"
            "add chain inet cut out { type filter hook output priority -300; }\n"
            f"add rule inet cut in ip saddr {machine} {rule}\n{out}"
        )

    def heal(self) -> None:
        """Drop nothing any more."""
        self.nft("add table inet cut\ndelete table inet cut")

    def count(self) -> int:
        """How many bytes ssh's packets have brought to the host; counts from the first call on."""
        found = self.sh(
            "nft list counter inet counts ssh 2>/dev/null || nft -f - <<'END'\n"
            "add table inet counts\n"
            "add counter inet counts ssh\n"
            "add chain inet counts in { type filter hook input priority 300; }\n"
            "add rule inet counts in tcp dport 22 counter name ssh\n"
            "END"
        )
        number = re.search(r"bytes (\d+)", found)
        return int(number[1]) if number else 0

    def rung(self) -> None:
        """Await that no timer of the guard waits any more: it has come to its end."""
        timers = "systemctl list-units --plain --no-legend 'phoenix-guard-*'"
        await_(lambda: not self.sh(timers), "the guard has had its turn")

    def nft(self, script: str) -> None:
        """Have the host's nftables take some lines."""
        self.sh(f"nft -f - <<'END'\n{script}\nEND")

    def kill_sshd(self) -> None:
        """Kill sshd and all that it has started for a connection but the host program itself."""
        self.sh(
            "systemctl reset-failed ssh; "
            "cat $(find /sys/fs/cgroup/system.slice/ssh.service /sys/fs/cgroup/user.slice "
            "-name cgroup.procs) | while read -r each; do "
            '[ "$(cat /proc/$each/comm)" = sshd ] && kill -9 $each; done; true'
        )
        await_(lambda: self.sh("systemctl is-active ssh || true").strip() == "active", "sshd")

    @contextlib.contextmanager
    def master(self) -> Iterator[tuple[str, ...]]:
        """A control master that is held open; ssh's options that share it."""
        path = f"/tmp/phoenix-cut-{os.getpid()}"
        shared = ("-o", f"ControlPath={path}", "-o", "ControlMaster=auto")
        command = ["ssh", "-F", str(self.up.state.ssh_config), *shared]
        command += ["-o", "ControlMaster=yes", "-N", str(self.up.lab.address)]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL) as process:
            await_(lambda: os.path.exists(path), "the master listens")
            try:
                yield shared
            finally:
                process.kill()
                Path(path).unlink(missing_ok=True)


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    """A lab's host with management on the bridge that deploys change, on which a release runs."""
    with labs.own("lab-bridged") as up:
        root = folder / "project"
        root.mkdir()
        key = keys.init(folder / "signing_key", passphrase=False)
        made = Site(up, Project(root, key), folder / "state")
        with contextlib.closing(made.inside):
            made.deploy()
            made.deploy()
            yield made
