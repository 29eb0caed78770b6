#!/usr/bin/python3 -IS
"""A stand-in for `pct`, `pvesm`, `lxc-info` and `lxc-attach`, by the name it is started under:
strict where the real ones are (pve-container, src/PVE/CLI/pct.pm, src/PVE/API2/LXC*), with PVE's
own lock and way to write. A refusal exits with 255, as Perl's exit(-1) does.

A file /run/pct/die-in-create ends `pct create` after it has taken the number: a power cut there.
/run/pct/VERB.sh and VERB.after.sh run before and after `pct VERB`: what happens at that moment;
their argument is the number of the process that called it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import guests
import nnn
from nnn import Conf, Section

PVE = Path("/etc/pve")
STORAGES = {"local": Path("/var/lib/vz"), "local-lvm": Path("/var/lib/pct-volumes")}
HERE = guests.guests()


class DieError(Exception):
    """What Perl's die is."""


def die(text: str) -> DieError:
    return DieError(text)


# Files and locks.


def config(number: int) -> Path:
    return PVE / "lxc" / f"{number}.conf"


def load(number: int) -> Conf:
    try:
        data = config(number).read_bytes()
    except OSError:
        node = os.readlink(PVE / "local").removeprefix("nodes/")
        raise die(f"Configuration file 'nodes/{node}/lxc/{number}.conf' does not exist") from None
    conf = nnn.parse(data)
    for warning in conf.warnings:
        print(f"vm {number} - {warning}", file=sys.stderr)
    return conf


