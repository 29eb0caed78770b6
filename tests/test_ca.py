"""The site's CA: what is made, where it may lie, and that nothing is half there or replaced."""

import os
import pty
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from builder import authority, ca
from builder.problems import UserError

ROOT = Path(__file__).parents[1]
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
WORD = b"correct horse"
YEAR = timedelta(days=365)


def ask(new: bool) -> bytes:
    return WORD


def never(new: bool) -> bytes:
    raise AssertionError("asked for the passphrase")


@pytest.fixture
def plan(tmp_path: Path) -> ca.Plan:
    project = tmp_path / "project"
    (project / "configs").mkdir(parents=True)
    return ca.Plan(
        "phoenix",
        ("lab", "pve1"),
        project / "configs",
        (project, project / "configs", project / "dist"),
        tmp_path / "data/phoenix",
    )


def tree(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def certificate(data: bytes | None) -> x509.Certificate:
    assert data is not None
    return x509.load_pem_x509_certificate(data)


# What is made


def test_the_first_time_all_is_made(plan: ca.Plan):
    done = ca.init(plan, ask, NOW)
    site = plan.data / "phoenix"
    assert done.root_key == site / "root.key"
    assert "offline" in done.told()
    assert done.hosts == (("lab", site / "lab"), ("pve1", site / "pve1"))
    assert set(tree(plan.configs)) == {"ca/root.crt", "ca/lab.crt", "ca/pve1.crt"}
    parts = {"intermediate.key", "intermediate.password", "intermediate.crt"}
    assert set(os.listdir(site / "pve1")) == parts
    assert set(os.listdir(site)) == {"root.key", "lab", "pve1"}
    for path in plan.data.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted or path.name == ".lock", path
    for path in (plan.configs / "ca").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
        assert b"PRIVATE" not in path.read_bytes()


def test_the_certificates_hold_what_they_must(plan: ca.Plan):
    ca.init(plan, ask, NOW)
    root, intermediate = (certificate(one) for one in ca.certificates(plan.configs, "pve1"))
    for found, depth in ((root, 1), (intermediate, 0)):
        basic = found.extensions.get_extension_for_class(x509.BasicConstraints)
        assert (basic.critical, basic.value.ca, basic.value.path_length) == (True, True, depth)
        usage = found.extensions.get_extension_for_class(x509.KeyUsage)
        assert usage.critical
        assert usage.value.key_cert_sign
        assert found.not_valid_before_utc == NOW - timedelta(hours=1)
        with pytest.raises(x509.ExtensionNotFound):
            found.extensions.get_extension_for_class(x509.NameConstraints)
    assert root.subject == root.issuer == intermediate.issuer
    assert root.subject.rfc4514_string() == "CN=phoenix root CA,O=phoenix"
    assert intermediate.subject.rfc4514_string() == "CN=pve1 intermediate CA,O=phoenix"
    assert root.not_valid_after_utc == NOW + timedelta(days=3650)
    assert intermediate.not_valid_after_utc == NOW + timedelta(days=1825)
    other = certificate(ca.certificates(plan.configs, "lab")[1])
    assert len({root.serial_number, intermediate.serial_number, other.serial_number}) == 3
    intermediate.verify_directly_issued_by(root)


def test_openssl_takes_the_chain(plan: ca.Plan, tmp_path: Path):
    if subprocess.run(["openssl", "version"], capture_output=True).returncode:
        pytest.skip("openssl is missing")
    ca.init(plan, ask)
    ca.init(replace(plan, hosts=(*plan.hosts, "leaf")), ask)
    folder = plan.configs / "ca"
    verify = ["openssl", "verify", "-x509_strict", "-CAfile", folder / "root.crt"]
    subprocess.run([*verify, folder / "pve1.crt"], check=True)
    key = plan.data / "phoenix/pve1/intermediate.key"
    parsed = subprocess.run(
        ["openssl", "asn1parse", "-i", "-in", key], check=True, capture_output=True, text=True
    ).stdout
    # What step-ca reads: PBES2 with PBKDF2, HMAC-SHA256 and AES-256-CBC; scrypt it does not.
    for part in (":PBES2", ":PBKDF2", ":hmacWithSHA256", ":aes-256-cbc"):
        assert part in parsed


def test_the_keys_open_with_their_passwords_only(plan: ca.Plan):
    ca.init(plan, ask, NOW)
    site = plan.data / "phoenix"
    folder = site / "pve1"
    password = (folder / "intermediate.password").read_bytes()
    assert len(password) >= 40
    assert b"\n" not in password
    key = load_pem_private_key((folder / "intermediate.key").read_bytes(), password)
    published = certificate((plan.configs / "ca/pve1.crt").read_bytes())
    assert key.public_key() == published.public_key()
    assert password != (site / "lab/intermediate.password").read_bytes()
    assert load_pem_private_key((site / "root.key").read_bytes(), WORD)
    for data in tree(site).values():
        assert b"BEGIN PRIVATE" not in data
        assert b"BEGIN EC PRIVATE" not in data
    with pytest.raises(UserError, match="does not open"):
        authority.opened(authority.Issuer(b"", (site / "root.key").read_bytes()), b"wrong")


def test_long_names_fit_into_a_certificate(plan: ca.Plan):
    long = replace(plan, site="s" * 40, hosts=("h" * 40,))
    ca.init(long, ask, NOW)
    assert ca.certificates(plan.configs, "h" * 40)[1]


def test_an_intermediate_never_outlives_its_root(plan: ca.Plan):
    ca.init(replace(plan, root_lifetime=YEAR, intermediate_lifetime=3 * YEAR), ask, NOW)
    root, intermediate = (certificate(one) for one in ca.certificates(plan.configs, "pve1"))
    assert intermediate.not_valid_after_utc == root.not_valid_after_utc


# A host more


def test_a_host_is_added_later(plan: ca.Plan):
    ca.init(replace(plan, only="pve1"), ask, NOW)
    before = tree(plan.configs) | tree(plan.data)
    done = ca.init(replace(plan, only="lab"), ask, NOW)
    assert done.root_key is None
    assert "offline" not in done.told()
    after = tree(plan.configs) | tree(plan.data)
    assert before.items() <= after.items()
    assert not authority.check(*map(bytes, both(plan, "lab")), "lab")


def both(plan: ca.Plan, host: str) -> tuple[bytes, bytes]:
    root, intermediate = ca.certificates(plan.configs, host)
    assert root is not None
    assert intermediate is not None
    return root, intermediate


def test_the_root_key_may_lie_elsewhere(plan: ca.Plan, tmp_path: Path):
    stick = tmp_path / "stick"
    stick.mkdir()
    done = ca.init(replace(plan, only="pve1", out=stick), ask, NOW)
    assert done.root_key == stick / "root.key"
    assert os.listdir(stick) == ["root.key"]
    with pytest.raises(UserError, match="root's key is not at") as caught:
        ca.init(plan, never, NOW)
    assert "--out" in caught.value.hint
    ca.init(replace(plan, out=stick), ask, NOW)
    assert not authority.check(*both(plan, "lab"), "lab")


def test_a_wrong_passphrase_makes_nothing(plan: ca.Plan):
    ca.init(replace(plan, only="pve1"), ask, NOW)
    before = tree(plan.configs) | tree(plan.data)
    with pytest.raises(UserError, match="wrong passphrase"):
        ca.init(plan, lambda _: b"wrong", NOW)
    assert tree(plan.configs) | tree(plan.data) == before


def test_another_sites_root_key_is_refused(plan: ca.Plan, tmp_path: Path):
    ca.init(replace(plan, only="pve1"), ask, NOW)
    other = replace(plan, configs=tmp_path / "other", out=tmp_path / "stick", data=tmp_path / "o")
    ca.init(other, ask, NOW)
    with pytest.raises(UserError, match="two different CAs"):
        ca.init(replace(plan, out=tmp_path / "stick"), ask, NOW)


def test_an_expired_root_signs_nothing(plan: ca.Plan):
    ca.init(replace(plan, only="pve1"), ask, NOW)
    for day in (NOW + 11 * YEAR, NOW - YEAR):
        with pytest.raises(UserError, match="not valid today"):
            ca.init(plan, ask, day)


# Nothing is replaced


def test_what_is_there_is_not_made_again(plan: ca.Plan):
    ca.init(plan, ask, NOW)
    before = tree(plan.configs) | tree(plan.data)
    for again in (plan, replace(plan, only="pve1")):
        with pytest.raises(UserError, match="has its CA already"):
            ca.init(again, never, NOW)
    assert tree(plan.configs) | tree(plan.data) == before


def test_an_old_root_key_is_not_replaced(plan: ca.Plan):
    (plan.data / "phoenix").mkdir(parents=True)
    (plan.data / "phoenix/root.key").write_text("an older site's")
    with pytest.raises(UserError, match="another key already"):
        ca.init(plan, never, NOW)
    assert (plan.data / "phoenix/root.key").read_text() == "an older site's"


def test_an_old_intermediate_is_not_replaced(plan: ca.Plan):
    (plan.data / "phoenix/pve1").mkdir(parents=True)
    (plan.data / "phoenix/pve1/intermediate.key").write_text("old")
    with pytest.raises(UserError, match="holds another CA"):
        ca.init(plan, ask, NOW)
    assert (plan.data / "phoenix/pve1/intermediate.key").read_text() == "old"


def test_intermediates_without_their_root_are_asked_about(plan: ca.Plan):
    ca.init(plan, ask, NOW)
    (plan.configs / "ca/root.crt").unlink()
    (plan.configs / "ca/lab.crt").unlink()
    with pytest.raises(UserError, match=r"pve1.crt is there without root.crt"):
        ca.init(plan, never, NOW)


def test_hosts_are_known_and_not_root(plan: ca.Plan):
    with pytest.raises(UserError, match="no host is named 'pve9'"):
        ca.init(replace(plan, only="pve9"), never)
    with pytest.raises(UserError, match="named 'root'"):
        ca.init(replace(plan, hosts=("root",)), never)


# Never inside of the project


@pytest.mark.parametrize("inside", ["configs/ca", "dist", "keys", "."])
@pytest.mark.parametrize("way", ["out", "data", "link", "link-above", "dots"])
def test_no_key_lies_in_the_project(plan: ca.Plan, tmp_path: Path, inside: str, way: str):
    project = plan.forbidden[0]
    bad = project / inside
    bad.mkdir(parents=True, exist_ok=True)
    (tmp_path / "link").symlink_to(bad)
    asked = {
        "out": replace(plan, out=bad),
        "data": replace(plan, data=bad),
        "link": replace(plan, out=tmp_path / "link"),
        "link-above": replace(plan, data=tmp_path / "link/not/there"),
        "dots": replace(plan, out=tmp_path / "data/../link"),
    }
    with pytest.raises(UserError, match="must not lie in"):
        ca.init(asked[way], never)
    assert not tree(tmp_path)


def test_no_key_lies_in_the_project_by_a_bind_mount(tmp_path: Path, plan: ca.Plan):
    before = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
    if subprocess.run([*before, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespace can be made here (unshare)")
    (tmp_path / "bound").mkdir()
    code = (
        "import subprocess, sys; from pathlib import Path; from builder import ca\n"
        "root = Path(sys.argv[1]); project = root / 'project'\n"
        "subprocess.run(['mount', '--bind', project, root / 'bound'], check=True)\n"
        "ca.init(ca.Plan('s', ('h',), project, (project,), root / 'bound/x'), None)"
    )
    done = subprocess.run(
        [*before, sys.executable, "-c", code, tmp_path], capture_output=True, text=True, cwd=ROOT
    )
    assert "must not lie in" in done.stderr


# The passphrase


def test_a_passphrase_from_a_file(tmp_path: Path):
    (tmp_path / "word").write_bytes(b"correct horse\nnot this\n")
    assert ca.asking(tmp_path / "word")(True) == WORD
    (tmp_path / "word").write_bytes(b"short\n")
    assert ca.asking(tmp_path / "word")(False) == b"short"
    with pytest.raises(UserError, match="too short"):
        ca.asking(tmp_path / "word")(True)
    with pytest.raises(UserError, match="No such file"):
        ca.asking(tmp_path / "gone")(True)


def test_without_a_terminal_nobody_is_asked():
    with pytest.raises(UserError, match="no terminal"):
        ca.asking(None)(True)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["correct horse", "correct horse"], "b'correct horse'"),
        (["correct horse", "correct house"], "differ"),
        (["short", "short"], "too short"),
    ],
)
def test_a_new_passphrase_is_asked_twice(typed: list[str], told: str):
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(ROOT)
        code = "from builder import ca; print(ca.asking(None)(True))"
        os.execv(sys.executable, [sys.executable, "-c", code])
    said = b""
    for prompt, word in zip((b"root key: ", b"again: "), typed, strict=True):
        while not said.endswith(prompt):
            said += os.read(terminal, 1000)
        os.write(terminal, word.encode() + b"\n")
    try:
        while more := os.read(terminal, 1000):
            said += more
    except OSError:
        pass
    os.waitpid(child, 0)
    os.close(terminal)
    assert told in said.decode().replace("\r\n", "\n").partition("again: ")[2]
