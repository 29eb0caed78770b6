"""The signing key: made once, found where it is named, and what it signs verifies here only."""

import os
import pty
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder import dist, keys, store
from builder.problems import UserError
from tests.test_store import build

ROOT = Path(__file__).parents[1]

if shutil.which("ssh-keygen") is None:
    pytest.skip("ssh-keygen is missing (openssh-client)", allow_module_level=True)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (keys.VARIABLE, "XDG_CONFIG_HOME", "SSH_AUTH_SOCK", "SSH_ASKPASS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def key(home: Path) -> keys.Key:
    return keys.init(keys.default(os.environ), passphrase=False)


def manifests(root: Path, count: int) -> list[Path]:
    files = []
    for i in range(count):
        (root / f"m{i}").mkdir()
        files.append(root / f"m{i}" / "manifest.json")
        files[-1].write_text(f"{i}\n")
    return files


def signature(file: Path) -> Path:
    return file.with_name(f"{file.name}.sig")


def signers(root: Path, key: keys.Key) -> Path:
    (root / "signers").write_text(key.allowed("operator"))
    return root / "signers"


def test_the_key_is_private(home: Path, key: keys.Key):
    assert key.path == home / ".config/phoenix/signing_key"
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.path.parent.stat().st_mode) == 0o700
    assert sorted(os.listdir(key.path.parent)) == ["signing_key", "signing_key.pub"]
    assert key.public.startswith("ssh-ed25519 ")
    # The public half is handed around: it says nothing of the user or the machine.
    assert key.public.split()[2] == "phoenix"


def test_a_key_is_never_overwritten(key: keys.Key):
    before = key.path.read_bytes()
    with pytest.raises(UserError, match="already"):
        keys.init(key.path, passphrase=False)
    assert key.path.read_bytes() == before


