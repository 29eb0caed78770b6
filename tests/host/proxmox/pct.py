#!/usr/bin/python3 -IS
"""A stand-in for `pct`, `pvesm`, `pvesh`, `lxc-info` and `lxc-attach`, by its name at start:
strict where the real ones are (pve-container, src/PVE/CLI/pct.pm, src/PVE/API2/LXC*), with PVE's
own lock and way to write. A refusal exits with 255, as Perl's exit(-1) does.

A file /run/pct/die-in-create ends `pct create` after it has taken the number: a power cut there.
/run/pct/VERB.sh and VERB.after.sh run before and after `pct VERB`: what happens at that moment;
their argument is the number of the process that called it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import guests
import kin
import nnn
from base import HERE, DieError, check_lock, check_quorum, die, load, locked, numbers, save
from made import create, destroy
from nnn import Conf, Section

# Commands.


def listed(_arguments: list[str]) -> None:
    print(f"{'VMID':<10} {'Status':<10} {'Lock':<12} {'Name':<20}")
    for number in numbers():
        keys = load(number).main.keys
        status = "running" if HERE.running(number) else "stopped"
        name = keys.get("hostname", f"CT{number}")
        print(f"{number:<10} {status:<10} {keys.get('lock', ''):<12} {name:<20}")


def status(number: int, _given: dict[str, str]) -> None:
    load(number)
    print(f"status: {'running' if HERE.running(number) else 'stopped'}")


def shown(number: int, given: dict[str, str]) -> None:
    conf = load(number)
    pending = conf.pending if conf.pending and given.get("current", "0") != "1" else Section()
    keys = {**conf.main.keys, **{k: v for k, v in pending.keys.items() if k != "delete"}}
    for key in pending.keys.get("delete", "").split(","):
        keys.pop(key, None)
    for key in sorted(keys):
        print(f"{key}: {keys[key]}")
    for key, value in conf.main.raw:
        print(f"{key}: {value}")


def pending(number: int, _given: dict[str, str]) -> None:
    conf = load(number)
    waiting = conf.pending.keys if conf.pending else {}
    for key in sorted(conf.main.keys):
        print(f"cur {key}: {conf.main.keys[key]}")
    for key in sorted(waiting):
        print(f"pending {key}: {waiting[key]}")


def start(number: int, _given: dict[str, str]) -> None:
    if HERE.running(number):
        raise die(f"CT {number} already running")
    check_quorum()
    with locked(number):
        conf = load(number)
        if conf.main.keys.get("template") == "1":
            raise die("you can't start a CT if it's a template")
        check_lock(conf)
        for key in ("arch", "ostype", "rootfs"):
            if key not in conf.main.keys:
                raise die(f"missing '{key}'")
        _sources(conf)
        for key, value in conf.main.keys.items():
            if key.startswith("net"):
                link(value)
        if conf.pending is not None:
            conf = applied(conf)
            save(number, conf)
        HERE.start(number, conf)


def _sources(conf: Conf) -> None:
    """A mount whose source is not there fails a start, and a symbolic link in the path of a mpN."""
    for key, value in conf.main.raw:
        source = value.split()[0] if value else ""
        if key == "lxc.mount.entry" and source.startswith("/") and not os.path.exists(source):
            raise die(f"Failed to mount '{source}': No such file or directory")
    for key, value in conf.main.keys.items():
        source = value.partition(",")[0]
        if re.fullmatch(r"mp\d+", key) and source.startswith("/"):
            if os.path.realpath(source) != source:
                raise die(f"{source}: symbolic links are not allowed in a bind mount's path")
            if not os.path.isdir(source):
                raise die(f"directory '{source}' does not exist")


def applied(conf: Conf) -> Conf:
    waiting = dict(conf.pending.keys) if conf.pending else {}
    for key in waiting.pop("delete", "").split(","):
        conf.main.keys.pop(key.lstrip("!"), None)
    conf.main.keys.update(waiting)
    conf.pending = None
    return conf


def running(number: int) -> Conf:
    conf = load(number)
    if not HERE.running(number):
        raise die(f"CT {number} not running")
    check_lock(conf)
    return conf


def stop(number: int, _given: dict[str, str]) -> None:
    with locked(number):
        running(number)
        HERE.stop(number)


def shutdown(number: int, given: dict[str, str]) -> None:
    with locked(number):
        running(number)
        seconds = min(float(given.get("timeout", "60")), float(os.environ.get("PCT_SLOW", "60")))
        if not HERE.shutdown(number, seconds):
            if given.get("forceStop") != "1":
                raise die(f"command 'lxc-stop -n {number} --nokill' failed: exit code 1")
            HERE.stop(number)


def reboot(number: int, given: dict[str, str]) -> None:
    shutdown(number, given)
    start(number, {})


def unlock(number: int, _given: dict[str, str]) -> None:
    with locked(number):
        conf = load(number)
        conf.main.keys.pop("lock", None)
        save(number, conf)


def set_(number: int, given: dict[str, str]) -> None:
    gone = [key for key in re.split(r"[,; ]+", given.pop("delete", "")) if key]
    if not given and not gone:
        raise die("no options specified")
    for key, value in given.items():
        if fault := nnn.wrong(key, value):
            raise die(f"400 Parameter verification failed.\n{key}: {fault}")
    with locked(number):
        conf = load(number)
        check_lock(conf)
        for key in gone:
            if not nnn.known(key):
                raise die(f"400 Parameter verification failed.\ndelete: unknown option '{key}'")
        if HERE.running(number):
            hotplug(number, conf, given, gone)
        else:
            conf.main.keys.update(given)
            for key in gone:
                conf.main.keys.pop(key, None)
        save(number, conf)


def hotplug(number: int, conf: Conf, given: dict[str, str], gone: list[str]) -> None:
    """What a running guest takes is written and taken, the rest waits. What the file says already
    is nothing new, whatever runs."""
    keys, waiting = conf.main.keys, conf.pending or Section()
    for key in gone:
        if key not in keys:
            continue
        if key in nnn.HOT_GONE or re.fullmatch(r"net\d+", key):
            del keys[key]
            HERE.take(number, key, None)
        else:
            waiting.keys["delete"] = ",".join([*filter(None, [waiting.keys.get("delete")]), key])
    for key, value in given.items():
        if keys.get(key) == value:
            continue
        fresh = key not in keys and re.fullmatch(r"(mp|dev)\d+", key)
        if key.startswith("net"):
            link(value)
        if key in nnn.HOT or fresh or re.fullmatch(r"net\d+", key):
            keys[key] = value
            HERE.take(number, key, value)
        else:
            waiting.keys[key] = value
    conf.pending = waiting if waiting.keys else None


def link(value: str) -> None:
    bridge = dict(part.partition("=")[::2] for part in value.split(",")).get("bridge")
    if bridge and not os.path.isdir(f"/sys/class/net/{bridge}"):
        raise die(f"bridge '{bridge}' does not exist")


# The command line.

Command = Callable[[int, dict[str, str]], None]
COMMANDS: dict[str, tuple[Command, set[str]]] = {
    "status": (status, {"verbose"}),
    "config": (shown, {"current", "snapshot"}),
    "pending": (pending, set()),
    "create": (create, {"ostemplate", "password", "storage", "start", "force", "unique"}),
    "destroy": (destroy, {"force", "purge", "destroy-unreferenced-disks"}),
    "start": (start, {"skiplock", "debug"}),
    "stop": (stop, {"skiplock", "overrule-shutdown"}),
    "shutdown": (shutdown, {"timeout", "forceStop"}),
    "reboot": (reboot, {"timeout"}),
    "unlock": (unlock, set()),
    "set": (set_, {"delete", "digest", "revert"}),
}
_READONLY = {"lock", "parent", "snaptime", "snapstate"}


def options(verb: str, words: list[str], legal: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    words = list(words)
    while words:
        word = words.pop(0)
        match = re.fullmatch(r"--?([A-Za-z][\w-]*)(?:=(.*))?", word)
        if not match:
            raise die(f"400 too many arguments\npct {verb} <vmid> [OPTIONS]")
        key = match[1]
        known = verb in ("create", "set") and nnn.known(key) and key not in _READONLY
        if key not in legal and not known:
            raise die(f"Unknown option: {key}\n400 unable to parse option\npct {verb} <vmid>")
        if match[2] is None and not words:
            raise die(f"Option {key} requires an argument\n400 unable to parse option")
        found[key] = match[2] if match[2] is not None else words.pop(0)
    return found


def hook(name: str) -> None:
    script = guests.STATE / f"{name}.sh"
    if script.exists():
        subprocess.run(["sh", str(script), str(os.getppid())], check=True)


def pct(arguments: list[str]) -> None:
    verb, *rest = arguments or [""]
    if verb == "list" and not rest:
        listed(rest)
        return
    if verb != "exec" and verb not in COMMANDS:
        raise die(f"ERROR: unknown command 'pct {verb}'")
    if not rest or not re.fullmatch(r"\d+", rest[0]) or not 100 <= int(rest[0]) <= 999999999:
        raise die("400 Parameter verification failed.\nvmid: type check ('integer') failed")
    number = int(rest[0])
    if verb == "exec":
        load(number)
        command = rest[2:] if rest[1:2] == ["--"] else rest[1:]
        if not command:
            raise die("missing command")
        kin.attach(number, command)
        return
    run, legal = COMMANDS[verb]
    words = rest[1:]
    hook(verb)
    given = {}
    if verb == "create":
        if not words or words[0].startswith("-"):
            raise die("400 not enough arguments\npct create <vmid> <ostemplate> [OPTIONS]")
        given = {"ostemplate": words.pop(0)}
    run(number, {**options(verb, words, legal), **given})
    hook(f"{verb}.after")


def main() -> int:
    name = Path(sys.argv[0]).name
    calls = {"pct": pct, "pvesm": kin.pvesm, "pvesh": kin.pvesh, "lxc-info": kin.lxc_info,
             "lxc-attach": kin.lxc_attach}  # fmt: skip
    guests.STATE.mkdir(exist_ok=True)
    with (guests.STATE / "calls.log").open("a") as log:
        log.write(json.dumps([name, *sys.argv[1:]]) + "\n")
    try:
        calls[name.removesuffix(".py")](sys.argv[1:])
    except DieError as error:
        print(error, file=sys.stderr)
        return 255
    except OSError as error:
        print(f"unable to open file: {error}", file=sys.stderr)
        return 255
    return 0


if __name__ == "__main__":
    sys.exit(main())
