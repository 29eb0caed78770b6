"""Someone else at a listener's address, with a certificate of a test's choice, who answers all."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.flow.papers import Paper
from tests.integration.handle import Handle

SAID = "IMPOSTOR"
_AT = "/run/impostor"
_PORT = 31000
_PROGRAM = f"""
import http.server, os, socket, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    # Head and body in one piece: a client of a stream reads no further than the first of HTTP.
    wbufsize = -1
    def do_GET(self):
        folder = self.client_address
        with open(f"{{folder}}/asked", "a") as log:
            log.write(self.path + "\\n")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{SAID}\\n")
    do_POST = do_HEAD = do_GET
    def log_message(self, *_):
        pass
contexts = {{}}
def shown(folder):
    # One for each certificate, so that a session with it can be taken up again.
    if folder not in contexts:
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(f"{{folder}}/certificate.pem", f"{{folder}}/key.pem")
        contexts[folder] = made
    return contexts[folder]
class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6
    def finish_request(self, request, address):
        folder = os.path.realpath("{_AT}/now")
        with open(f"{{folder}}/met", "a") as log:
            log.write(address[0] + "\\n")
        try:
            with shown(folder).wrap_socket(request, server_side=True) as link:
                super().finish_request(link, folder)
        except OSError:
            pass
Server(("::", {_PORT}), Handler).serve_forever()
"""
# Before the guest's own rules, so that these decide; connections that are kept are forgotten, too.
_RULES = f"""
table inet impostor {{
    chain in {{
        type nat hook prerouting priority -150
        tcp dport PORT redirect to :{_PORT}
    }}
}}
"""
_FORGET = """
tools=/opt/phoenix/current/programs/nftables/usr
export LD_LIBRARY_PATH=$tools/lib/x86_64-linux-gnu
[ ! -e $tools/sbin/conntrack ] || $tools/sbin/conntrack -D -p tcp --orig-port-dst PORT || :
"""


@dataclass(frozen=True, slots=True)
class Impostor:
    """In a guest; it has that guest's port, for connections that begin now."""

    host: Handle
    guest: int

    def shows(self, paper: Paper) -> None:
        """Have it show this certificate, and forget who came. Who comes just now meets this one or
        the one before, and is noted with the one that was met."""
        folder = f"{_AT}/{hashlib.sha256(paper.certificate).hexdigest()}"
        files = {"certificate.pem": paper.certificate, "key.pem": paper.key}
        files |= {"asked": b"", "met": b""}
        put(self.host, self.guest, {f"{folder}/{name}": data for name, data in files.items()})
        lead = f"ln -s {folder} {_AT}/new && mv -T {_AT}/new {_AT}/now"
        self.host.guest(self.guest, "sh", "-c", lead)

    def _lines(self, name: str) -> list[str]:
        return self.host.guest(self.guest, "cat", f"{_AT}/now/{name}").splitlines()

    @property
    def asked(self) -> list[str]:
        """The paths of the requests that it was given."""
        return self._lines("asked")

    @property
    def met(self) -> list[str]:
        """From where connections came to it."""
        return self._lines("met")


@contextlib.contextmanager
def impostor(host: Handle, guest: int, port: int, paper: Paper) -> Iterator[Impostor]:
    """An impostor at a guest's port until this ends, with this certificate at first."""
    made = Impostor(host, guest)
    host.guest(guest, "mkdir", "-p", _AT)
    made.shows(paper)
    started = ["systemd-run", "--quiet", "--unit=impostor", "python3", "-I", "-c", _PROGRAM]
    host.guest(guest, *started)
    try:
        listens = f"until ss -Hltn sport = {_PORT} | grep -q .; do sleep 0.1; done"
        host.guest(guest, "timeout", "60", "sh", "-c", listens)
        rules = _RULES.replace("PORT", str(port))
        host.sh(f"{_inside(guest)} nft -f - <<'END'\n{rules}END")
        host.guest(guest, "sh", "-c", _FORGET.replace("PORT", str(port)))
        yield made
    finally:
        host.sh(f"{_inside(guest)} nft 'table inet impostor; delete table inet impostor'")
        host.guest(guest, "systemctl", "stop", "impostor")


def put(host: Handle, guest: int, files: Mapping[str, bytes]) -> None:
    """Write these files in a guest, in one go; folders that are missing are made."""
    script = "".join(
        f"mkdir -p {Path(path).parent}; echo {base64.b64encode(data).decode()} | base64 -d >{path};"
        for path, data in files.items()
    )
    host.guest(guest, "sh", "-ec", script)


def _inside(guest: int) -> str:
    """What runs the host's own programs in a guest's network."""
    return f"nsenter --net=/proc/$(lxc-info --name {guest} --pid --no-humanize)/ns/net"
