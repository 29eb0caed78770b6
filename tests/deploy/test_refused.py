"""What a host does not take, and what then stands: nothing but what stood before."""

from __future__ import annotations

from pathlib import Path
from threading import Timer

import pytest

from builder import keys
from builder.deploy import deploy as deploying
from builder.deploy import signers
from builder.deploy.memory import Memory
from builder.dist import MANIFEST, SIGNATURE
from builder.host import files
from builder.host.guests import Draining
from builder.host.state import Journal, dump_journal
from builder.problems import UserError
from tests.deploy.making import HOST, Project, Wire, deployed
from tests.host.making import INTERFACES, SYSCTL

GUESTS = {103: {"bin/x": b"1\n"}}
UNTOUCHED = {"etc/network/interfaces"}


def standing(wire: Wire) -> set[str]:
    """All files outside of our own folder."""
    wire.join()
    return {path for path in wire.stage.files() if not path.startswith("var/lib/phoenix/")}


def test_unready(made: Project, wire: Wire, memory: Memory):
    made.release(unready=("the site has no certificate authority: run ./invoke ca.init",))
    with pytest.raises(UserError, match=r"ca\.init"):
        deployed(made, wire, memory)
    assert wire.places == []


def test_unsigned(made: Project, wire: Wire, memory: Memory):
    made.release(signed=False)
    with pytest.raises(UserError, match="unsigned") as told:
        deployed(made, wire, memory)
    assert "key.init" in told.value.hint


def test_none_built(made: Project, wire: Wire, memory: Memory):
    (made.root / "dist").mkdir()
    with pytest.raises(UserError, match="no release") as told:
        deployed(made, wire, memory)
    assert "build --host lab" in told.value.hint


def test_a_damaged_object(made: Project, wire: Wire, memory: Memory):
    made.release(guests=GUESTS)
    (tar,) = (made.root / "dist/store").glob("*-names.tar")
    data = tar.read_bytes()
    tar.write_bytes(data.replace(b"1\n\0", b"2\n\0"))
    outcome = deployed(made, wire, memory)
    assert outcome.verdict.result == "refused"
    assert "is not what came under that name" in outcome.verdict.why
    assert standing(wire) == UNTOUCHED
    assert not wire.stage.paths.generations.exists()
    assert not wire.stage.paths.signers.exists(), "a first deploy that fails leaves no trust behind"
    tar.write_bytes(data)
    assert deployed(made, wire, memory).verdict.result == "done", "nothing of it was kept"


def test_a_missing_object(made: Project, wire: Wire, memory: Memory):
    made.release(guests=GUESTS)
    next((made.root / "dist/store").glob("*-names.tar")).unlink()
    with pytest.raises(UserError, match="is missing"):
        deployed(made, wire, memory)


def test_another_manifest_than_was_signed(made: Project, wire: Wire, memory: Memory):
    made.release()
    signature = (made.newest() / SIGNATURE).read_bytes()
    made.release(sysctl="evil = 1\n")
    (made.newest() / SIGNATURE).write_bytes(signature)
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("refused", 2)
    assert "not signed by" in outcome.verdict.why
    assert standing(wire) == UNTOUCHED
    assert not list(wire.stage.paths.store.iterdir())


def test_no_signature_at_all(made: Project, wire: Wire, memory: Memory):
    made.release()
    (made.newest() / SIGNATURE).write_bytes(b"nonsense\n")
    with pytest.raises(UserError, match="signature is damaged"):
        deployed(made, wire, memory)
    assert standing(wire) == UNTOUCHED


def test_a_signer_who_is_off_the_list(made: Project, wire: Wire, memory: Memory, tmp_path: Path):
    made.release()
    deployed(made, wire, memory)
    other = keys.init(tmp_path / "other" / "key", passphrase=False)
    wire.stage.paths.signers.write_text(other.allowed("phoenix"))
    made.release(sysctl="b = 1\n")
    outcome = deployed(made, wire, memory)
    assert outcome.verdict.result == "refused"
    assert wire.stage.files()[SYSCTL[1:]] == b"a = 1\n"
    wire.stage.paths.signers.write_text(made.key.allowed("phoenix"))
    assert deployed(made, wire, memory).verdict.result == "done"


