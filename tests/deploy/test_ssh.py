"""The same through the system's ssh, and a real sshd."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder import cli
from builder.deploy import front, manage
from builder.deploy.client import Client
from builder.deploy.deploy import Order
from builder.deploy.memory import Memory, Place, place
from builder.deploy.ssh import LostError, Ssh, _plain, chosen
from builder.problems import UserError
from builder.program import host_program
from tests.deploy import sshd
from tests.deploy.making import HOST, Project, deployed
from tests.deploy.test_secrets import MARK, in_processes, leaks
from tests.host.making import SYSCTL

pytestmark = pytest.mark.needs("sshd", "ssh-keygen", "root")
HOME = Place("127.0.0.1", "root")


@pytest.fixture
def served(tmp_path: Path) -> Iterator[sshd.Sshd]:
    with sshd.running(tmp_path / "sshd", f"{sshd.SERVED} {tmp_path}/host") as found:
        yield found


@pytest.fixture
def ssh(memory: Memory, tmp_path: Path) -> Ssh:
    program = ("ssh", "-F", f"{tmp_path}/sshd/ssh_config")
    return Ssh(memory, host_program(), asks=False, command=program)


def test_a_deploy_that_moves_the_host(
    made: Project, served: sshd.Sshd, memory: Memory, ssh: Ssh, tmp_path: Path
):
    """The new address is known to no known_hosts, and still it is the same host, surely."""
    sshd.known(served.folder, served.port, "127.0.0.1")
    made.release(address="127.0.0.2", guests={103: {"bin/x": os.urandom(1 << 20)}})
    outcome = deployed(made, ssh, memory, at="root@127.0.0.1")
    assert outcome.verdict.result == "done", outcome
    assert (tmp_path / "host" / SYSCTL[1:]).read_text() == "a = 1\n"
    public = " ".join((served.folder / "host.pub").read_text().split()[:2])
    assert memory.known_hosts.read_text() == f"phoenix-phoenix-lab {public}\n"
    assert memory.last() == Place("127.0.0.2", "root")
    made.release(address="127.0.0.2", sysctl="b = 1\n")
    assert deployed(made, ssh, memory).verdict.generation == 2


def test_a_host_that_the_user_s_ssh_does_not_know(
    made: Project, served: sshd.Sshd, memory: Memory, ssh: Ssh
):
    made.release(address="127.0.0.1")
    outcome = deployed(made, ssh, memory)
    assert (outcome.verdict.result, outcome.verdict.code) == ("failed", 2)
    assert "Host key verification failed" in outcome.verdict.why
    assert not memory.pinned(), "nothing is kept of a key that ssh did not accept"


def test_another_host_at_the_address(
    made: Project, served: sshd.Sshd, memory: Memory, ssh: Ssh, tmp_path: Path
):
    sshd.known(served.folder, served.port, "127.0.0.1")
    ssh(HOME).close()
    assert memory.pinned()
    other = tmp_path / "other"
    with sshd.running(other, f"{sshd.SERVED} {tmp_path}/host") as found:
        config = served.folder / "ssh_config"
        config.write_text(config.read_text().replace(f"Port {served.port}", f"Port {found.port}"))
        (other / "authorized").write_text((served.folder / "user.pub").read_text())
        # The user's own files would take it.
        sshd.known(other, found.port, "127.0.0.1")
        (served.folder / "known").write_text((other / "known").read_text())
        with pytest.raises(LostError, match="ssh-keygen -R phoenix-phoenix-lab"):
            ssh(HOME)


def test_nothing_listens(memory: Memory, ssh: Ssh, served: sshd.Sshd):
    config = served.folder / "ssh_config"
    config.write_text(config.read_text().replace(f"Port {served.port}", "Port 9"))
    with pytest.raises(LostError, match="refused"):
        ssh(HOME)


def test_a_host_that_takes_the_connection_and_goes_silent(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("builder.deploy.ssh._PATIENCE", 0.1)
    silent = ("sh", "-c", "exec cat >/dev/null")
    with pytest.raises(LostError, match="ssh ended with 0"):
        Ssh(memory, b"", asks=False, command=silent)(HOME)


def test_the_program_is_run_where_none_is_installed(
    memory: Memory, ssh: Ssh, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with sshd.running(tmp_path / "sshd", sshd.PROGRAM) as found:
        sshd.known(found.folder, found.port, "127.0.0.1")
        (tmp_path / "temporary").mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
        with Client(ssh(HOME)) as client:
            assert client.hello.generation == 0
            assert not client.hello.trusts
        assert not list((tmp_path / "temporary").iterdir())
        assert not Path("/var/lib/phoenix").exists(), "nothing is written before it is asked for"
        # What came is not what was meant to.
        monkeypatch.setattr(Ssh, "_packed", lambda _: zlib.compress(b"evil"))
        with pytest.raises(LostError, match="what came is not the program"):
            ssh(HOME)


def test_what_answers_is_something_else(memory: Memory, ssh: Ssh, tmp_path: Path):
    with sshd.running(tmp_path / "sshd", "echo Welcome") as found:
        sshd.known(found.folder, found.port, "127.0.0.1")
        with pytest.raises(LostError, match="not the host program: Welcome"):
            ssh(HOME)


def test_secrets_are_seen_nowhere(
    made: Project,
    served: sshd.Sshd,
    memory: Memory,
    ssh: Ssh,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    from builder.deploy.deploy import Deployer

    seen: list[str] = []
    deliver = Deployer._deliver

    def looked(self: Deployer, client: Client, secrets: dict[int, dict[str, bytes]]) -> None:
        deliver(self, client, secrets)
        assert secrets[103]["a.key"] == MARK.encode()
        seen.extend(in_processes())
        seen.append("looked")

    monkeypatch.setattr(Deployer, "_deliver", looked)
    monkeypatch.setenv("PHOENIX_TEST_SECRET", MARK)
    sshd.known(served.folder, served.port, "127.0.0.1")
    made.release(
        address="127.0.0.1",
        guests={103: {"bin/x": b"1\n"}},
        secrets={"a.key": "env:PHOENIX_TEST_SECRET"},
    )
    hiding = dataclasses.replace(ssh, hidden=frozenset({"PHOENIX_TEST_SECRET"}))
    assert deployed(made, hiding, memory).verdict.result == "done"
    assert seen == ["looked"]
    found = leaks(tmp_path)
    assert len(found) == 1
    assert found[0].startswith("host/var/lib/phoenix/secrets/103/")


def test_ssh_of_the_user_s_own(memory: Memory):
    found = chosen({"PHOENIX_SSH": "/nowhere/ssh -v"})
    assert found == ("/nowhere/ssh", "-v")
    assert chosen({}) == ("ssh",)
    with pytest.raises(UserError, match="/nowhere/ssh does not run"):
        Ssh(memory, b"", asks=False, command=found)(HOME)


def test_a_certificate_is_not_pinned():
    seen = "ssh-ed25519 AAAA\nssh-ed25519 AAAA\nssh-ed25519-cert-v01@openssh.com BBBB\nNONE NONE\n"
    assert _plain(seen) == ["ssh-ed25519 AAAA"]


def test_places():
    assert place("10.0.0.1", "root") == Place("10.0.0.1", "root")
    assert place("me@[fd00::1]", "root") == Place("fd00::1", "me")
    for text in ("-oProxyCommand=evil", "root@-oProxyCommand=evil", "", "-x@host"):
        with pytest.raises(UserError):
            place(text, "root")


def test_the_commands_for_a_program_to_read(
    made: Project, served: sshd.Sshd, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    sshd.known(served.folder, served.port, "127.0.0.1")
    command = ("ssh", "-F", f"{served.folder}/ssh_config")
    built: list[str] = []

    def grounds(host: str) -> front.Ground:
        return front.Ground(made.root, tmp_path / "state", command, lambda: built.append(host))

    def ran(code: int) -> dict[str, Any]:
        assert code == cli.DONE
        found: dict[str, Any] = json.loads(capsys.readouterr().out)["hosts"][HOST]
        return found

    name = made.release(address="127.0.0.1")
    assert ran(front.put(grounds, [HOST], Order(only_plan=True), True, True))["plan"]["files"]
    found = ran(front.put(grounds, [HOST], Order(), True, True))
    assert (found["result"], found["generation"], found["release"]) == ("done", 1, name)
    assert built == [HOST, HOST]
    listed = ran(front.manage_each(grounds, [HOST], front.LOOKS["generations"], "", True, True))
    assert [each["generation"] for each in listed["generations"]] == [0, 1]
    found = ran(front.manage_each(grounds, [HOST], front.LOOKS["status"], "", True, True))
    assert (found["drift"], found["release"]) == ([], name)
    found = ran(front.manage_each(grounds, [HOST], manage.rollback(0), "", True, True))
    assert found["generation"] == 0
