"""What guests know each other by, and whom a stock client in them trusts."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import certifi
import charset_normalizer
import idna
import requests
import urllib3

from tests.flow import edge
from tests.flow.edge import CA, CHAT, GATEWAY, GUESTS, MESH, PAIR, STORE, WEB
from tests.integration.handle import Handle

_PACKAGES = (certifi, charset_normalizer, idna, requests, urllib3)
_PLACE = "/usr/local/lib/stock"
_RESOLVE = """
import json, socket, sys
names = json.loads(sys.argv[1])
found = {name: sorted({each[4][0] for each in socket.getaddrinfo(name, 443)}) for name in names}
print(json.dumps(found))
"""
WITH_HOST = """
import sys, urllib.error, urllib.request
asked = urllib.request.Request(f"https://{sys.argv[1]}/", headers={"Host": sys.argv[2]})
try:
    print(urllib.request.urlopen(asked, timeout=20).status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
_REQUESTS = f"import sys; sys.path.insert(0, '{_PLACE}'); import requests; "
_GET = "sys.stdout.write(str(requests.get(sys.argv[1], timeout=20).status_code))"
_CURL = ["curl", "--silent", "--max-time", "20", "--output", "/dev/null", "--write-out"]
# The host's Debian is the guests': its curl is theirs, with what it needs and they lack.
_CURL_TO = """
files=$(ldd /usr/bin/curl | sed -n 's/.*=> \\(\\/[^ ]*\\).*/\\1/p')
files=$(for each in $files; do echo ${each#/}; done)
tar --create --dereference --file - --directory / usr/bin/curl $files |
    lxc-attach --name GUEST --clear-env -- tar --extract --skip-old-files --directory / --file -
"""


def resolved(host: Handle) -> None:
    """Guests' names are their own addresses, internal services' the mesh's, outside names the
    gateway's; in every guest."""
    wanted = {f"{name}.phoenix.internal": sorted(edge.at(guest)) for guest, name in GUESTS.items()}
    wanted |= {name: sorted(edge.at(MESH)) for name in (PAIR, "chat.svc.phoenix.internal")}
    wanted |= {name: sorted(edge.at(GATEWAY)) for name in (CHAT, STORE)}
    for guest in GUESTS:
        words = ["python3", "-I", "-c", _RESOLVE, json.dumps(list(wanted))]
        assert json.loads(host.guest(guest, *words)) == wanted, guest


def trusted(host: Handle) -> None:
    """A stock curl, and the package `requests` as PyPI has it, verify without a flag: in a service
    of systemd, and in a login shell."""
    stock(host)
    for guest in GUESTS:
        for url in (f"https://{CHAT}/", *own_urls(guest)):
            for name, command in commands(url).items():
                for how, words in ways(command).items():
                    said = host.guest(guest, *words)
                    assert said.strip() == "200", (guest, url, name, how, said)


def not_trusted(host: Handle) -> None:
    """The same do not verify where nobody has told them of the site's root."""
    url = f"https://{CHAT}/"
    found = {name: fails(host, WEB, command) for name, command in commands(url).items()}
    # PyPI's brings roots of its own; curl's are the guest's.
    assert found == {"curl": False, "requests": True}
    units = ["phoenix-names.path", "phoenix-names.timer"]
    host.guest(WEB, "systemctl", "stop", *units)
    host.guest(WEB, "/opt/phoenix/current/bin/phoenix-names", "remove")
    try:
        assert fails(host, WEB, [*_CURL, "%{http_code}", f"https://{CHAT}/",
                                 "--resolve", f"{CHAT}:443:{edge.NET}.{GATEWAY}"])  # fmt: skip
    finally:
        host.guest(WEB, "systemctl", "start", *units)
        host.guest(WEB, "systemctl", "restart", "phoenix-names.service")
    assert not fails(host, WEB, commands(url)["curl"])


def own_urls(guest: int) -> list[str]:
    """What a guest may ask beside what all may."""
    inside = ["https://chat.svc.phoenix.internal/"] if guest > CA else []
    return [*inside, *([f"https://{PAIR}/"] if guest == WEB else [])]


def commands(url: str) -> dict[str, list[str]]:
    """Stock clients without a flag about trust; each prints the status."""
    python = ["python3", "-I", "-c", _REQUESTS + _GET, url]
    return {"curl": [*_CURL, "%{http_code}", url], "requests": python}


def ways(command: list[str]) -> dict[str, list[str]]:
    """How programs are started in a guest."""
    return {
        "service": ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", *command],
        "login shell": ["env", "-i", "sh", "-lc", '"$@"', "sh", *command],
    }


def fails(host: Handle, guest: int, command: list[str]) -> bool:
    """Whether a command fails that nothing is told but where programs lie."""
    script = 'env -i PATH="$PATH" "$@" >/dev/null 2>&1 && echo well || echo ill'
    return host.guest(guest, "sh", "-c", script, "sh", *command).strip() == "ill"


def stock(host: Handle) -> None:
    """Put curl and requests into every guest."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        for package in _PACKAGES:
            folder = Path(str(package.__file__)).parent
            tar.add(folder, f"{_PLACE[1:]}/{folder.name}")
    engine = host.up.engine
    place = "/root/stock.tar.gz"
    put = ("exec", "--interactive", host.lab.host, "sh", "-c", f"cat >{place}")
    engine.run(*put, given=data.getvalue())
    for guest in GUESTS:
        host.sh("set -e;" + _CURL_TO.replace("GUEST", str(guest)))
        into = (
            f"lxc-attach --name {guest} --clear-env -- tar --extract --gzip --directory / --file -"
        )
        host.sh(f"{into} <{place}")