def test_the_line_for_a_host_is_the_key_s_own(made: Project):
    made.release()
    line = signers.line((made.newest() / SIGNATURE).read_bytes(), "phoenix")
    assert line == made.key.allowed("phoenix")
    assert signers.fingerprint(line).startswith("ssh-ed25519 SHA256:")


def test_a_person_who_does_not_want_it(made: Project, wire: Wire, memory: Memory):
    made.release()
    outcome = deployed(made, wire, memory, answer=False)
    assert outcome.verdict.why == "not wanted"
    assert standing(wire) == UNTOUCHED
    assert not wire.stage.paths.signers.exists()


def test_a_host_that_changed_since_the_plan(
    made: Project, wire: Wire, memory: Memory, monkeypatch: pytest.MonkeyPatch
):
    made.release(guests=GUESTS)
    from builder.deploy.deploy import Deployer

    keep = Deployer._deliver

    def meddled(*given: object) -> None:
        wire.stage.paths.at(SYSCTL).write_text("meanwhile = 1\n")
        keep(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(Deployer, "_deliver", meddled)
    outcome = deployed(made, wire, memory)
    assert outcome.verdict.result == "refused"
    assert "changed since" in outcome.verdict.why
    assert wire.stage.paths.at(SYSCTL).read_text() == "meanwhile = 1\n"


def test_a_second_deployer_is_told_of_the_first(made: Project, wire: Wire, memory: Memory):
    made.release()
    wire.stage.paths.at("/var/lib/phoenix").mkdir(parents=True, exist_ok=True)
    with files.locked(wire.stage.paths.lock, "alice@desk since 2026-01-01T00:00:00Z"):
        outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("busy", 2)
    assert "alice@desk since 2026-01-01T00:00:00Z" in outcome.verdict.why
    assert deployed(made, wire, memory).verdict.result == "done"


def test_a_second_deployer_while_the_first_is_to_confirm(made: Project, wire: Wire, memory: Memory):
    made.release()
    deployed(made, wire, memory)
    made.release(sysctl="b = 1\n")
    host = wire.stage
    from builder.host import transaction
    from builder.host.transaction import Limits

    number = host.keep((made.newest() / MANIFEST).read_bytes())
    with pytest.raises(Exception, match="lacks"):
        transaction.activate(host.host(), number, "alice", Limits(confirm=60))
    made.release(sysctl="c = 1\n")
    held = (made.root / "dist/store").glob("*-t")
    for path in held:
        (host.paths.store / path.name.partition("-")[0]).write_bytes(path.read_bytes())
    number = host.keep((made.newest() / MANIFEST).read_bytes())
    transaction.activate(host.host(), number, "alice since noon", Limits(confirm=60))
    outcome = deployed(made, wire, memory)
    assert outcome.verdict.result == "busy"
    assert "alice since noon" in outcome.verdict.why
    assert "it goes back in" in outcome.verdict.why


def test_a_second_deployer_while_the_first_makes_guests(made: Project, wire: Wire, memory: Memory):
    """No time runs yet, and none is over."""
    made.release()
    deployed(made, wire, memory)
    journal = Journal(2, 1, "preparing", 0, "alice since noon", (103,))
    files.write(wire.stage.paths.journal, dump_journal(journal))
    outcome = deployed(made, wire, memory)
    assert outcome.verdict.result == "busy"
    assert "alice since noon; nothing that runs has changed yet" in outcome.verdict.why


def test_foreign_guests_on_a_bridge_that_changes(made: Project, wire: Wire, memory: Memory):
    for guest, bridge in ((200, "vmbr0"), (201, "vmbr1")):
        conf = wire.stage.paths.at(f"/var/lib/lxc/{guest}/config")
        conf.parent.mkdir(parents=True)
        conf.write_text(f"lxc.net.0.type = veth\nlxc.net.0.link = {bridge}\n")
        wire.stage.platform.running[guest] = True
    made.release()
    outcome = deployed(made, wire, memory)
    assert outcome.verdict.result == "refused"
    assert "--affects 200" in outcome.verdict.why
    assert outcome.outlook
    assert outcome.outlook.affected == {200: ("vmbr0",)}
    assert standing(wire) >= UNTOUCHED
    assert SYSCTL[1:] not in standing(wire)
    assert deployed(made, wire, memory, affects=frozenset({200})).verdict.result == "done"
    made.release(sysctl="b = 1\n")
    assert deployed(made, wire, memory).verdict.result == "done", "this leaves the bridge alone"
    made.release(interfaces=INTERFACES.replace(b"10.0.0.1", b"10.0.0.2"))
    assert deployed(made, wire, memory).verdict.result == "refused"


def test_a_request_that_is_nonsense(wire: Wire):
    from builder.deploy.client import Client, HostError
    from builder.deploy.memory import Place

    with Client(wire(Place("x", "root"))) as client:
        for do, facts in (
            ("fly", {}),
            ("put", {"objects": []}),
            ("keep", {}),
            ("secrets", {"guest": 1}),
            ("activate", {"generation": "; reboot"}),
        ):
            with pytest.raises(HostError):
                client.ask(do, **facts)
        client.link.requests.write(b"[1, 2\n")
        with pytest.raises(HostError):
            client.ask("lacking")


def test_what_no_release_names_is_not_stored(made: Project, wire: Wire, memory: Memory):
    from builder.deploy.client import Client, HostError
    from builder.deploy.memory import Place
    from builder.deploy.transfer import compressed

    made.release()
    data, signature = ((made.newest() / name).read_bytes() for name in (MANIFEST, SIGNATURE))
    with Client(wire(Place("x", "root"))) as client:
        client.ask("trust", signers=made.key.allowed("phoenix"))
        lengths = {"manifest": len(data), "signature": len(signature)}
        both = compressed("gzip", iter((data, signature)))
        client.stream("stage", both, codec="gzip", **lengths)
        for name in ("0" * 64, "../../etc/passwd"):
            with pytest.raises(HostError, match="nothing that the release lacks"):
                client.stream(
                    "put", compressed("gzip", iter((b"x",))), codec="gzip", objects=[[name, 0]]
                )
    assert HOST not in standing(wire)
    assert not list(wire.stage.paths.store.iterdir())


def test_a_program_that_does_not_start(made: Project, wire: Wire, memory: Memory):
    """The guard would run it."""
    made.release()
    deployed(made, wire, memory)
    before = wire.stage.paths.command.readlink()
    made.release(sysctl="b = 1\n", program=b"#!/usr/bin/python3 -IS\nraise SystemExit(3)\n")
    outcome = deployed(made, wire, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("failed", 2)
    assert "exit 3" in outcome.verdict.why
    assert wire.stage.paths.command.readlink() == before
    assert wire.stage.files()[SYSCTL[1:]] == b"a = 1\n"


@pytest.mark.parametrize("frees", [True, False])
def test_a_slot_in_use(
    made: Project, wire: Wire, memory: Memory, monkeypatch: pytest.MonkeyPatch, frees: bool
):
    """It is awaited, and after a while refused."""
    monkeypatch.setattr(deploying, "_PATIENCE", 60.0 if frees else 0.5)
    wire.stage.platform.running[101] = False
    made.release(guests={101: {"nginx/a.conf": b"1\n"}})
    assert deployed(made, wire, memory).verdict.result == "done"
    wire.stage.draining[101] = Draining(101, "a", 3, 90, 510, "old")
    made.release(guests={101: {"nginx/a.conf": b"2\n"}})
    if frees:
        Timer(1.5, wire.stage.draining.clear).start()
    verdict = deployed(made, wire, memory).verdict
    assert verdict.result == ("done" if frees else "refused"), verdict
    assert frees or "guest 101: 3 connections go on" in verdict.why
