"""pyinfra and Ansible doing the same: the finished files of our release, onto the same host.

Both get what our build works out. What they check is every file of the configuration, but for the
programs, which would take them longest; they write what differs, and reload what reads it. They
write below a folder of their own, since our files are ours, and reload the very unit that we do.

They run from an environment of the bench's own (`peers.lock`), each as fast as it can be told:
Ansible with pipelining, without facts and over the open connection, pyinfra over its own, since it
takes no other.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from builder import manifest
from builder.dist import MANIFEST, Dist
from tests.bench.measure import Run, run

LOCK = Path(__file__).with_name("peers.lock")
UNIT = "phoenix-firewall.service"
CHANGED = "etc/phoenix/firewall.nft"
_BELOW = "/srv/peer"

_PLAYBOOK = f"""\
- hosts: all
  gather_facts: false
  vars: {{files: "{{{{ lookup('file', files_of) | from_json | dict2items }}}}"}}
  tasks:
    - copy:
        src: "tree/{{{{ item.key }}}}"
        dest: "{_BELOW}/{{{{ item.key }}}}"
        mode: "{{{{ item.value }}}}"
      loop: "{{{{ files }}}}"
      notify: reload
  handlers:
    - name: reload
      systemd_service: {{name: {UNIT}, state: reloaded}}
"""
_DEPLOY = f"""\
import json
import os

from pyinfra.operations import files, systemd

with open(os.environ["FILES_OF"]) as listed:
    held = json.load(listed)
done = [files.put(src=f"tree/{{path}}", dest=f"{_BELOW}/{{path}}", mode=mode)
        for path, mode in held.items()]
systemd.service(service="{UNIT}", reloaded=True, _if=lambda: any(d.did_change() for d in done))
"""
_ANSIBLE = """\
[defaults]
inventory = hosts
gathering = explicit
interpreter_python = /usr/bin/python3
[ssh_connection]
pipelining = True
ssh_args = -F {config}
"""


def installed(folder: Path) -> Path:
    """The peers' programs, in an environment below `folder` that is kept for the next time."""
    place = folder / f"peers-{hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]}"
    done = place / "done"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", place], check=True)
        pip = [str(place / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        options = ["--require-hashes", "--no-deps", "--only-binary=:all:", "-r", str(LOCK)]
        subprocess.run([*pip, *options], check=True)
        done.touch()
    return place / "bin"


@dataclass(frozen=True, slots=True)
class Peers:
    """Both peers, in a folder of theirs; `config` is ssh's configuration, by which `host` is
    reached over a connection that is open."""

    root: Path
    programs: Path
    dist: Dist
    host: str
    config: Path

    def prepare(self) -> None:
        """Write what they are told, and have the host hold all files as they are now."""
        self.root.mkdir()
        (self.root / "hosts").write_text(f"{self.host}\n")
        (self.root / "inventory.py").write_text(
            f'hosts = [("{self.host}", {{"ssh_config_file": "{self.config}"}})]\n'
        )
        (self.root / "ansible.cfg").write_text(_ANSIBLE.format(config=self.config))
        (self.root / "playbook.yml").write_text(_PLAYBOOK)
        (self.root / "deploy.py").write_text(_DEPLOY)
        held = self.take()
        (self.root / "one.json").write_text(json.dumps({CHANGED: "644"}))
        listed = {path: f"{mode:o}" for path, (_, mode) in held.items()}
        (self.root / "all.json").write_text(json.dumps(listed))
        unpack = f"mkdir -p {_BELOW} && tar -xf - -C {_BELOW}"
        command = ["ssh", "-F", str(self.config), self.host, unpack]
        subprocess.run(command, input=_tar(held), check=True)

    def take(self) -> Mapping[str, tuple[bytes, int]]:
        """Lay out the files of the newest release; each with its mode."""
        held = configured(self.dist, self.host)
        for path, (data, mode) in held.items():
            file = self.root / "tree" / path
            if not file.exists() or file.read_bytes() != data:
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(data)
                file.chmod(mode)
        return held

    def ansible(self, files: str) -> Run:
        """A playbook over the `files`: "all", or the "one" that changes."""
        of = f"files_of={files}.json"
        return self._changes(["ansible-playbook", "-e", of, "playbook.yml"], {})

    def pyinfra(self, files: str) -> Run:
        """The same by pyinfra."""
        command = ["pyinfra", "-y", "inventory.py", "deploy.py"]
        return self._changes(command, {"FILES_OF": f"{files}.json"})

    def _changes(self, command: list[str], named: Mapping[str, str]) -> Run:
        """Run it; as each side does, it finds one file to be another, and mends that."""
        new = (self.root / "tree" / CHANGED).read_bytes()
        assert self._there() != new, "there is nothing to be done"
        environment = {
            "PATH": f"{self.programs}:{os.environ['PATH']}",
            "HOME": str(self.root),
            "LC_ALL": "C.UTF-8",
            **named,
        }
        program = str(self.programs / command[0])
        done = run([program, *command[1:]], self.root, environment)
        assert self._there() == new, "it wrote something else"
        return done

    def _there(self) -> bytes:
        command = ["ssh", "-F", str(self.config), self.host, f"cat {_BELOW}/{CHANGED}"]
        return subprocess.run(command, capture_output=True, check=True).stdout


def configured(dist: Dist, host: str) -> Mapping[str, tuple[bytes, int]]:
    """Every file of the host's newest release but the programs', with its mode."""
    newest = dist.newest(host)
    assert newest is not None
    release = manifest.parse((newest / MANIFEST).read_bytes())
    programs = {each.digest for each in release.inputs}
    found = {t.path[1:]: (dist.read(t.content), t.mode) for t in release.targets}
    for ref in release.guests:
        for layer in manifest.parse_guest(dist.read(ref.node)).layers:
            if layer.tar.digest in programs:
                continue
            tar = dist.read(layer.tar)
            for entry in manifest.parse_index(dist.read(layer.index)).entries:
                if not entry.target:
                    data = tar[entry.offset : entry.offset + entry.size]
                    found[f"guests/{ref.id}/{entry.path}"] = (data, entry.mode)
    return found


def _tar(held: Mapping[str, tuple[bytes, int]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for path, (data, mode) in held.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), mode
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()
