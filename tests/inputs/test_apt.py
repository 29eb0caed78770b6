"""The machine's APT sources as read, and what is asked of them for another suite."""

from __future__ import annotations

import pytest

from builder.inputs.apt import Repository, derived, parse_list, parse_sources, sources_text

KEYRING = "/usr/share/keyrings/archive.gpg"
DEB822 = f"""\
# a mirror, and a note that is no entry
Types: deb deb-src
URIs: http://mirror.test/debian
Suites: trixie trixie-updates
Components: main contrib
Signed-By: {KEYRING}

Types: deb
URIs: http://mirror.test/off
Suites: trixie
Components: main
Enabled: no

Types: deb-src
URIs: http://mirror.test/source
Suites: trixie
Components: main

Types: deb
URIs: http://mirror.test/security http://other.test/security
Suites: trixie-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://third.test/
Suites: nodistro trixie-thirdparty
Components: main
"""
LIST = f"""\
# deb http://mirror.test/off trixie main
deb http://mirror.test/debian trixie main non-free  # a note
deb [arch=amd64 signed-by={KEYRING}] mirror+file:/etc/mirrors stable-updates main
deb [trusted=yes] http://mirror.test/security stable/updates main
deb-src http://mirror.test/debian trixie main
deb http://third.test/ trixie stable
deb http://mirror.test/debian trixie-backports main
"""


def test_a_sources_file_becomes_the_locked_suite() -> None:
    found = list(derived(parse_sources(DEB822), "bookworm"))
    suites = [(each.uris, each.suites, each.components) for each in found]
    both = ("http://mirror.test/security", "http://other.test/security")
    assert suites == [
        (("http://mirror.test/debian",), ("bookworm", "bookworm-updates"), ("main",)),
        (both, ("bookworm-security",), ("main",)),
    ]
    assert found[0].signed_by == KEYRING
    assert found[1].signed_by.splitlines()[-1] == " -----END PGP PUBLIC KEY BLOCK-----"


def test_a_sources_list_becomes_the_locked_suite_without_its_exceptions() -> None:
    assert list(derived(parse_list(LIST), "bookworm")) == [
        Repository(("http://mirror.test/debian",), ("bookworm",), ("main",)),
        Repository(("mirror+file:/etc/mirrors",), ("bookworm-updates",), ("main",), KEYRING),
        Repository(("http://mirror.test/security",), ("bookworm-security",), ("main",)),
    ]


@pytest.mark.parametrize("text", [DEB822, sources_text(parse_list(LIST))])
def test_what_is_written_is_read_again(text: str) -> None:
    once = list(parse_sources(text))
    assert once
    assert list(parse_sources(sources_text(once))) == once


PLAIN = """\
deb http://mirror.test/debian/ bookworm main
deb http://other.test/archive bookworm main
"""


def test_without_security_updates_they_are_asked_for_beside_the_mirror() -> None:
    found = list(derived(parse_list(PLAIN), "bookworm"))
    assert [(each.uris, each.suites) for each in found] == [
        (("http://mirror.test/debian/",), ("bookworm",)),
        (("http://other.test/archive",), ("bookworm",)),
        (("http://mirror.test/debian-security",), ("bookworm-security",)),
    ]
    own = "deb http://s.test/security bookworm-security main\n"
    assert len(list(derived(parse_list(PLAIN + own), "bookworm"))) == 3
