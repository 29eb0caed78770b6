"""step-ca's judge gives out certificates from a good configuration, and says no to bad ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography import x509

from builder.tree import File, Tree
from tests.judges import step_ca
from tests.judges.guest import Guest
from tests.judges.refusal import Refused

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "mmdebstrap", "unshare")]

Data = dict[str, Any]


def _good() -> Data:
    return {
        "root": "/opt/phoenix/current/trust/root.crt",
        "crt": "/opt/phoenix/current/step-ca/intermediate.crt",
        "key": "/run/credentials/step-ca.service/intermediate.key",
        "address": ":443",
        "dnsNames": ["step-ca.phoenix.internal"],
        "db": {"type": "bbolt", "dataSource": "/var/lib/phoenix/step-ca/bolt.db"},
        "logger": {"format": "json"},
        "authority": {
            "claims": {"minTLSCertDuration": "5m", "maxTLSCertDuration": "168h",
                       "defaultTLSCertDuration": "168h"},
            "policy": {"x509": {"allow": {"dns": ["a.phoenix.internal", "b.phoenix.internal"]}}},
            "provisioners": [{"type": "ACME", "name": "acme", "challenges": ["http-01"]}],
        },
    }  # fmt: skip


def _guest(conf: Data) -> Guest:
    return Guest(Tree.of([File("step-ca/ca.json", json.dumps(conf).encode())]))


def test_issue() -> None:
    outside = "evil.phoenix.internal"
    with step_ca.serve(_guest(_good()), names=[outside]) as serving:
        assert set(serving.directories()) == {"acme"}
        issued = serving.issue(["a.phoenix.internal", "b.phoenix.internal"])
        leaf, intermediate = x509.load_pem_x509_certificates(issued.chain)
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert set(names.get_values_for_type(x509.DNSName)) == {
            "a.phoenix.internal",
            "b.phoenix.internal",
        }
        lifetime = leaf.not_valid_after_utc - leaf.not_valid_before_utc
        assert timedelta(days=7) <= lifetime < timedelta(days=7, minutes=5)
        leaf.verify_directly_issued_by(intermediate)
        intermediate.verify_directly_issued_by(x509.load_pem_x509_certificate(serving.root))
        for refused in ([outside], ["a.phoenix.internal", outside]):
            with pytest.raises(Refused, match="rejectedIdentifier"):
                serving.issue(refused)


def _change(path: str, value: object) -> Callable[[Data], None]:
    def change(conf: Data) -> None:
        *folders, last = path.split(".")
        at: Any = conf
        for folder in folders:
            at = at[int(folder)] if isinstance(at, list) else at[folder]
        if value is None:
            del at[last]
        else:
            at[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_change("authority.claims.maxTLSCertDuration", "30d"), "unknown unit"),
        (_change("authority.claims.minTLSCertDuration", "200h"), "claims"),
        (_change("authority.polcy", {}), "does not know: .'polcy"),
        (_change("authority.provisioners.0.challenges", ["http-1"]), "acme: 4"),
        (_change("authority.provisioners.0.claims", {"maxTLSCertDuration": "30d"}), "acme: 4|unit"),
        (_change("crt", None), "crt cannot be empty"),
        (_change("db.type", "nosql"), "not supported"),
        (_change("db", None), "acme: 404"),
        (_change("address", "443"), "address"),
    ],
)
def test_bad(change: Callable[[Data], None], said: str) -> None:
    conf = _good()
    change(conf)
    with pytest.raises(Refused, match=said):
        step_ca.load(_guest(conf))


def test_wrong_key() -> None:
    files = Guest(_guest(_good()).tree, state={"/run/judge/password": b"another\n"})
    with pytest.raises(Refused, match=r"(?i)decrypt|password"):
        step_ca.load(files)
