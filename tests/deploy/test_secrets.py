"""Secrets reach their guest's folder, and nothing else that can be looked at."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from builder.deploy import references
from builder.deploy.memory import Memory
from builder.manifest import Secret
from builder.problems import UserError
from tests.deploy.making import Project, Wire, deployed
from tests.host.making import SYSCTL

# Each process has its own: others run these tests at the same time, and are looked at.
MARK = f"Xy9-{os.getpid()}-correct-horse"
FILES = {"bin/x": b"1\n", "step-ca/intermediate.crt": b"one\n"}
SECRETS = {
    "a.key": "file:../secret",
    "b.password": "env:PHOENIX_TEST_SECRET",
    "c.token": f"command:echo {MARK[::-1]} | rev",
}


def leaks(root: Path, mark: str = MARK) -> list[str]:
    """The files below `root`, and the processes, that hold the mark."""
    found = []
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink() and mark.encode() in path.read_bytes():
            found.append(str(path.relative_to(root)))
    return sorted(found)


def in_processes(mark: str = MARK) -> list[str]:
    """The processes but this one whose arguments or environment hold the mark."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                if int(place.name) != os.getpid() and mark.encode() in (place / name).read_bytes():
                    found.append(f"{place}/{name}")
            except OSError:
                continue
    return found


@pytest.fixture(autouse=True)
def given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PHOENIX_TEST_SECRET", f"{MARK} env")
    (tmp_path / "secret").write_text(f"{MARK} file")
    return tmp_path


def bundles(wire: Wire) -> list[Path]:
    return [p for p in wire.stage.paths.secrets(103).iterdir() if not p.is_symlink()]


def test_they_arrive(made: Project, wire: Wire, memory: Memory, given: Path):
    made.release(guests={103: FILES}, secrets=SECRETS)
    assert deployed(made, wire, memory).verdict.result == "done"
    (bundle,) = bundles(wire)
    assert {p.name: p.read_text() for p in bundle.iterdir()} == {
        "a.key": f"{MARK} file",
        "b.password": f"{MARK} env",
        "c.token": MARK,
    }
    assert {p.stat().st_mode & 0o7777 for p in bundle.iterdir()} == {0o400}
    assert bundle.stat().st_mode & 0o7777 == 0o700
    assert wire.stage.paths.secrets(103).stat().st_mode & 0o7777 == 0o711
    assert wire.stage.paths.secrets(103).parent.stat().st_mode & 0o7777 == 0o711
    assert (wire.stage.paths.secrets(103) / "current").readlink() == Path(bundle.name)
    below = f"host/var/lib/phoenix/secrets/103/{bundle.name}"
    assert leaks(given) == sorted([f"{below}/{name}" for name in SECRETS] + ["secret"])


def test_the_search_finds_one(given: Path):
    """The guard above trips."""
    import subprocess

    (given / "log").write_text(f"the password is {MARK}\n")
    assert "log" in leaks(given)
    with subprocess.Popen(["sleep", "60"], env={"SECRET": MARK}) as process:
        end = time.monotonic() + 10  # the kernel sets it a moment after Popen knows of it
        while (found := in_processes()) == [] and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    assert found == [f"/proc/{process.pid}/environ"]


def test_one_that_is_there_is_not_asked_for(
    made: Project, wire: Wire, memory: Memory, given: Path, monkeypatch: pytest.MonkeyPatch
):
    made.release(guests={103: FILES}, secrets=SECRETS)
    deployed(made, wire, memory)
    monkeypatch.delenv("PHOENIX_TEST_SECRET")
    (given / "secret").unlink()
    made.release(guests={103: FILES}, secrets=SECRETS, sysctl="b = 1\n")
    assert deployed(made, wire, memory).verdict.generation == 2, "CI deploys without them"
    # Another intermediate has another key.
    other = {**FILES, "step-ca/intermediate.crt": b"two\n"}
    made.release(guests={103: other}, secrets=SECRETS)
    with pytest.raises(UserError, match=r"a\.key from file:\.\./secret: No such file"):
        deployed(made, wire, memory)


def test_one_that_is_missing_stops_before_anything_changes(
    made: Project, wire: Wire, memory: Memory, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("PHOENIX_TEST_SECRET")
    made.release(guests={103: FILES}, secrets={**SECRETS, "c.token": "command:exit 3"})
    with pytest.raises(UserError) as told:
        deployed(made, wire, memory)
    assert "b.password from env:PHOENIX_TEST_SECRET: the variable is not set" in told.value.message
    assert "c.token from command:exit 3: the command ended with 3" in told.value.message
    wire.join()
    assert not wire.stage.paths.generations.exists()
    assert SYSCTL[1:] not in wire.stage.files()


def test_a_renewed_one_is_sent_on_request(
    made: Project, wire: Wire, memory: Memory, given: Path, monkeypatch: pytest.MonkeyPatch
):
    made.release(guests={103: FILES}, secrets=SECRETS)
    deployed(made, wire, memory)
    (first,) = bundles(wire)
    (given / "secret").write_text(f"{MARK} renewed")
    outcome = deployed(made, wire, memory, anew=True)
    assert (outcome.verdict.result, outcome.verdict.generation) == ("done", 2)
    current = wire.stage.paths.secrets(103) / "current"
    assert current.readlink() == Path(f"{first.name}-2")
    assert (current / "a.key").read_text() == f"{MARK} renewed"
    assert (first / "a.key").read_text() == f"{MARK} file", "generation 1 keeps its own"


def test_other_files_than_the_release_names(made: Project, wire: Wire, memory: Memory):
    from builder.deploy.client import HostError
    from builder.deploy.deploy import Deployer, Order
    from builder.deploy.held import ready

    made.release(guests={103: FILES}, secrets={"a.key": "file:../secret"})
    held = ready(made.root, "lab")
    deployer = Deployer(Order(), held, wire, memory, lambda _: True, "me")
    client = deployer._staged()
    deployer._planned(client)
    for contents in ({"b.key": b"x"}, {"a.key": b"x", "../evil": b"y"}):
        sizes = [[file, len(data)] for file, data in contents.items()]
        with pytest.raises(HostError, match="not the secrets of guest 103"):
            client.ask("secrets", payload=b"".join(contents.values()), guest=103, files=sizes)
    with pytest.raises(HostError):
        client.ask("secrets", payload=b"x", guest=104, files=[["a.key", 1]])
    client.link.close()


def test_values(tmp_path: Path):
    (tmp_path / "empty").touch()

    def value(source: str) -> bytes:
        return references.resolve([Secret("g", "f", 0o400, source)], tmp_path, {"A": "a b"})["f"]

    assert value("env:A") == b"a b"
    assert value("command:printf '1\\n2\\n'") == b"1\n2"
    for source, why in (("file:empty", "empty"), ("env:B", "not set"), ("file:/", "directory")):
        with pytest.raises(UserError, match=why):
            value(source)
