"""The lab's network and containers: the host, and the LAN's router beside it."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from builder.inputs.cache import Progress
from builder.lab import packages
from builder.lab.engine import LABEL, Engine
from builder.lab.shape import ECHO, FOREIGN_ROOT, TEMPLATE, File, Lab, foreign_files
from builder.lab.state import State
from builder.problems import UserError

# Not --privileged, which asks for capabilities that a machine may lack, and gives devices.
_CAPABILITIES = (
    "AUDIT_CONTROL", "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID",
    "IPC_LOCK", "KILL", "LEASE", "MAC_ADMIN", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW",
    "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_MODULE",
    "SYS_NICE", "SYS_PTRACE", "SYS_TTY_CONFIG",
)  # fmt: skip
_HOST_OPTIONS = (
    "--security-opt=seccomp=unconfined",
    "--security-opt=apparmor=unconfined",
    "--device-cgroup-rule=a *:* rwm",
    "--cgroupns=private",
    "--tmpfs=/run:exec",
    "--tmpfs=/tmp:exec",
    # `systemctl reboot` ends the container with 129.
    "--restart=on-failure",
    "--stop-signal=SIGRTMIN+3",
)
_MODULES = Path("/lib/modules")
_BOOT, _SSH, _ECHO = 90.0, 30.0, 20.0


def network(engine: Engine, lab: Lab) -> None:
    """Make the LAN. Docker gives it no way out; let pass what the lab's own router sends on."""
    engine.run(
        "network", "create", "--internal", f"--label={LABEL}={lab.name}",
        f"--subnet={lab.network}", f"--gateway={lab.machine}", lab.docker_network,
    )  # fmt: skip
    if not engine.socket:
        # The machine's own engine drops addresses that are not the LAN's, also from port to port.
        _firewall("-I", bridge(engine, lab))


def bridge(engine: Engine, lab: Lab) -> str:
    """The LAN's interface on this machine; "" where there is no LAN."""
    found = engine.inspected(lab.docker_network)
    return f"br-{found['Id'][:12]}" if found else ""


def remove(engine: Engine, name: str) -> None:
    """Take away a lab's containers and network, as many as are there."""
    for each in engine.labelled(("ps", "--all"), name):
        engine.run("rm", "--force", "--volumes", each)
    for each in engine.labelled(("network", "ls"), name):
        if not engine.socket:
            _firewall("-D", f"br-{each[:12]}")
        engine.run("network", "rm", each)


def _firewall(verb: str, device: str) -> None:
    program = packages.program("iptables")
    if program is not None:
        rule = ["DOCKER-USER", "-i", device, "-o", device, "-j", "ACCEPT"]
        subprocess.run([program, "-w", verb, *rule], capture_output=True)


def start(engine: Engine, lab: Lab, state: State, image: str, template: Path) -> None:
    """Start router and host; both boot when this returns."""
    commands = "; ".join(lab.router_commands())
    common = [f"--label={LABEL}={lab.name}", f"--network={lab.docker_network}"]
    engine.run(
        "run", "--detach", "--init", f"--name={lab.lan}", f"--hostname={lab.name}-lan", *common,
        f"--ip={lab.router}", "--sysctl=net.ipv4.ip_forward=1", "--cap-add=NET_ADMIN",
        "--cap-add=NET_RAW", image, "sh", "-ec", f"{commands}; exec sleep infinity",
    )  # fmt: skip
    _copied(template, state.volume("phoenix") / "templates" / TEMPLATE)
    volumes = [f"--volume={state.volume(name)}:/var/lib/{name}" for name in ("lxc", "phoenix")]
    modules = [f"--volume={_MODULES}:{_MODULES}:ro"] if _MODULES.is_dir() else []
    engine.run(
        "create", f"--name={lab.host}", f"--hostname={lab.name}", *common, f"--ip={lab.address}",
        "--cap-drop=ALL", *(f"--cap-add={name}" for name in _CAPABILITIES), *_HOST_OPTIONS,
        *volumes, *modules, image, "/sbin/lab-first",
    )  # fmt: skip
    files = lab.files(state.host_key(), state.operator())
    engine.run("cp", "-", f"{lab.host}:/", given=_tar(files))
    engine.run("start", lab.host)


