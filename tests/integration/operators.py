"""A guest that an operator made who knows nothing of us."""

from __future__ import annotations

from tests.integration.handle import Handle

_HELLO = """\
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
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Answer).serve_forever()
"""
_UNIT = """\
[Service]
ExecStart=/usr/bin/python3 -I /srv/NAME.py
[Install]
WantedBy=multi-user.target
"""
_ITS_OWN = ("lxc.rootfs", "lxc.uts", "lxc.net", "lxc.init", "lxc.signal")


def hello(port: int) -> str:
    """A program that answers `hello` on loopback."""
    return _HELLO.replace("PORT", str(port))


def program(name: str, text: str) -> dict[str, str]:
    """The files of a program in Python and of its unit, by their paths in a guest."""
    unit = f"etc/systemd/system/{name}.service"
    return {f"srv/{name}.py": text, unit: _UNIT.replace("NAME", name)}


def wanted(name: str) -> str:
    """The shell command that has its unit run from the next start on, in a guest's root."""
    wants = "etc/systemd/system/multi-user.target.wants"
    return f"mkdir -p {wants} && ln -s ../{name}.service {wants}/{name}.service"


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
    for path, text in program("chat", hello(8000)).items():
        (inside / path).write_text(text, encoding="utf-8")
    made.sh(f"cd {rootfs} && {wanted('chat')}")
    made.run("lxc-start", "--name", str(number), "--daemon")
