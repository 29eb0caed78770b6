"""The ACME client: what each guest that keeps certificates orders, and the script that does it.

A certificate is ordered from the site's CA or a public directory. One that is delivered as files
is no business of this kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from builder.emit.fixed import fixed
from builder.kinds.artifact import Artifact, GuestFiles
from builder.network import CA_PORT, Certificate, Member, Network
from builder.tree import Entry, File, Tree

KIND = "acme"
_FIELD = re.compile("[!-~]+")
_HEAD = "# NAME CHALLENGE FOLDER RENEW URL EMAIL PROVIDER ROOT VARIABLES NAMES (bin/phoenix-acme)\n"


def artifacts(network: Network) -> tuple[Artifact, ...]:
    """The client of every guest that orders a certificate, in the order of the guests."""
    return tuple(
        GuestFiles(KIND, member.guest.name, Tree.of(_files(network, member)))
        for member in network.members
        if _ordered(member)
    )


def directory_url(network: Network) -> str:
    """The site's own ACME directory: of step-ca's one provisioner, `acme`."""
    return f"https://{network.ca.fqdn}:{CA_PORT}/acme/acme/directory"


def orders(network: Network, certificates: Iterable[Certificate]) -> bytes:
    """The file acme/certificates: a line for each certificate, as bin/phoenix-acme reads it."""
    return (_HEAD + "".join(_line(network, c) for c in certificates)).encode()


def _ordered(member: Member) -> tuple[Certificate, ...]:
    return tuple(c for c in member.certificates if c.files is None)


def _files(network: Network, member: Member) -> Iterable[Entry]:
    yield File("acme/certificates", orders(network, _ordered(member)))
    yield File("bin/phoenix-acme", fixed("acme/bin/phoenix-acme"), 0o755)
    # Several certificates may be from one directory.
    roots = {c.directory.name: c.directory.root for c in _ordered(member) if c.directory}
    for name, root in roots.items():
        if root:
            yield File(f"acme/{name}.crt", root.encode())


def _line(network: Network, certificate: Certificate) -> str:
    # lego names its files after the first name.
    assert certificate.names[0] == certificate.name
    directory = certificate.directory
    if directory is None:
        source = ("site", str(network.site.ca.renew), directory_url(network))
        account = (f"acme@{network.site.domain}", "-", "trust/root.crt", "-")
    else:
        source = (f"public/{directory.name}", "0", directory.url)
        account = (
            directory.email,
            directory.provider or "-",
            f"acme/{directory.name}.crt" if directory.root else "-",
            ",".join(variable for variable, _ in directory.environment) or "-",
        )
    fields = (certificate.name, certificate.challenge, *source, *account, *certificate.names)
    assert all(_FIELD.fullmatch(field) for field in fields), fields
    return " ".join(fields) + "\n"
