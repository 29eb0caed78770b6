"""Each hop encrypted, and verified by who makes it: between services, against impostors with every
wrong certificate, and by what passes the bridge."""

from __future__ import annotations

import json
from datetime import timedelta

from tests.flow import edge, papers
from tests.flow.capture import capture, listed
from tests.flow.edge import CA, CHAT, GATEWAY, MESH, ONE, TWO, WEB, at
from tests.flow.impostor import SAID, impostor
from tests.integration.handle import Handle, until

PAIR, CHAT_INSIDE = "https://pair.svc.phoenix.internal/", "https://chat.svc.phoenix.internal/"
MESH_NAME, STORE_NAME = "mesh.phoenix.internal", "store.svc.phoenix.internal"


def between_services(host: Handle) -> None:
    """A service calls another through the mesh, balanced and health-checked; a guest directly."""

    def ways() -> set[tuple[int, str]]:
        return {edge.inside(host, WEB, PAIR) for _ in range(6)}

    both = {(200, "one"), (200, "two")}
    until(lambda: ways() == both, "both backends answer")
    host.guest(TWO, "systemctl", "kill", "--signal=STOP", "try-pair")
    until(lambda: ways() == {(200, "one")}, "who does not answer is left out")
    host.guest(TWO, "systemctl", "kill", "--signal=CONT", "try-pair")
    until(lambda: ways() == both, "who answers again is back")
    # Only declared callers are let in.
    assert edge.inside(host, TWO, PAIR)[0] in {403, 404}
    with capture(host) as seen:
        assert edge.inside(host, ONE, "https://ca.phoenix.internal:9000/health")[0] == 200
        assert edge.inside(host, WEB, CHAT_INSIDE) == (200, "one")
    assert seen.between(at(ONE), at(CA), 9000), "not direct"
    assert seen.between(at(WEB), at(MESH), 443), "not through the mesh"
    assert not seen.between(at(WEB), at(ONE), 8000)


def front(host: Handle) -> None:
    """102 → service: no wrong certificate gets a request."""
    own, name = papers.own(host.up), "one.phoenix.internal"
    with impostor(host, ONE, 8000, own.issue(name)) as other:
        until(lambda: edge.outside(host) == (200, SAID), "the impostor is where the service was")
        assert edge.inside(host, WEB, CHAT_INSIDE) == (200, SAID)
        for what, paper in papers.wrong(own, name).items():
            other.shows(paper)
            until(lambda: other.met, f"the mesh comes to an impostor: {what}")
            for asked in (edge.outside(host), edge.inside(host, WEB, CHAT_INSIDE)):
                assert 500 <= asked[0] < 600, (what, asked)
                assert SAID not in asked[1], (what, asked)
            assert other.asked == [], what
    until(lambda: edge.outside(host) == (200, "one"), "the service itself answers again")
    own_two = "two.phoenix.internal"
    with impostor(host, TWO, 8002, own.issue(own_two)) as other:
        until(lambda: SAID in edge.stream(host), "the impostor is where the service was")
        for what, paper in papers.wrong(own, own_two).items():
            other.shows(paper)
            assert edge.stream(host) == "", what
            assert other.met, what
            assert other.asked == [], what
    until(lambda: edge.stream(host).startswith("store two"), "the service itself answers again")


def mesh(host: Handle) -> None:
    """101 → 102: the same; and a certificate ends also for who came before its end."""
    own = papers.own(host.up)
    with impostor(host, MESH, 443, own.issue(MESH_NAME)) as other:
        until(lambda: edge.outside(host) == (200, SAID), "the impostor is where the mesh was")
        assert edge.stream(host) == "", "a tcp service is proven by its own name"
        for what, paper in papers.wrong(own, MESH_NAME).items():
            other.shows(paper)
            status, body = edge.outside(host)
            assert 500 <= status < 600, (what, body)
            assert SAID not in body, what
            assert other.met, what
            assert other.asked == [], what
        other.shows(own.issue(STORE_NAME))
        assert SAID in edge.stream(host)
        for what, paper in papers.wrong(own, STORE_NAME).items():
            other.shows(paper)
            assert edge.stream(host) == "", what
            assert other.met, what
            assert other.asked == [], what
        other.shows(own.issue(MESH_NAME, ends=timedelta(seconds=20)))
        until(lambda: edge.outside(host) == (200, SAID), "the impostor is believed", pause=0)
        until(lambda: edge.outside(host)[0] == 502, "its certificate has ended")
        assert edge.outside(host)[0] == 502
    until(lambda: edge.outside(host) == (200, "one"), "the mesh itself answers again")


