"""The ACME client run for real, as user 6104, against step-ca: first issue, renewal, and every way
in which it may go wrong, after each of which what was installed is still there and whole.
"""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from builder import emit
from builder.checks.providers import PROVIDERS
from builder.emit.template import OVERLAYS
from builder.flows import OUTSIDE, Flow, flows
from builder.kinds import acme, step_ca
from builder.network import CA_PORT
from tests.judges import programs
from tests.judges.guest import CURRENT, GENERATION, STATE
from tests.judges.namespace import Entry
from tests.judges.rootfs import USERS
from tests.kinds.acme.ordering import DAY, good, lines, names, whole, write
from tests.kinds.step_ca.running import AS_LEGO, CLIENT, Site, site, tree
from tests.kinds.traefik.running import documents, network, until

pytestmark = [pytest.mark.judge, pytest.mark.needs("root", "unshare")]


# --- what is written


def test_lines_say_what_is_declared() -> None:
    net = network()
    site_url = "https://step-ca.phoenix.internal:9000/acme/acme/directory"
    third = str(7 * DAY // 3)
    ours = ["site", third, site_url, "acme@phoenix.internal", "-", "trust/root.crt", "-"]
    public = ["public/letsencrypt", "0", "https://acme-v02.api.letsencrypt.org/directory"]
    inside = ("chat", "embeddings", "vectors", "vectors-http")
    mesh = ["traefik-mesh.phoenix.internal", *(f"{n}.svc.phoenix.internal" for n in inside)]
    assert lines(net, "nginx-gateway") == [
        ["ai.home.example.org", "webroot", *ours, "ai.home.example.org"],
        ["chat.example.org", "webroot", *public, "admin@example.org", *"---", "chat.example.org"],
    ]
    (found,) = lines(net, "traefik-mesh")
    assert found[:9] == [mesh[0], "standalone", *ours]
    assert found[9] == mesh[0]
    assert set(found[9:]) == set(mesh)
    for guest in ("vllm-1", "vllm-2", "qdrant", "webui"):
        own = f"{guest}.phoenix.internal"
        assert lines(net, guest) == [[own, "webroot", *ours, own]]


def test_dns_challenge_root_and_files() -> None:
    reference, _ = documents()
    pem = "-----BEGIN CERTIFICATE-----\nTUlJ\n-----END CERTIFICATE-----\n"
    directory = {
        "directory": "https://ca.example.net/acme/~x/dir",
        "email": "a@example.net",
        "challenge": "dns-01",
        "provider": "cloudflare",
        "environment": {"CF_DNS_API_TOKEN": "env:T", "CF_API_EMAIL": "env:E"},
        "root": pem,
    }
    files = {"files": {"certificate": "file:/c", "key": "file:/k"}}
    certificates = {"chat.example.org": {"acme": "own"}, "ai.home.example.org": files}
    net = network({**reference, "acme": {"own": directory}, "certificates": certificates})
    assert lines(net, "nginx-gateway") == [
        [
            "chat.example.org", "dns-01", "public/own", "0", directory["directory"],
            "a@example.net", "cloudflare", "acme/own.crt", "CF_API_EMAIL,CF_DNS_API_TOKEN",
            "chat.example.org",
        ]
    ]  # fmt: skip
    assert tree(acme, net, "nginx-gateway").file("acme/own.crt").data == pem.encode()
    # All delivered as files: nothing to order.
    certificates["chat.example.org"] = files
    net = network({**reference, "certificates": certificates})
    assert "nginx-gateway" not in [a.guest for a in acme.artifacts(net)]


@pytest.mark.parametrize(("port", "more"), [("", 0), (":443", 0), (":9443", 1)])
def test_the_way_to_a_directory_is_open(port: str, more: int) -> None:
    reference, _ = documents()
    own = {"directory": f"https://ca.example.net{port}/acme", "email": "a@example.net"}
    source = {"chat.example.org": {"acme": "own"}}
    net = network({**reference, "acme": {"own": own}, "certificates": source})
    ours = [flow for flow in flows(net) if flow.reason == "public ACME orders"]
    assert ours == [Flow("nginx-gateway", OUTSIDE, "tcp", 9443, "public ACME orders")] * more
    assert Flow("nginx-gateway", OUTSIDE, "tcp", 443, "updates") in flows(net)


def test_script_is_sound_shell() -> None:
    script = OVERLAYS / "acme/bin/phoenix-acme"
    assert subprocess.run(["dash", "-n", script]).returncode == 0


# --- ordering


def test_first_issue_then_nothing_until_due(running: Site) -> None:
    name = running.net.mesh.fqdn
    good(running)
    first = running.installed(name)
    (order,) = running.net.mesh.certificates
    assert names(whole(first)) == set(order.names)
    listed = running.space.must(["stat", "-c", "%a %u %g", f"{STATE}/certificates/{name}/key.pem"])
    assert listed.split() == ["640", str(USERS["lego"]), "6100"]
    # Traefik's user reads it by the group, another does not.
    for user, groups, code in ((6102, "6100", 0), (6103, "6103", 1)):
        reading = ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={groups}"]
        done = running.space.run([*reading, "cat", f"{STATE}/certificates/{name}/key.pem"])
        assert (done.code, bool(done.out)) == (code, not code)
    good(running)
    assert running.installed(name) == first


def test_renewal_comes_to_the_second_and_keeps_the_key(running: Site) -> None:
    (fields,) = lines(running.net, running.holder)
    good(running)
    before = running.installed(fields[0])
    left = int(whole(before).not_valid_after_utc.timestamp() - time.time())
    # So much time may pass until it looks.
    write(running, fields, renew=str(left - 60))
    good(running)
    assert running.installed(fields[0]) == before
    write(running, fields, renew=str(left + 5))
    good(running)
    after = running.installed(fields[0])
    assert after[0] != before[0]
    assert after[1] == before[1]
    whole(after)


def test_public_certificate_is_renewed_in_its_last_third(running: Site) -> None:
    (fields,) = lines(running.net, running.holder)
    write(running, fields, renew="0")
    good(running)
    before = running.installed(fields[0])
    good(running)
    assert running.installed(fields[0]) == before
    path = f"{STATE}/certificates/{fields[0]}/certificate.pem"
    began = {"a sixth": 7 * DAY / 6, "over two thirds": 7 * DAY * 2.1}
    for days_ago, renewed in ((began["a sixth"], False), (began["over two thirds"], True)):
        running.space.must(["touch", "-d", f"@{int(time.time() - days_ago)}", path])
        good(running)
        assert (running.installed(fields[0]) != before) is renewed


@pytest.mark.parametrize(
    "why", ["names", "root", "directory", "halves", "garbage", "ended", "ahead"]
)
def test_ordered_anew(running: Site, why: str) -> None:
    (fields,) = lines(running.net, running.holder)
    good(running)
    before = running.installed(fields[0])
    folder = f"{STATE}/certificates/{fields[0]}"
    if why == "names":
        write(running, fields, names=" ".join(fields[9:-1]))
    elif why == "root":
        running.space.must(["sh", "-c", f"echo >>{GENERATION}/trust/root.crt"])
    elif why == "directory":
        address = str(running.net.ca.guest.address)
        write(running, fields, url=fields[4].replace(running.net.ca.fqdn, address))
    elif why == "halves":
        running.space.must(["rm", f"{folder}/key.pem"])
    elif why == "garbage":
        running.space.write([Entry(f"{folder}/certificate.pem", b"x", 0o640, USERS["lego"])])
    elif why == "ahead":
        # Our clock was, when it came.
        path = f"{folder}/certificate.pem"
        running.space.must(["touch", "-d", f"@{int(time.time()) + 50}", path])
        good(running)
        assert running.installed(fields[0]) == before
        running.space.must(["touch", "-d", f"@{int(time.time()) + DAY}", path])
    else:
        clock = "#!/bin/sh\n[ \"$1\" = +%s ] && exec /bin/date -d '+8 days' +%s\n"
        text = clock + 'exec /bin/date "$@"\n'
        running.space.write([Entry("/usr/local/bin/date", text.encode(), 0o755)])
    good(running)
    after = running.installed(fields[0])
    assert after[0] != before[0]
    assert after[1] != before[1]
    wanted = set(fields[9:-1]) if why == "names" else set(fields[9:])
    assert names(whole(after)) == wanted
    if why != "ended":
        good(running)
        assert running.installed(fields[0]) == after


def test_by_web_root_that_nginx_serves() -> None:
    net = network()
    with site(net, "vllm-1") as running:
        serve = ["python3", "-m", "http.server", "--bind", "0.0.0.0", "80", "-d"]
        running.space.folders([f"{STATE}/acme/webroot"], USERS["lego"])
        server = running.space.start([*serve, f"{STATE}/acme/webroot"], user=USERS["nginx"])
        running.space.await_ports(server, [80])
        good(running)
        name = "vllm-1.phoenix.internal"
        assert names(whole(running.installed(name))) == {name}
        assert "GET /.well-known/acme-challenge/" in running.space.log(server)


# --- what goes wrong


def test_a_ca_that_is_down_harms_nothing() -> None:
    with site(network(), start=False) as running:
        (fields,) = lines(running.net, running.holder)
        assert running.order().code == 1
        assert running.installed(fields[0]) == (b"", b"")
        running.start()
        good(running)
        before = running.installed(fields[0])
        running.stop()
        write(running, fields, renew=str(8 * DAY))
        done = running.order()
        assert done.code == 1
        assert "connection refused" in done.err
        assert running.installed(fields[0]) == before
        failed = running.space.read(f"{STATE}/acme/failed/{fields[0]}") or b""
        # One line, without a time: it is what status says.
        assert failed.startswith(b"Could not create client: ")
        assert failed.endswith(b":9000: connect: connection refused\n")
        assert failed.count(b"\n") == 1
        # What is not due any more does not fail.
        write(running, fields)
        good(running)
        assert running.space.read(f"{STATE}/acme/failed/{fields[0]}") is None
        write(running, fields, renew=str(8 * DAY))
        running.start()
        good(running)
        assert running.installed(fields[0]) != before
        assert running.space.read(f"{STATE}/acme/failed/{fields[0]}") is None


def test_a_foreign_ca_is_not_believed(running: Site) -> None:
    from tests.judges import pki

    (fields,) = lines(running.net, running.holder)
    good(running)
    before = running.installed(fields[0])
    running.space.write([Entry(f"{GENERATION}/trust/root.crt", pki.Authority().root)])
    done = running.order()
    assert done.code == 1
    assert "unknown authority" in done.err
    assert running.installed(fields[0]) == before


def test_a_name_outside_is_refused_and_others_are_kept(running: Site) -> None:
    (fields,) = lines(running.net, running.holder)
    foreign = "foreign.phoenix.internal"
    running.list(f"{' '.join([foreign, *fields[1:9], foreign])}\n{' '.join(fields)}\n")
    done = running.order()
    assert done.code == 1
    assert "rejectedIdentifier" in done.err
    assert running.installed(foreign) == (b"", b"")
    whole(running.installed(fields[0]))


def test_a_ca_that_lost_its_database_knows_us_again(running: Site) -> None:
    (fields,) = lines(running.net, running.holder)
    good(running)
    before = running.installed(fields[0])
    running.stop()
    running.space.must(["rm", f"{STATE}/step-ca/bolt.db"])
    running.start()
    write(running, fields, renew=str(8 * DAY))
    good(running)
    assert running.installed(fields[0]) != before


@pytest.mark.parametrize("why", ["email", "account.json", "*.key"])
def test_an_account_of_no_use_is_made_anew(running: Site, why: str) -> None:
    """Of another address there is none; of a file, a full disk or a power cut left nothing."""
    (fields,) = lines(running.net, running.holder)
    good(running)
    before = running.installed(fields[0])
    email = "b@example.net" if why == "email" else fields[5]
    emptied = ["-name", why, "-exec", "truncate", "--size=0", "{}", "+"]
    running.space.must(["find", f"{STATE}/acme/site/accounts", *emptied])
    write(running, fields, renew=str(8 * DAY), email=email)
    good(running)
    assert running.installed(fields[0]) != before


def test_a_hanging_ca_ends_in_time_and_another_run_waits_for_none(running: Site) -> None:
    (fields,) = lines(running.net, running.holder)
    good(running)
    before = running.installed(fields[0])
    write(running, fields, renew=str(8 * DAY))
    path, script = f"{GENERATION}/bin/phoenix-acme", running.space.read(CLIENT) or b""
    hasty = script.replace(b"limit=60", b"limit=5")
    running.space.write([Entry(path, hasty, 0o755)])
    assert running.ca
    running.space.signal(running.ca, 19)
    first = running.space.start([*AS_LEGO, CLIENT])
    # Whoever tried the lock would have it for a moment, and the first one might meet that.
    until(lambda: running.space.run(["pgrep", "-f", "lego .* renew"]).code == 0)
    assert running.order().code == 0  # the first one has the lock
    assert running.space.wait(first) == 1
    failed = running.space.read(f"{STATE}/acme/failed/{fields[0]}") or b""
    assert failed.startswith(b"not done after 5 s: ")
    assert running.installed(fields[0]) == before
    running.space.signal(running.ca, 18)
    running.space.write([Entry(path, script, 0o755)])
    good(running)
    assert running.installed(fields[0]) != before


def test_a_public_directory_is_not_asked_again_at_once(running: Site) -> None:
    (fields,) = lines(running.net, running.holder)
    write(running, fields, folder="public/other", url=fields[4].replace("acme/acme", "acme/none"))
    done = running.order()
    assert (done.code, "not issued" in done.err) == (75, True)
    again = running.order()
    assert (again.code, again.err) == (75, "")
    failed = f"{STATE}/acme/failed/{fields[0]}"
    running.space.must(["touch", "-d", "-31 minutes", failed])
    assert "not issued" in running.order().err
    assert running.order().err == ""
    # It was asked when our clock was ahead.
    running.space.must(["touch", "-d", "+3 days", failed])
    assert "not issued" in running.order().err
    # The site's own failure tells more than a public one's.
    text = " ".join([*fields[:4], "https://127.0.0.1:1/", *fields[5:]])
    public = (running.space.read(f"{CURRENT}/acme/certificates") or b"").decode()
    running.list(public + text.replace(fields[0], "x.phoenix.internal") + "\n" + public)
    assert running.order().code == 1


def test_the_providers_are_lego_s_own(tmp_path: Path) -> None:
    """`manual` waits for a person."""
    lego = programs.folder("lego") / "usr/bin/lego"
    asked = [str(lego), "dnshelp"]
    done = subprocess.run(asked, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    listed = done.stdout.partition("All DNS codes:\n")[2].partition("\n\n")[0]
    assert PROVIDERS | {"manual"} == {code.strip() for code in listed.split(",")}


def test_dns_challenge_reads_its_secrets_from_credentials() -> None:
    """lego's provider `exec` runs a program of ours: its path is the secret here."""
    net = network()
    wrong = step_ca.configuration(net)
    wrong["authority"]["provisioners"][0]["challenges"] = ["dns-01"]
    with site(net, configuration=emit.json_text(wrong)) as running:
        (fields,) = lines(net, running.holder)
        write(
            running,
            fields,
            challenge="dns-01",
            folder="public/own",
            provider="exec",
            variables="EXEC_PATH",
            names=fields[0],
        )
        running.space.write(
            [
                Entry("/run/credentials/acme/own.EXEC_PATH", b"/tmp/present\n", 0o444),
                Entry("/tmp/present", b'#!/bin/sh\necho "$@" >>/tmp/told\nexit 1\n', 0o755),
                Entry("/tmp/told", b"", 0o666),
            ]
        )
        done = running.order({"CREDENTIALS_DIRECTORY": "/run/credentials/acme"})
        assert done.code == 75
        told = (running.space.read("/tmp/told") or b"").decode()
        assert f"present _acme-challenge.{fields[0]}. " in told
        assert CA_PORT == 9000