def save(number: int, conf: Conf) -> None:
    path = config(number)
    temporary = path.with_name(f"{path.name}.tmp.{os.getpid()}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    rest = nnn.write(conf)
    while rest:
        rest = rest[os.write(handle, rest) :]
    os.close(handle)
    os.rename(temporary, path)


@contextlib.contextmanager
def locked(number: int) -> Iterator[None]:
    name = f"/run/lock/lxc/pve-config-{number}.lock"
    os.makedirs("/run/lock/lxc", exist_ok=True)
    end = time.monotonic() + float(os.environ.get("PCT_PATIENCE", "10"))
    with open(name, "a") as stream:
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise die(f"can't lock file '{name}' - got timeout") from None
                time.sleep(0.02)
        yield


def check_lock(conf: Conf) -> None:
    if "lock" in conf.main.keys:
        raise die(f"CT is locked ({conf.main.keys['lock']})")


def check_quorum() -> None:
    if not os.lstat(PVE / "local").st_mode & 0o200:
        raise die("cluster not ready - no quorum?")


# Commands.


def listed(_arguments: list[str]) -> None:
    print(f"{'VMID':<10} {'Status':<10} {'Lock':<12} {'Name':<20}")
    names = (path.name for path in sorted((PVE / "lxc").iterdir()))
    for number in sorted(int(n[:-5]) for n in names if re.fullmatch(r"[1-9]\d*\.conf", n)):
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


def volume(number: int, given: str) -> str:
    """The volume that STORAGE:SIZE asks for, made."""
    match = re.fullmatch(r"([a-z][a-z0-9.-]*):(\d+)(,.*)?", given)
    if not match or match[1] not in STORAGES:
        raise die(f"storage '{given.partition(':')[0]}' does not exist")
    name = f"vm-{number}-disk-0"
    (STORAGES[match[1]] / name).mkdir(parents=True)
    return f"{match[1]}:{name},size={match[2]}G"


def create(number: int, given: dict[str, str]) -> None:
    check_quorum()
    template = pvesm_path(given.pop("ostemplate"))
    if not template.is_file():
        raise die(f"volume '{template}' does not exist")
    ids = json.loads((PVE / ".vmlist").read_text())["ids"]
    if held := ids.get(str(number)):
        what = "VM" if held["type"] == "qemu" else "CT"
        raise die(f"unable to create CT {number} - {what} {number} already exists on node "
                  f"'{held['node']}'")  # fmt: skip
    for key, value in given.items():
        if fault := nnn.wrong(key, value):
            raise die(f"400 Parameter verification failed.\n{key}: {fault}")
    with locked(number):
        save(number, Conf(Section({"lock": "create"})))
        if (guests.STATE / "die-in-create").exists():
            os._exit(137)
        keys = {"hostname": f"CT{number}", "memory": "512", "swap": "512", "arch": "amd64", **given}
        keys.setdefault("ostype", "debian")
        try:
            keys["rootfs"] = volume(number, given.get("rootfs", "local:4"))
            if isinstance(HERE, guests.Liblxc):
                unpack(number, template)
            save(number, Conf(Section(keys)))
        except (DieError, OSError):
            remove_volumes(keys)
            config(number).unlink()
            raise


def unpack(number: int, template: Path) -> None:
    root = Path(f"/var/lib/lxc/{number}/rootfs")
    root.mkdir(parents=True)
    os.chown(root, 100000, 100000)
    words = [
        "lxc-usernsexec",
        "--",
        "tar",
        "--extract",
        "--numeric-owner",
        "-f",
        "-",
        "-C",
        str(root),
    ]
    with template.open("rb") as stream:
        subprocess.run(words, stdin=stream, check=True)


def remove_volumes(keys: dict[str, str]) -> None:
    for key, value in keys.items():
        storage, _, name = value.partition(",")[0].partition(":")
        if (key == "rootfs" or key.startswith(("mp", "unused"))) and storage in STORAGES:
            shutil.rmtree(STORAGES[storage] / name, ignore_errors=True)


def destroy(number: int, _given: dict[str, str]) -> None:
    with locked(number):
        conf = load(number)
        if conf.main.keys.get("protection") == "1":
            raise die(f"can't remove CT {number} - protection mode enabled")
        check_lock(conf)
        if HERE.running(number):
            raise die(f"unable to destroy CT {number} - container is running")
        check_quorum()
        remove_volumes(conf.main.keys)
        shutil.rmtree(f"/var/lib/lxc/{number}", ignore_errors=True)
        config(number).unlink()
        with contextlib.suppress(FileNotFoundError):
            (PVE / "firewall" / f"{number}.fw").unlink()


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


# Others' names.


def pvesm_path(name: str) -> Path:
    storage, colon, rest = name.partition(":")
    if not colon or storage not in STORAGES or not rest.startswith("vztmpl/"):
        raise die(f"unable to parse volume ID '{name}'")
    return STORAGES[storage] / "template/cache" / rest.removeprefix("vztmpl/")


def pvesm(arguments: list[str]) -> None:
    if len(arguments) != 2 or arguments[0] != "path":
        raise die("ERROR: unknown command")
    print(pvesm_path(arguments[1]))


def lxc_info(arguments: list[str]) -> None:
    if arguments[0] != "--name" or arguments[2:] != ["--pid", "--no-humanize"]:
        raise die(f"lxc-info: unknown arguments {arguments}")
    if not HERE.running(int(arguments[1])):
        raise die("")
    print(HERE.process(int(arguments[1])))


def attach(number: int, command: list[str]) -> None:
    """What a guest that is only stood in for answers: its own system runs, and nothing fails."""
    if not HERE.running(number):
        sys.exit(1)
    with (guests.STATE / "inside.log").open("a") as log:
        log.write(json.dumps([number, *command]) + "\n")
    script = guests.STATE / "inside.sh"
    if script.exists():
        os.execv("/bin/sh", ["sh", str(script), str(number), *command])
    if command[:2] == ["systemctl", "is-system-running"]:
        print("running")


def lxc_attach(arguments: list[str]) -> None:
    if arguments[0] != "--name" or arguments[2:4] != ["--clear-env", "--"]:
        raise die(f"lxc-attach: unknown arguments {arguments}")
    attach(int(arguments[1]), arguments[4:])


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
        attach(number, command)
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
    calls = {"pct": pct, "pvesm": pvesm, "lxc-info": lxc_info, "lxc-attach": lxc_attach}
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
