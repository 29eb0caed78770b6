"""The reference inputs for real: they come, they run, they come again the same."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from builder.inputs import Lock, ProgramLayer, default_cache, layer, load_lock
from builder.inputs.apt import derived, machine_sources, sources_text
from builder.problems import UserError
from tests.inputs.helpers import REFERENCE, REPOSITORY, command

PROGRAMS = {
    "lego": ("usr/bin/lego --version", "lego version"),
    "nftables": ("usr/sbin/nft --version", "nftables v1.0"),
    "nginx": ("usr/sbin/nginx -V", "nginx version: nginx/1.22"),
    "step-ca": ("step-ca version", "Smallstep CA"),
    "traefik": ("traefik version", "Version:      3.7"),
}
LIBRARIES = "usr/lib/x86_64-linux-gnu"


@pytest.fixture(scope="module")
def reference() -> Lock:
    return load_lock(REFERENCE)


@pytest.fixture(scope="module")
def layers(reference: Lock) -> dict[str, ProgramLayer]:
    """Every program's layer, in the cache that builds share."""
    try:
        return {name: layer(reference, name, default_cache(), print) for name in PROGRAMS}
    except UserError as error:
        pytest.skip(f"needs a network for what is not in the cache yet: {error}")


@pytest.fixture(scope="module")
def programs(
    layers: dict[str, ProgramLayer], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every program unpacked, by name."""
    root = tmp_path_factory.mktemp("guest")
    for each in layers.values():
        with tarfile.open(each.tar_path) as archive:
            archive.extractall(root, filter="tar")
    return {name: root / "programs" / name for name in layers}


def test_every_program_has_a_layer(reference: Lock, layers: dict[str, ProgramLayer]) -> None:
    assert tuple(sorted(layers)) == reference.programs


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs(name: str, programs: dict[str, Path]) -> None:
    arguments, told = PROGRAMS[name]
    environment = {"LD_LIBRARY_PATH": str(programs[name] / LIBRARIES)}
    argv = arguments.split()
    done = subprocess.run(
        [programs[name] / argv[0], *argv[1:]], env=environment, capture_output=True, text=True
    )
    assert told in done.stdout + done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["lego", "nftables", "nginx"])
@pytest.mark.needs("apt-get", "index")
def test_a_second_fetch_elsewhere_gives_the_same_bytes(
    name: str, reference: Lock, layers: dict[str, ProgramLayer], tmp_path: Path
) -> None:
    strange = os.environ | {"TZ": "Pacific/Apia", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    fetch = ["sh", "-c", 'umask 077; exec "$@"', "-", *command(reference, name, tmp_path / "else")]
    done = subprocess.run(fetch, cwd=REPOSITORY, env=strange, capture_output=True, text=True)
    found = re.search(r"digest='([0-9a-f]+)'", done.stdout)
    assert found, done.stderr
    assert found[1] == layers[name].digest


@pytest.mark.deep
@pytest.mark.needs("index")
def test_a_second_build_of_step_ca_gives_the_same_bytes(
    reference: Lock, layers: dict[str, ProgramLayer], tmp_path: Path
) -> None:
    # The lock's hash would refuse any other program.
    again = layer(reference, "step-ca", tmp_path / "a cache" / "elsewhere", print)
    assert again.digest == layers["step-ca"].digest


@pytest.mark.needs("apt-get", "index", "namespaces")
def test_a_plain_user_of_another_debian_gets_the_same(
    reference: Lock, layers: dict[str, ProgramLayer], tmp_path: Path
) -> None:
    # The machine's own mirrors, with its release and its lists exchanged.
    source = next(derived(machine_sources(tmp_path), "trixie"))
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "debian.sources").write_text(sources_text([source]))
    (tmp_path / "state" / "lists" / "partial").mkdir(parents=True)
    config = {
        "Dir::Etc::sourcelist": "/dev/null",
        "Dir::Etc::sourceparts": tmp_path / "parts",
        "Dir::State": tmp_path / "state",
        "Dir::Cache": tmp_path / "cache",
    }
    (tmp_path / "conf").write_text("".join(f'{key} "{v}";\n' for key, v in config.items()))
    fetch = ["unshare", "-U", "--map-user=1000", *command(reference, "lego", tmp_path / "own")]
    environment = os.environ | {"APT_CONFIG": str(tmp_path / "conf")}
    done = subprocess.run(fetch, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "lego: reading Debian's lists for bookworm" in done.stdout
    assert layers["lego"].digest in done.stdout
    # The machine's own state is as it was.
    assert [path for path in (tmp_path / "state").rglob("*") if path.is_file()] == []


@pytest.mark.deep
@pytest.mark.needs("root", "mmdebstrap", "index")
def test_in_a_stock_guest_no_library_is_missing(programs: dict[str, Path], tmp_path: Path) -> None:
    guest = tmp_path / "guest"
    sources = sources_text(derived(machine_sources(tmp_path), "bookworm"))
    make = [
        "mmdebstrap",
        "--variant=minbase",
        "--include=systemd-sysv",
        "bookworm",
        str(guest),
        "-",
    ]
    subprocess.run(make, input=sources, text=True, check=True, capture_output=True)
    for name, place in programs.items():
        shutil.copytree(place, guest / "opt" / name, symlinks=True)

    def inside(name: str, *argv: str, libraries: bool = True) -> subprocess.CompletedProcess[str]:
        setting = [f"LD_LIBRARY_PATH=/opt/{name}/{LIBRARIES}"] if libraries else []
        return subprocess.run(
            ["chroot", guest, "env", "-i", *setting, *argv], capture_output=True, text=True
        )

    for name, (arguments, told) in PROGRAMS.items():
        argv = arguments.split()
        done = inside(name, f"/opt/{name}/{argv[0]}", *argv[1:])
        assert told in done.stdout + done.stderr, (name, done.stderr)
    stream = "/opt/nginx/usr/lib/nginx/modules/ngx_stream_module.so"
    listed = inside("nginx", "/lib64/ld-linux-x86-64.so.2", "--list", stream)
    assert (listed.returncode, "not found" in listed.stdout) == (0, False)
    # And the check sees what it is to see.
    bare = inside("nftables", "/opt/nftables/usr/sbin/nft", "--version", libraries=False)
    assert "libnftables.so.1: cannot open shared object" in bare.stderr
