"""`invoke diff`: what a person is told of two releases."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from builder import compare
from builder.describe import describe
from builder.differ import differences
from builder.dist import Dist
from builder.plan import plan
from builder.problems import UserError
from builder.store import Store
from tests.rendered import INDEX, PROGRAMS, networks

ROOT = Path(__file__).parents[1]


def told(before: Mapping[str, object], after: Mapping[str, object]) -> list[str]:
    return [d.render() for d in differences(before, after)]


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        ({"guests": {"a": {"id": 1}}}, {"guests": {"a": {"id": 2}}}, ["~ guest a: id 1 → 2"]),
        ({"guests": {}}, {"guests": {"a": {"id": 1}}}, ["+ guest a"]),
        ({"guests": {"a": {"id": 1}}}, {"guests": {}}, ["- guest a"]),
        ({"names": {"x": "1"}}, {"names": {"x": "2"}}, ["~ name x 1 → 2"]),
        ({"names": {}}, {"names": {"x": "2"}}, ["+ name x 2"]),
        (
            {"site": {"dns": ["1", "2"]}},
            {"site": {"dns": ["2", "3"]}},
            ["- site: dns 1", "+ site: dns 3"],
        ),
        ({"site": {"dns": ["1", "2"]}}, {"site": {"dns": ["2", "1"]}}, ["~ site: dns 1, 2 → 2, 1"]),
        (
            {"host": {"ingress6": False}},
            {"host": {"ingress6": True}},
            ["~ host: ingress6 no → yes"],
        ),
        (
            {"services": {"s": {"limits": {"burst": 1}}}},
            {"services": {"s": {"limits": {"burst": 2}}}},
            ["~ service s: limits burst 1 → 2"],
        ),
        ({"flows": {"a → b": "x"}}, {"flows": {}}, ["- flow a → b"]),
        ({"site": {}}, {"site": {}}, []),
    ],
)
def test_a_difference_is_told_by_name(
    before: Mapping[str, object], after: Mapping[str, object], lines: list[str]
) -> None:
    assert told(before, after) == lines


def test_a_description_holds_what_was_declared() -> None:
    network = networks(ROOT)["pve1"]
    found = describe(network)
    assert json.loads(json.dumps(found)) == found
    services, guests = found["services"], found["guests"]
    assert isinstance(services, dict)
    assert isinstance(guests, dict)
    assert set(services) == {s.name for s in network.site.services}
    assert set(guests) == {g.name for g in network.host.guests}
    assert services["chat"]["backends"]["vllm-1"] == "10.0.0.111:8000"


Write = Callable[[str, str], None]


@pytest.fixture
def built(tmp_path: Path) -> tuple[Dist, Write]:
    """A store with the reference's pve1, and what builds it again with one change."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    store = Store(tmp_path / "dist")

    def build(old: str, new: str) -> None:
        site = tmp_path / "configs/site.yaml"
        assert old in site.read_text()
        site.write_text(site.read_text().replace(old, new))
        planned = plan(networks(tmp_path)["pve1"], PROGRAMS, b"")
        with store.transaction() as transaction:
            for item, data in planned.objects:
                transaction.put(item, data)
            for program in PROGRAMS.values():
                transaction.put(program.layer.index, INDEX)
            transaction.release("pve1", planned.manifest)

    build("site: phoenix", "site: phoenix")
    return store, build


def test_a_release_is_found_by_host_by_age_by_id_and_by_path(
    built: tuple[Dist, Write],
) -> None:
    store, build = built
    first = compare.find(store, "pve1")
    build("port: 8080", "port: 8081")
    second = compare.find(store, "pve1")
    assert first.id != second.id
    assert compare.find(store, "pve1~1").id == first.id
    assert compare.find(store, first.id[:8]).id == first.id
    assert compare.find(store, str(store.newest("pve1"))).id == second.id
    build("port: 8081", "port: 8080")
    assert compare.find(store, "pve1").id == first.id
    assert compare.find(store, "pve1~1").id == second.id


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("pve2", "no release is called 'pve2'; did you mean 'pve1'?"),
        ("pve1~7", "host 'pve1' has only 1 releases in dist/"),
        ("ffff", "no release is called 'ffff'"),
        ("", "no release is called ''"),
        ("..", "no release is called '..'"),
        ("pve1~x", "no release is called 'pve1~x'"),
        ("pve1~²", "no release is called 'pve1~²'"),
    ],
)
def test_what_is_not_there_is_named(built: tuple[Dist, Write], asked: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        compare.find(built[0], asked)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("gone", "told"),
    [("pve1/manifest.json", "manifest.json is missing"), ("store", "network.json is missing")],
)
def test_a_damaged_release_is_told(built: tuple[Dist, Write], gone: str, told: str) -> None:
    path = built[0].root / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    identity = built[0].history("pve1")[0][1].name.partition("-")[2]
    with pytest.raises(UserError, match=told):
        compare.show(built[0].root.parent, "pve1", "pve1", text=True, json=False)
    if gone != "store":
        with pytest.raises(UserError, match="no release is called"):
            compare.find(built[0], identity)


def test_a_file_is_read_only_to_be_shown(
    built: tuple[Dist, Write], capsys: pytest.CaptureFixture[str]
) -> None:
    store, build = built
    build("rate: 50/s", "rate: 60/s")
    for path in store.objects.glob("*-nginx.tar"):
        path.unlink()
    compare.show(store.root.parent, "pve1~1", "pve1", text=False, json=False)
    assert "file nginx-gateway:/nginx/http.conf" in capsys.readouterr().out
    with pytest.raises(UserError, match="No such file"):
        compare.show(store.root.parent, "pve1~1", "pve1", text=True, json=False)


def test_a_change_is_shown_by_meaning_and_as_text(
    built: tuple[Dist, Write], capsys: pytest.CaptureFixture[str]
) -> None:
    store, build = built
    build("rate: 50/s", "rate: 60/s")
    compare.show(store.root.parent, "pve1~1", "pve1", text=False, json=False)
    assert capsys.readouterr().out == (
        "~ service webui: limits rate 50/s → 60/s\n  file nginx-gateway:/nginx/http.conf\n"
    )
    compare.show(store.root.parent, "pve1~1", "pve1", text=True, json=False)
    text = capsys.readouterr().out
    assert "+++ nginx-gateway:/nginx/http.conf" in text
    assert re.search(r"^-limit_req_zone \S+ zone=rate-webui:10m rate=50r/s;$", text, re.MULTILINE)
    compare.show(store.root.parent, "pve1", "pve1", text=True, json=False)
    assert capsys.readouterr().out.startswith("no difference between ")
