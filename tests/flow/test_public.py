"""Names that strangers know: one whose certificate a public CA gives and renews, and one whose
certificate is delivered as files, beside one of the site's own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from tests.flow import certified
from tests.flow.certified import Holder, Watch
from tests.flow.public import PublicCA, public_ca
from tests.flow.stage import Flow, Running, flow
from tests.integration.handle import until
from tests.judges import pki

pytestmark = [
    pytest.mark.long(3.5),
    pytest.mark.needs("root", "apt-get", "namespaces", "ssh-keygen", "index"),
]

_PUBLIC = Holder(101, "chat.example.org", "10.0.0.101", 443, 113)
_FILES = Holder(101, "page.example.org", "10.0.0.101", 443, 113)
_SITE = Holder(101, "home.example.org", "10.0.0.101", 443, 113)
_LIFE = 150
"""Seconds; due with a third of them left, which is more than two looks of the client are apart."""
_ROOTS = {_PUBLIC: "/public.crt", _FILES: "/files.crt", _SITE: "/root.crt"}


def _described(made: PublicCA, folder: Path) -> str:
    site = certified.site("5m", "280s")
    root = "".join(f"      {line}\n" for line in made.root.decode().splitlines())
    return (
        site.replace(f"[{_PUBLIC.name}]", f"[{_PUBLIC.name}, {_FILES.name}, {_SITE.name}]")
        + "acme:\n  own:\n"
        + f"    directory: {made.directory}\n    email: admin@example.org\n    root: |\n{root}"
        + "certificates:\n"
        + f"  {_PUBLIC.name}: {{acme: own}}\n"
        + f'  {_FILES.name}: {{files: {{certificate: "file:{folder}/page.crt", '
        + f'key: "file:{folder}/page.key"}}}}\n'
    )


def test_public_and_delivered(tmp_path: Path) -> None:
    with flow(certified.site(), certified.host, deployed=False) as made:
        _deployed(made, tmp_path)
        _each_by_its_own_root(made)
        _renewed(made, 1)
        _delivered_anew(made, tmp_path)


@pytest.mark.deep
def test_public_over_and_over(tmp_path: Path) -> None:
    with flow(certified.site(), certified.host, deployed=False) as made:
        authority = _deployed(made, tmp_path)
        _renewed(made, 6)
        _not_given(made, authority)


def _deliver(folder: Path) -> x509.Certificate:
    """A new pair for the delivered name, where the description says; the leaf."""
    pair = pki.authority().issue([_FILES.name])
    (folder / "page.crt").write_bytes(pair.certificate)
    (folder / "page.key").write_bytes(pair.key)
    return x509.load_pem_x509_certificates(pair.certificate)[0]


def _deployed(made: Flow, folder: Path) -> PublicCA:
    """Deployed at once, with all three; each client has the root of one of them alone."""
    host = made.host
    authority = public_ca(host, _LIFE, _PUBLIC.name)
    authority.start()
    _deliver(folder)
    host.site.write_text(_described(authority, folder), encoding="utf-8")
    for path, data in (("/public.crt", authority.root), ("/files.crt", pki.authority().root)):
        code, said = host.client.run("sh", "-c", f"cat >{path} <<'END'\n{data.decode()}END")
        assert code == 0, said
    host.deploy()
    made.furnish()
    for holder in _ROOTS:
        until(partial(_answers, made, holder), f"{holder.name} answers", 180)
    return authority


def _words(made: Flow, holder: Holder, root: str) -> tuple[str, ...]:
    reach = f"*:443:{made.host.gateway()}"
    return "--url", f"https://{holder.name}", "--resolve", reach, "--ca", root


def _asked(made: Flow, holder: Holder, root: str = "") -> str:
    """The status that a client gets who trusts this root, by default the one that is right; or
    what it complains of."""
    words = _words(made, holder, root or _ROOTS[holder])
    found = made.outside("ask", "get", *words)
    return str(found["status"] or found["why"])


def _answers(made: Flow, holder: Holder) -> bool:
    return _asked(made, holder) == "200"


def _each_by_its_own_root(made: Flow) -> None:
    """Each name's certificate is of whom it was to be from, and of no other."""
    for holder in _ROOTS:
        for root in _ROOTS.values():
            said = _asked(made, holder, root)
            assert (said == "200") is (root == _ROOTS[holder]), (holder, root, said)
            assert said == "200" or "unknown authority" in said, (holder, root, said)
    shown = {each["name"]: each for each in made.host.status()["certificates"]}
    assert shown[_PUBLIC.name]["life"] in (_LIFE, _LIFE + 60), shown
    assert shown[_FILES.name]["life"] == 31 * 24 * 3600, shown


def _loads(made: Flow) -> Iterator[contextlib.AbstractContextManager[Running]]:
    """Clients of each name, on new and on kept connections."""
    for holder, root in _ROOTS.items():
        for kind, method in (("new", "GET"), ("kept", "POST")):
            how = ("--kind", kind, "--method", method, "--pause", "200ms")
            yield made.started("load", *_words(made, holder, root), *how)


def _renewed(made: Flow, times: int) -> None:
    """The public CA's is renewed by itself, and clients notice nothing."""
    watch = Watch(made, (_PUBLIC,))
    before = certified.processes(made.host, 101)
    assert before
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(each) for each in _loads(made)]
        watch.await_renewed(times, _PUBLIC, limit=300 * times)
        certified.await_served(made, _PUBLIC)
    for load in running:
        certified.good(load.found)
    assert certified.processes(made.host, 101) == before
    assert _asked(made, _PUBLIC) == "200"


def _delivered_anew(made: Flow, folder: Path) -> None:
    """Another pair behind the same reference is served once it is sent, and clients notice
    nothing."""
    before = certified.served(made.host, _FILES)
    wanted = _deliver(folder)
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(each) for each in _loads(made)]
        # What the host has, it is not sent again.
        assert made.host.deploy().found["result"] == "unchanged"
        assert certified.served(made.host, _FILES) == before
        made.host.deploy(anew=True)
        assert certified.served(made.host, _FILES) == wanted
    for load in running:
        certified.good(load.found)


def _not_given(made: Flow, authority: PublicCA) -> None:
    """The public CA goes away: status says so before the certificate ends, and why."""
    authority.stop()
    said = certified.await_fault(made.host, _PUBLIC.name, "was not renewed: ", limit=300)
    assert said.endswith("connection refused"), said
    assert _asked(made, _PUBLIC) == "200"
