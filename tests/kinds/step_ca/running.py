"""step-ca run for real on a network's files, with guests around it that order from it.

One space plays every guest: all addresses lead to it, and its names are the network's.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from builder.kinds import acme, names, step_ca
from builder.kinds.artifact import GuestFiles, Kind
from builder.network import CA_PORT, Network
from builder.tree import Entry as TreeEntry
from builder.tree import Tree
from tests.judges import http, pki
from tests.judges.guest import GENERATION, STATE, Guest
from tests.judges.namespace import Daemon, Entry, Result, Space
from tests.judges.rootfs import USERS

KEY = "/run/credentials/phoenix-step-ca.service/intermediate.key"
PASSWORD = "/run/credentials/phoenix-step-ca.service/intermediate.password"
CLIENT = "/opt/phoenix/current/bin/phoenix-acme"
# As the unit does: standalone answers need port 80, which a space lets everyone listen on.
AS_LEGO = ("setpriv", f"--reuid={USERS['lego']}", "--regid=6100", "--clear-groups")
CONFIGURATION = f"{GENERATION}/step-ca/ca.json"


def tree(kind: Kind, net: Network, guest: str) -> Tree:
    """What a kind makes for one guest."""
    found = kind.artifacts(net)
    (files,) = (a.tree for a in found if isinstance(a, GuestFiles) and a.guest == guest)
    return files


class Site:
    """The CA, and the guest `holder` that orders certificates from it."""

    def __init__(self, space: Space, net: Network, holder: str) -> None:
        self.space, self.net, self.holder = space, net, holder
        self.ca: Daemon | None = None

    def start(self) -> None:
        argv = [
            f"{GENERATION}/programs/step-ca/step-ca",
            f"--password-file={PASSWORD}",
            f"{GENERATION}/step-ca/ca.json",
        ]
        self.ca = self.space.start(argv, user=USERS["step-ca"])
        self.space.await_ports(self.ca, [CA_PORT])

    def stop(self) -> None:
        assert self.ca
        self.space.signal(self.ca, 9)
        self.space.wait(self.ca)

    def log(self) -> str:
        assert self.ca
        return self.space.log(self.ca)

    def ask(self, path: str) -> tuple[int, Any]:
        """A request to the CA's API by its own name."""
        got = http.request(
            self.space,
            str(self.net.ca.guest.address),
            CA_PORT,
            path,
            host=self.net.ca.fqdn,
            trust=pki.authority().root,
        )
        return got.status, json.loads(got.body or b"null")

    def order(self, environment: Mapping[str, str] | None = None) -> Result:
        """One run of the ACME client, as its unit runs it."""
        return self.space.run([*AS_LEGO, CLIENT], environment=environment, timeout=90)

    def list(self, lines: str) -> None:
        """Other lines for the ACME client."""
        path = f"{GENERATION}/acme/certificates"
        self.space.write([Entry(path, lines.encode())])

    def installed(self, name: str) -> tuple[bytes, bytes]:
        """Certificate and key of `name`, b"" where there is none."""
        folder = f"{STATE}/certificates/{name}"
        return tuple(  # type: ignore[return-value]
            self.space.read(f"{folder}/{file}") or b"" for file in ("certificate.pem", "key.pem")
        )


@contextlib.contextmanager
def site(
    net: Network,
    holder: str = "",
    *,
    start: bool = True,
    configuration: bytes | None = None,
    programs: tuple[str, ...] = (),
) -> Iterator[Site]:
    """The CA of `net`, and the guest `holder` (the mesh, where none is named)."""
    holder = holder or net.mesh.guest.name
    entries: list[TreeEntry] = [*tree(step_ca, net, net.ca.guest.name)]
    entries += tree(acme, net, holder)
    entries += tree(names, net, holder)
    password = b"judge\n"
    state = {
        KEY: pki.authority().intermediate_key(password.strip()),
        PASSWORD: password,
    }
    if configuration is not None:
        state[CONFIGURATION] = configuration
    guest = Guest(Tree.of(entries), state=state, programs=["step-ca", "lego", *programs])
    with Space(binds=guest.binds()) as space:
        space.own_all_addresses()
        guest.enter(space, "step-ca")
        space.folders([f"{STATE}/acme", f"{STATE}/certificates"], USERS["lego"])
        found = Site(space, net, holder)
        hosts = found.space.read(f"{GENERATION}/names/hosts") or b""
        space.write([Entry("/etc/hosts", b"127.0.0.1 localhost\n" + hosts)])
        if start:
            found.start()
        yield found
