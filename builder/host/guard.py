"""What takes an unconfirmed transaction back when nobody else does: a timer, and two boot units.

The timer is the running system's, and gone after a reboot; then the boot units find the journal.
Both are durable before the first change.
"""

from __future__ import annotations

from . import commands, files
from .paths import Paths

_FOLDER = "/etc/systemd/system"
_EARLY = """\
[Unit]
Description=Take an unconfirmed transaction back, before the network
DefaultDependencies=no
ConditionPathExists=/var/lib/phoenix/journal
RequiresMountsFor=/var/lib/phoenix /etc /usr/local
After=local-fs.target systemd-remount-fs.service
Before=network-pre.target networking.service systemd-modules-load.service systemd-sysctl.service
Before=phoenix-nat.service phoenix-firewall.service sysinit.target shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/phoenix recover --early

[Install]
WantedBy=sysinit.target
"""
_LATE = """\
[Unit]
Description=Take an unconfirmed transaction back, before guests start
ConditionPathExists=/var/lib/phoenix/journal
After=network.target networking.service pve-cluster.service
Before=lxc.service pve-guests.service

[Service]
Type=oneshot
ExecStart=/usr/local/sbin/phoenix recover
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""
UNITS = {
    "phoenix-early.service": ("sysinit.target.wants", _EARLY),
    "phoenix-late.service": ("multi-user.target.wants", _LATE),
}


def install(paths: Paths) -> None:
    """Have the boot units, durably, before anything is changed that they would take back."""
    changed = False
    for name, (wants, text) in UNITS.items():
        path = paths.at(f"{_FOLDER}/{name}")
        if files.read(path) != text.encode():
            files.write(path, text.encode())
            changed = True
        wanted = paths.at(f"{_FOLDER}/{wants}/{name}")
        if files.leads(wanted) != f"../{name}":
            files.folder(wanted.parent)
            files.link(wanted, f"../{name}")
            changed = True
    if changed:
        commands.run("systemctl", "daemon-reload")


def uninstall(paths: Paths) -> None:
    """Take the boot units away."""
    for name, (wants, _) in UNITS.items():
        files.remove(paths.at(f"{_FOLDER}/{wants}/{name}"))
        files.remove(paths.at(f"{_FOLDER}/{name}"))
    commands.run("systemctl", "daemon-reload")


def arm(generation: int, stage: str, seconds: int) -> None:
    """Have the transaction taken back in so many seconds, if it is at this stage still."""
    command = (
        "systemd-run",
        f"--unit={_timer(generation, stage)}",
        f"--on-active={seconds}",
        "--timer-property=AccuracySec=100ms",
        # One that is killed begins again; what it can't take back, it can't a second time either.
        "--property=Restart=on-abnormal",
        "--collect",
        "/usr/local/sbin/phoenix",
        "guard",
        str(generation),
        stage,
    )
    if commands.status(*command)[0]:
        # One is left, of a transaction that was killed.
        disarm(generation, stage)
        commands.run(*command)


def disarm(generation: int, *stages: str) -> None:
    """End the timers; one that is not there is none to end."""
    timers = (f"{_timer(generation, stage)}.timer" for stage in stages)
    commands.run("systemctl", "stop", *timers, legal=(0, 5))


def _timer(generation: int, stage: str) -> str:
    return f"phoenix-guard-{generation}-{stage}"
