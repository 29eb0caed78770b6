"""A certificate authority in the LAN that is none of the site's: a second step-ca, with a root of
its own, which orders by http-01 like those that strangers' browsers trust."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from builder import authority
from tests.integration.handle import Handle, until
from tests.judges import programs

PORT = 9443
_HOME = "/srv/public-ca"
_YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class PublicCA:
    """It runs on the LAN's router, and finds the names that it proves at the host's uplink."""

    host: Handle
    root: bytes
    lifetime: int

    @property
    def directory(self) -> str:
        """The URL of its directory."""
        return f"https://{self.host.lab.router}:{PORT}/acme/acme/directory"

    def start(self) -> None:
        """Have it run, and await it."""
        step = f"{_HOME}/step-ca --password-file={_HOME}/password {_HOME}/ca.json"
        script = f"echo $$ >{_HOME}/pid; exec {step}"
        self.host.up.engine.run("exec", "--detach", self.host.lab.lan, "sh", "-c", script)
        url = self.directory
        ask = ("curl", "--silent", "--fail", "--cacert", f"{_HOME}/root.crt", url)
        inside = self.host.up.engine.inside
        until(lambda: inside(self.host.lab.lan, *ask)[0] == 0, "the public CA answers")

    def stop(self) -> None:
        """Have it run no more."""
        script = f"kill $(cat {_HOME}/pid)"
        self.host.up.engine.run("exec", self.host.lab.lan, "sh", "-c", script)


def public_ca(host: Handle, lifetime: int, *names: str) -> PublicCA:
    """One that signs these names for so many seconds; it does not run yet."""
    now, word = datetime.now(UTC) - timedelta(minutes=1), b"public"
    root = authority.make_root("public", word, _YEAR, now)
    opened = authority.opened(root, word)
    below = authority.make_intermediate("public", "public", opened, word, _YEAR / 2, now)
    files = {
        "root.crt": root.certificate,
        "intermediate.crt": below.certificate,
        "intermediate.key": below.key,
        "password": word,
        "ca.json": json.dumps(_configuration(host, lifetime)).encode(),
        "hosts": "".join(f"{host.address} {name}\n" for name in names).encode(),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, data in files.items():
            Path(folder, name).write_bytes(data)
        engine, lan = host.up.engine, host.lab.lan
        engine.run("exec", lan, "mkdir", "-p", _HOME)
        engine.run("cp", f"{folder}/.", f"{lan}:{_HOME}")
        engine.run("cp", str(programs.folder("step-ca") / "step-ca"), f"{lan}:{_HOME}/step-ca")
        engine.run("exec", lan, "sh", "-c", f"cat {_HOME}/hosts >>/etc/hosts")
    return PublicCA(host, root.certificate, lifetime)


def _configuration(host: Handle, lifetime: int) -> dict[str, object]:
    return {
        "root": f"{_HOME}/root.crt",
        "crt": f"{_HOME}/intermediate.crt",
        "key": f"{_HOME}/intermediate.key",
        "address": f":{PORT}",
        "dnsNames": [str(host.lab.router)],
        "logger": {"format": "json"},
        "db": {"type": "bbolt", "dataSource": f"{_HOME}/db"},
        "authority": {
            "claims": {
                "maxTLSCertDuration": f"{lifetime}s",
                "defaultTLSCertDuration": f"{lifetime}s",
            },
            "provisioners": [{"type": "ACME", "name": "acme", "challenges": ["http-01"]}],
        },
    }
