"""`build --check`: what a kind takes from its surroundings shows in a second build."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import building
from tests.building import invoke


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return building.project(tmp_path)


def test_two_builds_under_different_conditions_are_the_same(root: Path) -> None:
    ran = invoke(root, "build", "--check")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("built twice, the same bytes") == 2


def test_what_editors_leave_behind_is_not_built_again(root: Path) -> None:
    (root / "configs/hosts/.#pve1.yaml").symlink_to("somebody@somewhere.1234")
    (root / "configs/hosts/.old.yaml").write_text("[")
    (root / "overlays/.#file").symlink_to("somebody@somewhere.1234")
    ran = invoke(root, "build", "--check", "--host", "pve1")
    assert ran.returncode == 0, ran.stderr


def test_what_cannot_be_copied_is_told(root: Path) -> None:
    os.mkfifo(root / "overlays/pipe")
    ran = invoke(root, "build", "--check", "--host", "pve1")
    assert ran.returncode == 1, ran.stderr
    assert "error: the second build has no copy of what is built: " in ran.stderr
    assert "overlays/pipe` is a named pipe" in ran.stderr


PLANTED = {
    "time": "import time; data = str(time.time_ns())",
    "hash seed": "data = str(hash('phoenix'))",
    "order of a set": "data = str({f'{n}' for n in range(99)})",
    "working folder": "import os; data = os.getcwd()",
    "place of the code": "data = __file__",
    "umask": "import os; data = str(os.umask(0o22)); os.umask(int(data))",
    "time zone": "import time; data = time.strftime('%H', time.gmtime(0)) + time.tzname[0]",
    "locale": "import os; data = os.environ.get('LC_ALL', '') + os.environ.get('LANG', '')",
    "home": "import os; data = os.path.expanduser('~')",
    "process": "import os; data = str(os.getpid())",
    "randomness": "import os; data = os.urandom(8).hex()",
    "file's time": "import os; data = str(os.stat(__file__).st_ctime_ns)",
    "order of the input": "from builder.source import read\n"
    "    data = str([*read('', open('configs/site.yaml', 'rb').read())])",
}

PLANT = """

def _planted():
{bodies}

def _with_plants(network, artifacts=artifacts):
    from builder.kinds.artifact import HostFile
    plants = (HostFile("names", f"/etc/{{name}}", data.encode()) for name, data in _planted())
    return (*artifacts(network), *plants)


artifacts = _with_plants
"""


def plant(root: Path, codes: Mapping[str, str]) -> None:
    """Let a kind make a file /etc/plantN of what each code calls `data`."""
    bodies = (
        f"    {code}\n    yield 'plant{number}', data\n"
        for number, code in enumerate(codes.values())
    )
    with (root / "builder/kinds/names.py").open("a") as file:
        file.write(PLANT.format(bodies="".join(bodies)))


def test_what_a_kind_takes_from_its_surroundings_is_caught(root: Path) -> None:
    plant(root, {"nothing": "data = 'the same'", **PLANTED})
    ran = invoke(root, "build", "--check", "--host", "pve1")
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "error: two builds of the same configuration differ: pve1 " in ran.stderr
    named = set(map(int, re.findall(r"pve1 /etc/plant(\d+)", ran.stderr)))
    missed = [name for number, name in enumerate(PLANTED, 1) if number not in named]
    assert not missed
    assert 0 not in named
    assert "pve1 manifest" in ran.stderr


def test_a_plant_that_is_always_the_same_is_taken(root: Path) -> None:
    plant(root, {"nothing": "data = 'the same'"})
    ran = invoke(root, "build", "--check", "--host", "pve1")
    assert ran.returncode == 0, ran.stderr