def boot(engine: Engine, lab: Lab, state: State, progress: Progress) -> None:
    """Wait until the host has booted and answers over ssh, then start the foreign guests."""
    progress("waiting for the host to boot")

    def booted() -> str:
        _, out, err = engine.inside(lab.host, "systemctl", "is-system-running")
        said = out.strip() or err.strip()
        return "" if said in ("running", "degraded") else said

    _await("the host does not boot", booted, _BOOT)
    _await("the host does not answer over ssh", lambda: _ssh(state), _SSH)
    guests = lab.foreign()
    if not guests:
        return
    progress(f"making {len(guests)} foreign guests")
    _foreign(engine, lab, state)
    progress("waiting for the foreign guests to answer in the LAN")
    asked = [f"{each.address}:{ECHO}" for each in guests]
    fault = "the LAN's router does not reach a foreign guest (does a firewall of this machine drop "
    fault += "what passes its bridges?)"
    _await(fault, lambda: _echo(engine, lab, asked), _ECHO)


_CLIENT = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.split(":")
    try:
        with socket.create_connection((host, int(port)), timeout=2) as link:
            link.sendall(b"x")
            assert link.recv(1) == b"x"
    except OSError as error:
        sys.exit(f"{address}: {error}")
"""


def _echo(engine: Engine, lab: Lab, addresses: list[str]) -> str:
    """ "" if each address gives back what the LAN's router sends it, else which one does not."""
    code, _, err = engine.inside(lab.lan, "python3", "-c", _CLIENT, *addresses)
    return "" if code == 0 else err.strip() or f"exit code {code}"


def _ssh(state: State) -> str:
    """ "" if the host can be reached as a person reaches it, else what ssh says."""
    command = ["ssh", "-F", str(state.ssh_config), state.lab.name, "true"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def _foreign(engine: Engine, lab: Lab, state: State) -> None:
    _must(engine, lab, f"mkdir -p {FOREIGN_ROOT} && chown 100000:100000 {FOREIGN_ROOT}")
    unpack = f"lxc-usernsexec -- tar --extract --numeric-owner --xattrs -f - -C {FOREIGN_ROOT}"
    _must(engine, lab, f"{unpack} </var/lib/phoenix/templates/{TEMPLATE}")
    _must(engine, lab, f"echo {_encoded(_tar(foreign_files()))} | base64 -d | {unpack}")
    for guest in lab.foreign():
        home = state.volume("lxc") / str(guest.number)
        home.mkdir(mode=0o755)
        (home / "config").write_text(guest.config(), encoding="utf-8")
        _must(engine, lab, f"lxc-start --name {guest.number} --daemon")


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _must(engine: Engine, lab: Lab, script: str) -> None:
    code, out, err = engine.inside(lab.host, "sh", "-c", script)
    if code != 0:
        said = (err or out).strip().splitlines() or [f"exit code {code}"]
        raise UserError(
            f"in the lab's host, a step failed: {said[-1]}", f"the step: {script[:200]}"
        )


def _await(fault: str, state: Callable[[], str], limit: float) -> None:
    """Ask `state` until it says nothing any more; UserError with its last word after `limit` s."""
    deadline = time.monotonic() + limit
    while said := state():
        if time.monotonic() > deadline:
            raise UserError(f"{fault} within {limit:.0f} s: {said}")
        time.sleep(0.1)


def _copied(source: Path, target: Path) -> None:
    # Not a link: what the host does with it must not reach the cache.
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _tar(files: Iterable[File]) -> bytes:
    """The files as a tar, each folder above them as root's own."""
    out, folders = io.BytesIO(), set[str]()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for file in files:
            for parent in reversed(Path(file.path).parents[:-1]):
                if str(parent) not in folders and str(parent) in _OWN:
                    folders.add(str(parent))
                    entry = tarfile.TarInfo(str(parent))
                    entry.type, entry.mode = tarfile.DIRTYPE, _OWN[str(parent)]
                    tar.addfile(entry)
            entry = tarfile.TarInfo(file.path)
            entry.mode, entry.size = file.mode, len(file.data)
            if file.link:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
            tar.addfile(entry, io.BytesIO(file.data))
    return out.getvalue()


_OWN = {"root/.ssh": 0o700}
"""Folders that a file brings along, with their modes; all others are Debian's."""
