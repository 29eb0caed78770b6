"""Whose releases a host shall take: the key that signed the one at hand.

An SSH signature holds the public key it was made with (OpenSSH, PROTOCOL.sshsig), so the line for
the host needs no key file here: CI may sign, and another machine deploy.
"""

from __future__ import annotations

import base64
import binascii
import hashlib

from builder import keys
from builder.problems import UserError

_MAGIC = b"SSHSIG\0\0\0\1"


def line(signature: bytes, identity: str) -> str:
    """The line of allowed signers for the key of an armored signature; UserError for none."""
    try:
        body = base64.b64decode(b"".join(signature.strip().splitlines()[1:-1]), validate=True)
        if not body.startswith(_MAGIC):
            raise ValueError
        blob = _string(body, len(_MAGIC))
        kind = _string(blob, 0).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise UserError("the release's signature is damaged", "./invoke build") from error
    return keys.allowed(f"{kind} {base64.b64encode(blob).decode()}", identity)


def fingerprint(signer: str) -> str:
    """How ssh-keygen -l shows the key of a line of allowed signers."""
    kind, blob = signer.split()[-2:]
    found = base64.b64encode(hashlib.sha256(base64.b64decode(blob)).digest()).decode().rstrip("=")
    return f"{kind} SHA256:{found}"


def _string(data: bytes, at: int) -> bytes:
    length = int.from_bytes(data[at : at + 4], "big")
    found = data[at + 4 : at + 4 + length]
    if len(found) != length:
        raise ValueError
    return found