def authority(host: Handle) -> None:
    """Guest → CA: no order goes to an impostor, and the certificate stays as it is."""
    own, name, held = papers.own(host.up), "ca.phoenix.internal", certificate(host, ONE)
    with impostor(host, CA, 9000, own.issue(name)) as other:
        order(host, ONE)
        until(lambda: other.asked, "an order comes to whom we believe")
        for what, paper in papers.wrong(own, name).items():
            other.shows(paper)
            order(host, ONE)
            until(lambda: other.met, f"the guest comes to an impostor: {what}")
            until(lambda: not active(host, ONE), "the order has ended")
            assert other.asked == [], what
            assert edge.inside(host, ONE, f"https://{name}:9000/health")[0] == 0, what
        assert certificate(host, ONE) == held
        assert edge.outside(host) == (200, "one")
    order(host, ONE)
    until(lambda: certificate(host, ONE) != held, "the CA itself gives a certificate again")


def on_the_wire(host: Handle) -> None:
    """On vmbr0, all is TLS but what the build lists."""
    held = {guest: certificate(host, guest) for guest in (ONE, MESH, GATEWAY)}
    with capture(host) as seen:
        everything(host)
        for guest in held:
            order(host, guest)
        until(lambda: all(certificate(host, g) != held[g] for g in held), "all have new ones")
    assert listed(host).lacks(seen.connections) == []
    assert not any(c.lost for c in seen.connections)
    gateway, mesh = at(GATEWAY), at(MESH)
    outer = {str(client_at(host)), f"{edge.LAN6}::20"}
    hops = [
        (outer, gateway, 443), (outer, gateway, 80), (outer, gateway, edge.STORE_PORT),
        (gateway, mesh, 443), (at(WEB), mesh, 443), (at(WEB), gateway, 443),
        (mesh, at(ONE), 8000), (mesh, at(TWO), 8001), (mesh, at(TWO), 8002),
        *((at(guest), at(CA), 9000) for guest in held),
        *((at(CA), at(guest), 80) for guest in held),
    ]  # fmt: skip
    missed = [hop for hop in hops if not seen.between(*hop)]
    assert not missed, "the capture does not see all"


def a_plain_hop(host: Handle) -> None:
    """Where a hop is plain, the capture sees it, and the build lists it."""
    before = listed(host)
    asked = "    plain: [{hop: mesh, reason: for the sake of the capture}]\n    inside: true\n"
    host.edit(host.site, "    inside: true\n", asked)
    host.deploy()
    until(lambda: edge.outside(host) == (200, "one"), "the service answers over a plain hop")
    with capture(host) as seen:
        until(lambda: edge.outside(host) == (200, "one"), "an answer that is captured")
    ends = {(c.source, c.target, c.port) for c in before.lacks(seen.connections)}
    assert {port for *_, port in ends} == {8080}
    assert all(source in at(GATEWAY) and target in at(MESH) for source, target, _ in ends)
    assert listed(host).lacks(seen.connections) == []
    host.rollback(1)
    until(lambda: edge.outside(host) == (200, "one"), "the service answers as before")


def everything(host: Handle) -> None:
    """One of each kind of request that there is, and some that get nothing."""
    assert edge.outside(host) == (200, "one")
    code, said = host.client.run(*edge.curl(host, url=f"http://{CHAT}/"))
    assert (code, said[-3:]) == (0, "308"), said
    unknown = ("--header", "Host: nobody.example.org")
    assert host.client.run(*edge.curl(host, *unknown, url=f"http://{CHAT}/"))[1][-3:] == "000"
    assert edge.stream(host).startswith("store two")
    assert edge.inside(host, WEB, CHAT_INSIDE) == (200, "one")
    assert {edge.inside(host, WEB, PAIR)[0] for _ in range(4)} == {200}
    assert edge.inside(host, WEB, f"https://{CHAT}/") == (200, "one")
    assert edge.inside(host, ONE, "https://ca.phoenix.internal:9000/health")[0] == 200


def client_at(host: Handle) -> str:
    """The client's address in the LAN."""
    (found,) = json.loads(host.client.run("ip", "-json", "-4", "address", "show", "eth0")[1])
    return str(found["addr_info"][0]["local"])


def order(host: Handle, guest: int) -> None:
    """Have a guest order its certificates anew, now."""
    host.guest(guest, "sh", "-c", "rm -f /var/lib/phoenix/acme/ordered/*")
    host.guest(guest, "systemctl", "reset-failed", "phoenix-acme.service")
    host.guest(guest, "systemctl", "restart", "--no-block", "phoenix-acme.service")


def active(host: Handle, guest: int) -> bool:
    """Whether an order is under way."""
    words = ["systemctl", "show", "--property=SubState", "--value", "phoenix-acme.service"]
    return host.guest(guest, *words).strip() in {"start", "running"}


def certificate(host: Handle, guest: int) -> str:
    """What tells a guest's certificates from others."""
    return host.guest(guest, "sh", "-c", "cat /var/lib/phoenix/certificates/*/certificate.pem")


STEPS = (between_services, front, mesh, authority, on_the_wire, a_plain_hop)
