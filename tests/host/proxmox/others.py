#!/usr/bin/python3 -IS
"""Stand-ins for what else the host program starts, by the name each is started under: what it was
given is recorded in /run/standins/calls.log, and what none of them knows is refused.

`ifreload` has the addresses of the interfaces file really stand there. A file
/run/standins/NAME.sh runs after NAME: what happens on the host at that moment.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

PLACE = Path("/run/standins")


def systemctl(words: list[str]) -> int:
    if words == ["daemon-reload"]:
        return 0
    verb, *units = words
    if verb not in ("stop", "start", "reload-or-restart", "try-restart", "kill") or not units:
        return 1
    if verb == "stop" and units[0].endswith(".timer"):
        timer = PLACE / units[0]
        if not timer.exists():
            return 5
        timer.unlink()
    return 0


def systemd_run(words: list[str]) -> int:
    given = dict(word.partition("=")[::2] for word in words if word.startswith("--"))
    if not {"--unit", "--on-active"} <= given.keys():
        return 1
    timer = PLACE / f"{given['--unit']}.timer"
    if timer.exists():
        print(f"Failed to start transient timer unit: {timer.name} exists", file=sys.stderr)
        return 1
    timer.write_text(json.dumps(words))
    return 0


def ifreload(words: list[str]) -> int:
    if words != ["-a"]:
        return 1
    name = ""
    for line in Path("/etc/network/interfaces").read_text().splitlines():
        said = line.split()
        if said[:1] == ["iface"]:
            name = said[1]
            if name != "lo":
                _ip("link", "add", name, "type", "bridge")
                _ip("address", "flush", "dev", name)
                _ip("link", "set", name, "up")
        elif said[:1] == ["address"]:
            _ip("address", "add", said[1], "dev", name)
    return 0


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=False)


def modprobe(words: list[str]) -> int:
    return int(
        words[:1] != ["--all"] or not all(re.fullmatch(r"[a-z0-9_-]+", w) for w in words[1:])
    )


def systemd_sysctl(words: list[str]) -> int:
    return int(not words or not all(Path(word).is_file() for word in words))


def main() -> int:
    name = Path(sys.argv[0]).name
    with (PLACE / "calls.log").open("a") as log:
        log.write(json.dumps([name, *sys.argv[1:]]) + "\n")
    calls = {"systemctl": systemctl, "systemd-run": systemd_run, "ifreload": ifreload,
             "modprobe": modprobe, "systemd-sysctl": systemd_sysctl}  # fmt: skip
    code = calls[name](sys.argv[1:])
    hook = PLACE / f"{name}.sh"
    return subprocess.run(["sh", hook], check=False).returncode if hook.exists() else code


if __name__ == "__main__":
    sys.exit(main())