def test_of_two_keys_made_at_once_one_wins_whole(home: Path, monkeypatch: pytest.MonkeyPatch):
    path = keys.default(os.environ)
    path.parent.mkdir(parents=True)
    real = os.link

    def late(source: Path, target: Path) -> None:
        monkeypatch.setattr(os, "link", real)
        keys.init(path, passphrase=False)
        real(source, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(UserError, match="in the way"):
        keys.init(path, passphrase=False)
    (home / "x").write_text("x")
    key = keys.find()
    assert key is not None
    key.sign([home / "x"])
    keys.verify(home / "x", home / "x.sig", signers(home, key), "operator")


def test_without_a_terminal_there_is_no_passphrase_to_ask_for(home: Path):
    with pytest.raises(UserError, match="--no-passphrase"):
        keys.init(home / "key")


def test_a_passphrase_is_asked_for_on_the_terminal(home: Path):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from builder import keys; "
    code += "from pathlib import Path; keys.init(Path('key'))"
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(home)
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    for _ in range(2):
        while b"passphrase" not in said.rpartition(b"\n")[2]:
            said += os.read(terminal, 1000)
        os.write(terminal, b"secret words\n")
        said += b"\n"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(terminal)
    opened = ["ssh-keygen", "-y", "-f", home / "key", "-P"]
    assert subprocess.run([*opened, ""], capture_output=True).returncode != 0
    assert subprocess.run([*opened, "secret words"], capture_output=True).returncode == 0


def test_no_key_is_no_fault(home: Path):
    assert keys.find() is None


def test_a_named_key_goes_first(home: Path, key: keys.Key, monkeypatch: pytest.MonkeyPatch):
    other = keys.init(home / "other", passphrase=False)
    assert keys.find() == key
    monkeypatch.setenv(keys.VARIABLE, "~/other")
    assert keys.find() == other
    monkeypatch.setenv(keys.VARIABLE, str(home / "gone"))
    with pytest.raises(UserError, match="no signing key at"):
        keys.find()


def test_the_public_half_may_be_missing(key: keys.Key):
    key.path.with_name("signing_key.pub").unlink()
    found = keys.find()
    assert found is not None
    assert found.public.split()[:2] == key.public.split()[:2]
    key.path.write_text("no key")
    with pytest.raises(UserError, match="no readable public half"):
        keys.find()


@pytest.mark.parametrize("held", [b"", b"no key", b"ssh-ed25519 ???", b"\xff\xfe", b"a b\nc d"])
def test_a_public_half_that_is_none_is_told(
    home: Path, key: keys.Key, held: bytes, monkeypatch: pytest.MonkeyPatch
):
    public = key.path.with_name("signing_key.pub")
    public.write_bytes(held)
    for named in (key.path, public):
        monkeypatch.setenv(keys.VARIABLE, str(named))
        with pytest.raises(UserError, match=r"signing_key\.pub is no public key"):
            keys.find()


def test_the_xdg_folder_counts_if_it_is_absolute(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert keys.default(os.environ) == Path("/x/phoenix/signing_key")
    monkeypatch.setenv("XDG_CONFIG_HOME", "x")
    assert keys.default(os.environ) == home / ".config/phoenix/signing_key"


def test_many_are_signed_by_one_call(home: Path, key: keys.Key, monkeypatch: pytest.MonkeyPatch):
    calls, real = [], subprocess.Popen

    def counting(arguments: list[str], **options: object) -> subprocess.Popen[bytes]:
        calls.append(arguments)
        return real(arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", counting)
    files = manifests(home, 5)
    key.sign(files)
    assert len(calls) == 1
    for file in files:
        keys.verify(file, signature(file), signers(home, key), "operator")
        assert key.made(signature(file).read_bytes())


def test_a_stale_signature_is_replaced(home: Path, key: keys.Key):
    (file,) = manifests(home, 1)
    signature(file).write_text("stale")
    key.sign([file])
    keys.verify(file, signature(file), signers(home, key), "operator")


def test_what_does_not_verify(home: Path, key: keys.Key):
    one, other = manifests(home, 2)
    key.sign([one, other])
    allowed = signers(home, key)
    for file, by, who in ((one, other, "operator"), (one, one, "someone")):
        with pytest.raises(UserError, match="not signed by an allowed signer"):
            keys.verify(file, signature(by), allowed, who)
    stranger = keys.init(home / "stranger", passphrase=False)
    with pytest.raises(UserError, match="not signed"):
        keys.verify(one, signature(one), signers(home, stranger), "operator")
    purpose = ["ssh-keygen", "-Y", "sign", "-n", "file", "-f", key.path, one]
    signature(one).unlink()
    subprocess.run(purpose, check=True, capture_output=True)
    with pytest.raises(UserError, match="not signed"):
        keys.verify(one, signature(one), signers(home, key), "operator")


@pytest.mark.parametrize("held", [b"", b"x", b"-----\n????\n-----\n", b"-----\nQUJD\n-----\n"])
def test_what_is_no_signature_is_not_ours(key: keys.Key, held: bytes):
    assert not key.made(held)


def test_another_keys_signature_is_not_ours(home: Path, key: keys.Key):
    (file,) = manifests(home, 1)
    keys.init(home / "other", passphrase=False).sign([file])
    assert not key.made(signature(file).read_bytes())


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, home: Path) -> Iterator[None]:
    if shutil.which("ssh-agent") is None:
        pytest.skip("ssh-agent is missing (openssh-client)")
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", home / "agent"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(home / "agent"))
    yield
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.usefixtures("agent")
def test_an_agent_signs_for_a_public_key(
    home: Path, key: keys.Key, monkeypatch: pytest.MonkeyPatch
):
    subprocess.run(["ssh-add", "-q", key.path], check=True)
    public = key.path.with_name("signing_key.pub").rename(home / "mine.pub")
    key.path.unlink()
    monkeypatch.setenv(keys.VARIABLE, str(public))
    found = keys.find()
    assert found is not None
    (file,) = manifests(home, 1)
    found.sign([file])
    keys.verify(file, signature(file), signers(home, key), "operator")


def test_a_key_that_cannot_sign_says_why(home: Path, key: keys.Key):
    key.path.unlink()
    with pytest.raises(UserError, match="does not sign"):
        key.sign(manifests(home, 1))


def test_a_missing_ssh_keygen_names_its_package(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(UserError, match="openssh-client"):
        keys.init(home / "key", passphrase=False)


def test_an_ssh_keygen_that_fails_is_told(home: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "ssh-keygen").write_text("#!/bin/sh\necho no randomness >&2\nexit 1\n")
    (home / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/bin")
    with pytest.raises(UserError, match="made no key: no randomness"):
        keys.init(home / "new/key", passphrase=False)
    assert os.listdir(home / "new") == []


@pytest.mark.parametrize("identity", ["a b", 'a"', "a,b", "*", "a\nb"])
def test_an_identity_is_one_word(key: keys.Key, identity: str):
    with pytest.raises(AssertionError):
        key.allowed(identity)


def test_a_build_signs_with_it(home: Path, key: keys.Key):
    signer: store.Signer = key
    build(home / "dist", signer, pve1=b"1", pve2=b"2")
    folder = home / "dist/pve2"
    keys.verify(folder / dist.MANIFEST, folder / dist.SIGNATURE, signers(home, key), "operator")
    times = (folder / dist.SIGNATURE).stat().st_mtime_ns
    build(home / "dist", signer, pve1=b"1", pve2=b"2")
    assert (folder / dist.SIGNATURE).stat().st_mtime_ns == times
