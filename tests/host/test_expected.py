"""What an interfaces file says that stands there once it is applied, and what it is made of."""

from __future__ import annotations

import pytest

from builder.host import network
from builder.host.network import Expected

HEAD = "auto vmbr0\niface vmbr0 inet static\n"
ADDRESS = ("vmbr0", "10.0.0.1/24")
OPTIONS = "address 10.0.0.1/24\ngateway 10.0.0.9\n"


@pytest.mark.parametrize(
    ("text", "addresses", "gateways"),
    [
        (HEAD + "\taddress 10.0.0.1/24\n\tgateway 10.0.0.9\n", (ADDRESS,), ("10.0.0.9",)),
        (HEAD + OPTIONS, (ADDRESS,), ("10.0.0.9",)),
        (HEAD + "address \\\n 10.0.0.1/24\n\n# x\n\ngateway 10.0.0.9", (ADDRESS,), ("10.0.0.9",)),
        (HEAD + "address 10.0.0.1\nnetmask 255.255.255.0\ngateway\n", (), ()),
        ("iface vmbr0 inet static\n" + OPTIONS, (), ()),
        ("allow-hotplug vmbr0\niface vmbr0 inet static\n" + OPTIONS, (), ()),
        ("iface vmbr0 inet static\n" + OPTIONS + "auto vmbr0\n", (ADDRESS,), ("10.0.0.9",)),
        (HEAD.replace("vmbr0", "vmbr0:1") + OPTIONS, (ADDRESS,), ("10.0.0.9",)),
        (HEAD + "address 2001:0DB8:0::1/64\ngateway FE80:0::1\n",
         (("vmbr0", "2001:db8::1/64"),), ("fe80::1",)),
    ],
)  # fmt: skip
def test_addresses(text: str, addresses: tuple[object, ...], gateways: tuple[str, ...]):
    assert network.expected(text.encode()) == Expected(addresses, gateways)  # type: ignore[arg-type]


@pytest.mark.parametrize("word", [
    "auto", "mapping", "source", "source-directory", "allow-hotplug", "no-auto-down", "no-scripts",
    "vlan", "iface",
])  # fmt: skip
def test_what_ends_a_stanza(word: str):
    assert network.expected(f"{HEAD}{word} eth5\n{OPTIONS}".encode()) == Expected((), ())


@pytest.mark.parametrize(
    ("command", "routes"),
    [
        ("ip route replace 10.7.0.0/16 via 10.0.0.7 dev a proto 80", ("10.7.0.0/16", "10.0.0.7")),
        ("ip route replace 10.7.0.0/16 dev vmbr0 proto 80", ("10.7.0.0/16", "")),
        ("ip -6 route replace ::/0 via fd00::9 proto 80", ("default", "fd00::9")),
        ("ip route replace 10.7.0.7/32 dev vmbr0", None),
        ("echo about route proto 80", None),
        ("echo about proto 80", None),
    ],
)  # fmt: skip
def test_our_own_routes(command: str, routes: tuple[str, str] | None):
    found = network.expected(f"{HEAD}\tpost-up {command}\n".encode())
    assert found.routes == ((routes,) if routes else ())


def test_options_that_stand_at_the_beginning_count_as_well():
    owned = b"auto vmbr0\niface vmbr0 inet manual\nbridge-ports eno7\n"
    assert network.absent(owned, b"iface eno7 inet manual\nbond-slaves a b\n", ("a", "b")) == []
    assert network.absent(owned, b"", ()) == ["eno7"]
