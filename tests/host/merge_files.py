"""Generated files of each kind that is merged, and what they mean, read by other code than ours."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Key = tuple[bytes, ...]
Meaning = dict[Key, Any]
Files = st.SearchStrategy[bytes]
BARE_LO: frozenset[Key] = frozenset({(b"if", b"lo")})


@dataclass(frozen=True)
class Case:
    """What stands there, and two releases."""

    base: bytes
    owned: bytes
    other: bytes


@dataclass(frozen=True)
class Kind:
    """`means`: values by key; `add` is an edit by hand, `added` whether it is there; `state`: keys
    that are the guest's, given the base's meaning; `lived` is what its life adds to its file."""

    name: str
    how: str
    bases: Files
    releases: Files
    means: Callable[[bytes], Meaning]
    add: Callable[[bytes], bytes]
    added: Callable[[bytes], bool]
    state: Callable[[Meaning], set[Key]] = lambda _: set()
    lived: bytes = b""

    def taken(self, owned: Meaning, was: Meaning) -> set[Key]:
        """The keys of the base that a release replaces."""
        return owned.keys() - (BARE_LO & was.keys())


def cases(kind: Kind) -> st.SearchStrategy[Case]:
    return st.builds(Case, kind.bases, kind.releases, kind.releases)


def _ended(data: bytes) -> bytes:
    return data if data.endswith(b"\n") or not data else data + b"\n"


# interfaces: as ifupdown2 reads it (networkinterfaces.py, process_interfaces).
def interfaces_mean(data: bytes) -> Meaning:
    found: Meaning = {}
    inside: list[bytes] | None = None
    for line in b" ".join(part.strip() for part in data.split(b"\\")).split(b"\n"):
        words = line.split()
        if not words:
            continue
        if words[0].startswith(b"#"):
            found.setdefault((b"#", b" ".join(words)), [0])[0] += 1
        elif words[0] == b"auto" or words[0].startswith(b"allow-"):
            inside = None
            for name in words[1:]:
                found.setdefault((b"if", name), []).append([words[0]])
        elif words[0] in {b"iface", b"mapping", b"source", b"source-directory"}:
            key = (b"if", *words[1:2]) if words[0] == b"iface" else tuple(words)
            inside = [b" ".join(words)]
            found.setdefault(key, []).append(inside)
        elif inside is not None:
            inside.append(b" ".join(words))
    return found


_OWN = ["eno1", "vmbr0", "vmbr1", "eno2"]
_NAMES = [*_OWN, "bond0", "vmbr0.5", "eno3", "vmbr9"]
_OPTIONS = [
    "\taddress 10.0.{0}.1/24", "    gateway 10.0.{0}.254", "\tbridge-ports none", "\tmtu 1500",
    "\tup ip route add 10.{0}.0.0/16 \\\n\t\tvia 10.0.0.9", "\tbridge-fd 0", "\n\tbridge-stp off",
    "#GUI's word {0}", "\n# apart {0}\n",
]  # fmt: skip


@st.composite
def _stanza(draw: Any, name: str, ours: bool) -> str:
    auto = draw(st.sampled_from(["auto {}\n", "", "allow-hotplug {}\n"][: 2 if ours else 3]))
    families = draw(st.sampled_from([["inet"], ["inet6"], ["inet", "inet6"], ["inet", "inet"]]))
    text = auto.format(name)
    for family in families:
        number = draw(st.integers(0, 250))
        options = draw(st.lists(st.sampled_from(_OPTIONS[: 4 if ours else 9]), max_size=4))
        text += f"iface {name} {family} static\n"
        text += "".join(f"{option.format(number)}\n" for option in options)
        text += draw(
            st.sampled_from(["\n", "" if not ours else "\n", "\n\n" if not ours else "\n"])
        )
    return text


@st.composite
def interfaces_base(draw: Any) -> bytes:
    parts = [
        "auto lo\niface lo inet loopback\n" + draw(st.sampled_from(["", "\taddress 9.9.9.9\n"]))
    ]
    parts = draw(st.sampled_from([parts, [], ["# nothing but comments\n"]]))
    for name in draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=6)):
        parts.append(draw(_stanza(name, False)))
    together = draw(st.lists(st.sampled_from(_NAMES), unique=True, max_size=4))
    extra = [
        f"auto {' '.join(together)}\n" if together else "", "# a word\n", "source /etc/x/*\n",
        "source /etc/network/interfaces.d/*\n", "\n", "mapping eno*\n\tscript /bin/x\n\tmap y\n",
        "# goes on \\\n  here\n", "source-directory /etc/y\n",
    ]  # fmt: skip
    for each in draw(st.lists(st.sampled_from(extra), unique=True, max_size=4)):
        parts.insert(draw(st.integers(0, len(parts))), each)
    text = "".join(parts).encode()
    return text.rstrip(b"\n") if draw(st.booleans()) else text


@st.composite
def interfaces_release(draw: Any) -> bytes:
    names = draw(st.lists(st.sampled_from(_OWN), unique=True, max_size=3))
    stanzas = [draw(_stanza(name, True)) for name in names]
    end = draw(st.sampled_from(["source /etc/network/interfaces.d/*\n", ""]))
    return f"auto lo\niface lo inet loopback\n\n{''.join(stanzas)}{end}".encode()


def interfaces_add(data: bytes) -> bytes:
    front = b"auto by9\n# by hand\niface by9 inet static\n\taddress 9.9.9.9/24\n\n"
    return front + _ended(data) + b"#GUI by hand\n\nsource /by/hand\n"


def interfaces_added(data: bytes) -> bool:
    held = interfaces_mean(data)
    stanza = [[b"auto"], [b"iface by9 inet static", b"address 9.9.9.9/24"]]
    return held.get((b"if", b"by9")) == stanza and {
        (b"#", b"# by hand"), (b"#", b"#GUI by hand"), (b"source", b"/by/hand")
    } <= held.keys()  # fmt: skip


# A guest's configuration.
_SEVERAL = {b"lxc.include", b"lxc.environment", b"lxc.cgroup2.devices.allow", b"lxc.cap.drop"}
_STATES = [
    b"rootfs", b"lock", b"parent", b"template", b"unprivileged", b"arch", b"ostype", b"unused0",
    b"mp0", b"mp1", b"lxc.idmap", b"lxc.arch", b"lxc.rootfs.path",
]  # fmt: skip


def conf_means(data: bytes) -> Meaning:
    found: Meaning = {}
    section, pve = b"", re.search(rb"^[a-z]+\d*:", data, re.MULTILINE)
    for raw in data.split(b"\n"):
        line = raw.strip()
        if pve and re.fullmatch(rb"\[.+\]", line):
            section = line
        if section and line:
            found.setdefault((b"[", section), []).append(line)
        elif line.startswith(b"#"):
            found.setdefault((b"#", line), []).append(line)
        elif match := re.match(rb"([a-z][\w.]*)\s*[:=]\s*(.*)", line):
            name, value = match.groups()
            key: Key = (name, value) if name in _SEVERAL else (name,)
            if name == b"lxc.mount.entry":
                key = (name, (value.split()[1:2] or [value])[0])
            if name.startswith(b"lxc.net."):
                key, value = (b".".join(name.split(b".")[:3]),), name + b"=" + value
            found.setdefault(key, []).append(value)
    return found


def conf_state(was: Meaning) -> set[Key]:
    rooted = (b"rootfs",) in was or (b"lxc.rootfs.path",) in was
    return {(name,) for name in _STATES} if rooted else set()


_PVE = [
    "cores: {0}", "memory: {0}", "hostname: h{0}", "onboot: 1", "tags: a;{0}", "swap: 0",
    "net0: name=eth0,bridge=vmbr0,hwaddr=02:00:00:00:00:0{0},ip=10.0.0.{0}/24,type=veth",
    "nameserver: 9.9.9.{0}", "features: nesting=1", "dev0: /dev/x{0},mode=0666",
    "startup: order={0}", "net1: name=eth1,bridge=vmbr1,hwaddr=02:00:00:00:01:0{0},type=veth",
]  # fmt: skip
_PVE_THEIRS = [
    "mp0: local:101/disk-{0}.raw,mp=/a,size=8G", "mp1: /srv/{0},mp=/b", "unused0: local:x{0}",
    "lock: backup", "parent: snap{0}", "#%C3%A4 note {0}%3A", "# another", "not understood", "",
    "lxc.apparmor.profile: unconfined", "lxc.mount.entry: /theirs/{0} theirs none bind 0 0",
    "template: 1", "lxc.cgroup2.devices.allow: c 1:{0} rwm", "ostype: alpine", "protection: 0",
]  # fmt: skip
_PVE_RAW = [
    "lxc.mount.entry: /var/lib/phoenix/{0} opt/phoenix none bind,ro,create=dir 0 0",
    "lxc.mount.entry: /srv/models {0} none bind 0 0",
]


@st.composite
def _lines(draw: Any, choices: list[str]) -> list[str]:
    """Some of the choices, each once, with a number drawn."""
    chosen = draw(st.lists(st.sampled_from(choices), unique=True, max_size=8))
    return [each.format(draw(st.integers(1, 9))) for each in chosen]


@st.composite
def pve_base(draw: Any) -> bytes:
    lines = draw(_lines([*_PVE, *_PVE_THEIRS, *_PVE_RAW]))
    lines.insert(
        draw(st.integers(0, len(lines))), f"rootfs: local:{draw(st.integers(1, 9))},size=8G"
    )
    sections = ["", "\n[pve:pending]\ncores: 7\n", "\n[snap1]\n#then\nrootfs: old\nsnaptime: 1\n"]
    chosen = draw(st.lists(st.sampled_from(sections), unique=True))
    return ("\n".join(lines) + "\n" + "".join(chosen)).encode()


@st.composite
def pve_release(draw: Any) -> bytes:
    lines = ["arch: amd64", *sorted(draw(_lines(_PVE))), "ostype: debian", "unprivileged: 1"]
    note = draw(st.sampled_from([[], ["#The gateway%3A ours"]]))
    return ("\n".join([*note, *lines, *draw(_lines(_PVE_RAW))]) + "\n").encode()


_SNAPSHOT = b"\n[by9]\nrootfs: kept\n"


def pve_add(data: bytes) -> bytes:
    return b"#by hand\nhookscript: local:snippets/by\n" + _ended(data) + _SNAPSHOT


def pve_added(data: bytes) -> bool:
    wanted = {(b"#", b"#by hand"), (b"hookscript",), (b"[", b"[by9]")}
    return wanted <= conf_means(data).keys() and _SNAPSHOT in data


_LXC = [
    "lxc.uts.name = h{0}", "lxc.start.auto = 1", "lxc.start.order = {0}",
    "lxc.apparmor.profile = a{0}", "lxc.include = /usr/share/lxc/config/common.conf",
    "lxc.environment = A={0}",
    "lxc.net.0.type = veth\nlxc.net.0.link = vmbr{0}\nlxc.net.0.hwaddr = 02:00:00:00:00:0{0}",
    "lxc.mount.entry = /var/lib/phoenix/{0} opt/phoenix none bind,ro,create=dir 0 0",
    "lxc.cgroup2.memory.max = {0}", "lxc.cgroup2.devices.allow = c 195:{0} rwm",
]  # fmt: skip
_LXC_THEIRS = [
    "lxc.cap.drop = mknod{0}", "# note {0}", "", "lxc.net.1.type = veth\nlxc.net.1.link = br{0}",
    "lxc.signal.halt = SIGPWR", "not understood", "lxc.include = /etc/theirs{0}",
    "  lxc.tty.max = {0}", "lxc.net.0.type = macvlan\nlxc.net.0.macvlan.mode = bridge",
    "lxc.mount.entry = /t{0} t none bind",
]  # fmt: skip
_LXC_STATE = ["lxc.idmap = u 0 {0}00000 65536\nlxc.idmap = g 0 {0}00000 65536", "lxc.arch = amd64"]
_LXC_ROOT = "lxc.rootfs.path = dir:/var/lib/lxc/{0}/rootfs"


@st.composite
def lxc_base(draw: Any) -> bytes:
    lines = draw(_lines([*_LXC[:6], *_LXC[7:], *_LXC_THEIRS, *_LXC_STATE]))
    lines.insert(draw(st.integers(0, len(lines))), _LXC_ROOT.format(draw(st.integers(1, 9))))
    return ("\n".join(lines) + draw(st.sampled_from(["\n", ""]))).encode()


@st.composite
def lxc_release(draw: Any) -> bytes:
    lines = [*draw(_lines(_LXC)), _LXC_STATE[0].format(1), _LXC_STATE[1], _LXC_ROOT.format(7)]
    return ("\n".join(lines) + "\n").encode()


def lxc_add(data: bytes) -> bytes:
    front = b"# by hand\nlxc.environment = BY=hand\nlxc.mount.entry = /by hand none bind 0 0\n"
    return front + _ended(data) + b"lxc.signal.stop = SIGTERM\n"


def lxc_added(data: bytes) -> bool:
    return {
        (b"#", b"# by hand"), (b"lxc.environment", b"BY=hand"), (b"lxc.mount.entry", b"hand"),
        (b"lxc.signal.stop",),
    } <= conf_means(data).keys()  # fmt: skip


# A guest's firewall.
def fw_means(data: bytes) -> Meaning:
    found: Meaning = {}
    section = b""
    for line in map(bytes.strip, data.split(b"\n")):
        if line.startswith(b"#"):
            found.setdefault((b"#", line), []).append(line)
        elif head := re.fullmatch(
            rb"\[((?:options|rules|aliases|(?:ipset|group) [^\]\s]+))\]\s*(?:#.*)?", line.lower()
        ):
            section = head.group(1)
            if section != b"options":
                found.setdefault((section,), [])
        elif line and section == b"options":
            name, _, value = line.partition(b":")
            found.setdefault((section, name.strip().lower()), []).append(value.strip())
        elif line:
            found.setdefault((section,), []).append(line)
    return found


_RULES = [
    "IN ACCEPT -source 10.0.0.{0} -p tcp -dport 80 # web", "IN Ping(ACCEPT)", "|OUT DROP -p udp",
    "OUT ACCEPT -dest 10.0.0.{0}",
]  # fmt: skip
_FW_OPTIONS = ["enable: {0}", "dhcp: 0", "policy_in: DROP", "ndp: {0}", "macfilter: 1"]
_FW_THEIRS = ["log_level_in: info{0}", "Enable: 0", "# note {0}", "", "log_level_out: nolog"]


@st.composite
def _fw(draw: Any, ours: bool) -> bytes:
    more = [] if ours else _FW_THEIRS
    sections = [("[OPTIONS]", draw(_lines([*_FW_OPTIONS, *more[:1], *more[2:]])))]
    sections.append(("[RULES]" if ours else draw(st.sampled_from(["[RULES]", "[rules]"])),
                     draw(_lines([*_RULES, *more[2:4]]))))  # fmt: skip
    for name in draw(st.lists(st.sampled_from(["ipfilter-net0", "theirs", "x"][: 1 if ours else 3]),
                              unique=True)):  # fmt: skip
        sections.append((f"[IPSET {name}]", draw(_lines(["10.0.0.{0}", "10.1.{0}.0/24"]))))
    if not ours and draw(st.booleans()):
        sections.append(("[ALIASES]", ["gw 10.0.0.1"]))
    chosen = [s for s in draw(st.permutations(sections)) if draw(st.integers(0, 5))]
    text = "".join(f"{head}\n\n" + "".join(f"{b}\n" for b in body) + "\n" for head, body in chosen)
    return text.encode()


def fw_add(data: bytes) -> bytes:
    front = b"# by hand\n[OPTIONS]\n\nlog_ratelimit: by\n\n"
    return front + _ended(data) + b"\n[IPSET by9]\n\n9.9.9.9\n"


def fw_added(data: bytes) -> bool:
    held = fw_means(data)
    return (
        (b"#", b"# by hand") in held
        and held.get((b"options", b"log_ratelimit")) == [b"by"]
        and held.get((b"ipset by9",)) == [b"9.9.9.9"]
    )


KINDS = [
    Kind("interfaces", "interfaces", interfaces_base(), interfaces_release(), interfaces_mean,
         interfaces_add, interfaces_added),
    Kind("pve", "lxc-conf", pve_base(), pve_release(), conf_means, pve_add, pve_added, conf_state,
         b"\n[since]\n#a snapshot\nrootfs: then\n"),
    Kind("liblxc", "lxc-conf", lxc_base(), lxc_release(), conf_means, lxc_add, lxc_added,
         conf_state, b"\n# lives on\n"),
    Kind("firewall", "firewall", _fw(False), _fw(True), fw_means, fw_add, fw_added),
]  # fmt: skip
