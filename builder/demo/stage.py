"""What the demo makes of the lab: its description, the programs behind the fronts, a client."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from builder import build, disk
from builder.deploy.front import Ground
from builder.lab.up import Up
from builder.load import load
from builder.model import Service
from builder.network import Network
from builder.problems import UserError

RAN = "/run/phoenix-demo"
"""The demo's own folder, in the client."""
# What a model's server looks like from outside: a health check, an answer, and tokens one by one.
_PROGRAM = """
import http.server, json, sys, time
service, guest, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path.endswith("/tokens"):
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            for token in ("one ", "token ", "at ", "a ", "time"):
                self.wfile.write(f"data: {token}\\n\\n".encode())
                self.wfile.flush()
                time.sleep(0.2)
            self.close_connection = True
            return
        body = json.dumps({"service": service, "guest": guest}).encode() + b"\\n"
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024
Server(("127.0.0.1", port), Handler).serve_forever()
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """A lab that is up, and the ground on which one deploys to it."""

    up: Up
    ground: Ground

    @property
    def host(self) -> str:
        """The host's name."""
        return self.up.lab.called

    @property
    def project(self) -> Path:
        """The lab's own project; its configs/ are the reference, as far as a lab can have it."""
        return self.up.state.project

    def tailor(self) -> None:
        """Have the description be one that works without the rest of the world: certificates from
        our own CA alone, and clients from the lab's LAN. Unchanged where it is so already."""
        site = self._site()
        site["certificates"] = {}
        for service in site["services"].values():
            limits = service.get("limits") or {}
            if "clients" in limits:
                limits["clients"] = [str(self.up.lab.network)]
        self._write(site)

    def limit(self, service: str, rate: str, burst: int) -> None:
        """Change one line of one service: how many requests a client may make."""
        site = self._site()
        site["services"][service]["limits"] = {
            **(site["services"][service].get("limits") or {}), "rate": rate, "burst": burst,
        }  # fmt: skip
        self._write(site)

    def network(self) -> Network:
        """What is declared, derived."""
        (found,) = build.derived(load(self.project, [self.host]))
        return found

    def programs(self, network: Network) -> None:
        """Have each service guest run a program for each of its services, on loopback."""
        guests = {member.guest.name: member.guest.id for member in network.members}
        for routed in network.services:
            for backend in routed.backends if routed.service.protocol == "http" else ():
                if backend.name in guests:
                    self._start(guests[backend.name], backend.name, routed.service)

    def _start(self, number: int, guest: str, service: Service) -> None:
        unit = f"demo-{service.name}"
        if self.inside(number, "systemctl", "is-active", "--quiet", unit)[0] == 0:
            return
        words = ["python3", "-I", "-c", _PROGRAM, service.name, guest, str(service.port)]
        code, _, said = self.inside(number, "systemd-run", "--quiet", f"--unit={unit}", *words)
        if code:
            raise UserError(f"the program of {unit} does not start in guest {number}: {said}")

    def inside(self, number: int, *command: str) -> tuple[int, str, str]:
        """A command's exit code, output and error output in a guest."""
        attach = ("lxc-attach", "--name", str(number), "--clear-env", "--")
        return self.up.engine.inside(self.up.lab.host, *attach, *command)

    def client(self, *command: str) -> tuple[int, str, str]:
        """The same of the client in the LAN, which has nothing of ours but the root."""
        return self.up.engine.inside(self.up.lab.lan, *command)

    def trust(self) -> None:
        """Give the client the site's root certificate, and nothing else."""
        root = disk.content(self.project / "configs/ca/root.crt") or b""
        script = f"mkdir -p {RAN} && cat >{ROOT}"
        self.up.engine.run("exec", "--interactive", self.up.lab.lan, "sh", "-c", script, given=root)

    def _site(self) -> dict[str, Any]:
        text = (self.project / "configs/site.yaml").read_text(encoding="utf-8")
        found: dict[str, Any] = yaml.safe_load(text)
        return found

    def _write(self, site: dict[str, Any]) -> None:
        if site != self._site():
            text = yaml.safe_dump(site, sort_keys=False)
            (self.project / "configs/site.yaml").write_text(text, encoding="utf-8")


ROOT = f"{RAN}/root.crt"


def shell(words: list[str]) -> str:
    """A command as one types it."""
    return shlex.join(words)
