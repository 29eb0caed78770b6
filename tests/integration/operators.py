"""A guest that an operator made who knows nothing of us."""

from __future__ import annotations

from tests.integration.handle import Handle

_PROGRAM = """\
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Answer).serve_forever()
"""
_UNIT = """\
[Service]
ExecStart=/usr/bin/python3 -I /srv/chat.py
[Install]
WantedBy=multi-user.target
"""
_ITS_OWN = ("lxc.rootfs", "lxc.uts", "lxc.net", "lxc.init", "lxc.signal")


def make(made: Handle, number: int, address: str, gateway: str) -> None:
    """Make it, with a program that answers on loopback."""
    home = made.up.state.volume("lxc") / str(number)
    home.mkdir(mode=0o755)
    conf = made.lab.foreign()[0].config()
    lines = [line for line in conf.splitlines() if not line.startswith(_ITS_OWN)]
    rootfs = f"/var/lib/lxc/{number}/rootfs"
    bridge = "vmbr0" if made.bridged else "vmbr9"
    lines += [
        "# by hand, see the wiki",
        f"lxc.rootfs.path = dir:{rootfs}",
        f"lxc.uts.name = own-{number}",
        "lxc.net.0.type = veth",
        f"lxc.net.0.link = {bridge}",
        "lxc.net.0.flags = up",
        "lxc.net.0.name = eth0",
        f"lxc.net.0.ipv4.address = {address}",
        f"lxc.net.0.ipv4.gateway = {gateway}",
    ]
    (home / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    template = "/var/lib/phoenix/templates/debian-12.tar"
    made.sh(
        f"mkdir -p {rootfs} && chown 100000:100000 {rootfs} && "
        f"lxc-usernsexec -- tar --extract --numeric-owner --xattrs -C {rootfs} -f - <{template}"
    )
    inside = home / "rootfs"
    (inside / "srv/chat.py").write_text(_PROGRAM, encoding="utf-8")
    (inside / "etc/systemd/system/chat.service").write_text(_UNIT, encoding="utf-8")
    wants = inside / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "chat.service").symlink_to("/etc/systemd/system/chat.service")
    made.run("lxc-start", "--name", str(number), "--daemon")
